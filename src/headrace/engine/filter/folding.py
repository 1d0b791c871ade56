"""How does accented text become ASCII?

Follows Lucene's ASCIIFoldingFilter, as Qdrant's `ascii_folding` does, for what occurs in
text that people write: letters with marks, ligatures, full-width forms, quotes, dashes.
Phonetic and medieval letters that Unicode does not decompose stay as they are.
"""

from __future__ import annotations

import unicodedata

# Letters that Unicode does not decompose, and typographic marks.
_REPLACEMENTS = {
    "Æ": "AE", "Ǽ": "AE", "Ǣ": "AE", "æ": "ae", "ǽ": "ae", "ǣ": "ae",
    "Œ": "OE", "œ": "oe", "Ø": "O", "Ǿ": "O", "ø": "o", "ǿ": "o",
    "Ð": "D", "Đ": "D", "Ɖ": "D", "Ɗ": "D", "ð": "d", "đ": "d", "ɖ": "d", "ɗ": "d",
    "Þ": "TH", "þ": "th", "ß": "ss", "ẞ": "SS", "ſ": "s",
    "Ħ": "H", "ħ": "h", "ı": "i", "ĸ": "q", "Ŀ": "L", "ŀ": "l", "Ł": "L", "ł": "l",
    "Ŋ": "N", "ŋ": "n", "ŉ": "n", "Ŧ": "T", "ŧ": "t",
    "Ɓ": "B", "ɓ": "b", "Ƒ": "F", "ƒ": "f", "Ɠ": "G", "ɠ": "g", "Ǥ": "G", "ǥ": "g",
    "Ɨ": "I", "ɨ": "i", "Ƙ": "K", "ƙ": "k", "Ɲ": "N", "ɲ": "n", "Ɔ": "O", "ɔ": "o",
    "Ɛ": "E", "ɛ": "e", "Ǝ": "E", "ǝ": "e", "ə": "a", "Ʉ": "U", "ʉ": "u",
    "Ʋ": "V", "ʋ": "v", "Ƴ": "Y", "ƴ": "y", "Ƶ": "Z", "ƶ": "z",
    "«": '"', "»": '"', "“": '"', "”": '"', "„": '"', "″": '"',
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "‹": "'", "›": "'",
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "⁄": "/",
}  # fmt: skip


def fold_to_ascii(text: str) -> str:
    """The text with what has an ASCII equivalent replaced by it; the rest stays."""
    if text.isascii():
        return text
    return "".join(map(_folded, text))


def _folded(character: str) -> str:
    if character.isascii():
        return character
    if character in _REPLACEMENTS:
        return _REPLACEMENTS[character]
    decomposed = unicodedata.normalize("NFKD", character)
    base = "".join(part for part in decomposed if not unicodedata.combining(part))
    return base if base.isascii() and base.isalnum() else character
