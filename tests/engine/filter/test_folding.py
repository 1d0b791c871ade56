from __future__ import annotations

import unicodedata

import pytest

from headrace.engine.filter.folding import fold_to_ascii
from headrace.engine.payload.paths import JsonObject
from headrace.model.filters import FieldCondition, Filter, MatchText
from tests.engine.filter.edge_shard import edge_shard
from tests.engine.filter.points import indexed

# Where letters and marks with an ASCII equivalent are, and many that have none.
CHARACTERS = [
    chr(code)
    for begin, end in (
        *((0xA1, 0x2B0), (0x1D00, 0x1F00), (0x2010, 0x20A0), (0x2460, 0x2500), (0x2700, 0x27C0)),
        *((0x2C60, 0x2C80), (0xA720, 0xA800), (0xFB00, 0xFB07), (0xFF01, 0xFF5F)),
    )
    for code in range(begin, end)
    if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs") and not chr(code).isspace()
]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("plain", "plain"),
        ("ação naïve Ångström", "acao naive Angstrom"),
        ("Œuvre Æsir straße ẞ", "OEuvre AEsir strasse SS"),
        ("Łódź Øresund đ þ", "Lodz Oresund d th"),
        ("ﬁne ＡＢＣ ² ⑫ ⑴", "fine ABC 2 12 (1)"),
        ("“quoted” – it’s", '"quoted" - it\'s'),
        ("Привет 漢字 ёж", "Привет 漢字 ёж"),
    ],
)
def test_accents_fold_and_other_scripts_stay(text: str, folded: str) -> None:
    assert fold_to_ascii(text) == folded


def test_characters_fold_as_in_qdrant() -> None:
    """Each is found by its folding; and those that fold to one character, or not at all, are
    told from the others by a limit of length."""
    payloads: list[JsonObject] = [
        {"a": f"w{number}q{character}", "b": character}
        for number, character in enumerate(CHARACTERS)
    ]
    options = {"tokenizer": "whitespace", "lowercase": False, "ascii_folding": True}
    schema = {
        "a": indexed("text", **options)["a"],
        "b": indexed("text", max_token_len=1, **options)["a"],
    }
    foldings = [fold_to_ascii(character) for character in CHARACTERS]
    by_folding = tuple(
        FieldCondition("a", match=MatchText(f"w{number}q{folding}"))
        for number, folding in enumerate(foldings)
    )
    short = tuple(FieldCondition("b", match=MatchText(character)) for character in CHARACTERS)
    with edge_shard(payloads, schema) as shard:
        assert shard.passing(Filter(should=by_folding)) == set(range(len(CHARACTERS)))
        one_character = {n for n, folding in enumerate(foldings) if len(folding) == 1}
        assert shard.passing(Filter(should=short)) == one_character
