from __future__ import annotations

import pytest

from headrace.engine.filter.folding import fold_to_ascii
from headrace.engine.payload.paths import JsonObject
from headrace.model.filters import FieldCondition, Filter, HasId, MatchText
from tests.engine.filter.edge_shard import edge_shard
from tests.engine.filter.points import indexed

LATIN_1_TO_LATIN_EXTENDED_B = [chr(code) for code in range(0xC0, 0x250) if chr(code).isalpha()]
VIETNAMESE_AND_FULL_WIDTH = [chr(code) for code in (*range(0x1EA0, 0x1EFA), *range(0xFF21, 0xFF5B))]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("plain", "plain"),
        ("ação naïve Ångström", "acao naive Angstrom"),
        ("Œuvre Æsir straße ẞ", "OEuvre AEsir strasse SS"),
        ("Łódź Øresund đ þ", "Lodz Oresund d th"),
        ("ﬁne ＡＢＣ ²", "fine ABC 2"),
        ("“quoted” – it’s", '"quoted" - it\'s'),
        ("Привет 漢字 ёж", "Привет 漢字 ёж"),
    ],
)
def test_accents_fold_and_other_scripts_stay(text: str, folded: str) -> None:
    assert fold_to_ascii(text) == folded


def test_letters_that_we_fold_fold_alike_in_qdrant() -> None:
    letters = [*LATIN_1_TO_LATIN_EXTENDED_B, *VIETNAMESE_AND_FULL_WIDTH]
    payloads: list[JsonObject] = [{"a": f"x{letter}y"} for letter in letters]
    schema = indexed("text", tokenizer="whitespace", lowercase=False, ascii_folding=True)
    with edge_shard(payloads, schema) as shard:
        for id, letter in enumerate(letters):
            folded = fold_to_ascii(letter)
            if folded != letter:
                same = FieldCondition("a", match=MatchText(f"x{folded}y"))
                assert shard.passing(Filter(must=(HasId((id,)), same))), letter
