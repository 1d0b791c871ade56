"""How does accented text become ASCII?

As Qdrant's `ascii_folding` does it, which follows Lucene's ASCIIFoldingFilter: letters with
marks, ligatures, phonetic letters, full-width forms, digits in circles, quotes, dashes. The
table lies beside this module: on each line what is put, and the characters that it is put for.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files


def fold_to_ascii(text: str) -> str:
    """The text with what has an ASCII equivalent replaced by it; the rest stays."""
    return text if text.isascii() else text.translate(_foldings())


@lru_cache(maxsize=1)
def _foldings() -> dict[int, str]:
    stored = files("headrace.engine.filter").joinpath("ascii_foldings.txt")
    lines = (line.split(" ") for line in stored.read_text(encoding="utf-8").splitlines())
    return {ord(character): folded for folded, characters in lines for character in characters}
