from __future__ import annotations

import sys
from typing import Any

import pytest

from headrace.engine.filter.stop_words import stop_words_of
from headrace.engine.filter.text import text_pipeline
from headrace.engine.payload.paths import JsonObject
from headrace.model.errors import WrongInput
from headrace.model.filters import FieldCondition, Filter, MatchText
from tests.engine.filter.edge_shard import edge_shard
from tests.engine.filter.points import indexed, passing


def document_tokens(text: str, **params: Any) -> list[str]:
    return text_pipeline({"type": "text", **params}).document_tokens(text)


def query_tokens(text: str, **params: Any) -> list[str]:
    return text_pipeline({"type": "text", **params}).query_tokens(text)


def test_words_are_letters_and_digits_in_lower_case() -> None:
    assert document_tokens("Hello, World! it's test_case 3.14 Привет") == [
        *("hello", "world", "it", "s", "test", "case", "3", "14", "привет"),
    ]


def test_vowel_signs_do_not_end_a_word() -> None:
    assert document_tokens("हिंदी") == ["हिंदी"]


def test_whitespace_tokenizer_keeps_punctuation() -> None:
    assert document_tokens("it's 3.14\u2003x\ty", tokenizer="whitespace") == [
        *("it's", "3.14", "x", "y"),
    ]


def test_prefix_tokenizer_stores_all_prefixes_and_asks_the_longest() -> None:
    params = {"tokenizer": "prefix", "min_token_len": 2, "max_token_len": 4}
    assert document_tokens("Hello, wo!", **params) == ["he", "hel", "hell", "wo"]
    assert query_tokens("Hello wor x", **params) == ["hell", "wor"]


def test_prefix_tokenizer_without_limits_stores_from_one_character_on() -> None:
    assert document_tokens("abc", tokenizer="prefix") == ["a", "ab", "abc"]
    assert query_tokens("abc", tokenizer="prefix") == ["abc"]


def test_prefix_queries_keep_stop_words() -> None:
    params = {"tokenizer": "prefix", "stopwords": "english"}
    assert document_tokens("the theory", **params)[-1] == "theory"
    assert "the" in document_tokens("theory", **params)
    assert query_tokens("the", **params) == ["the"]


def test_lower_case_can_be_switched_off() -> None:
    assert document_tokens("Hello", lowercase=False) == ["Hello"]
    assert document_tokens("Hello", lowercase=None) == ["hello"]


def test_length_limits_count_characters_of_the_stem() -> None:
    assert document_tokens("a ab abc abcd", min_token_len=2, max_token_len=3) == ["ab", "abc"]
    stemmed = {"stemmer": {"type": "snowball", "language": "english"}, "max_token_len": 3}
    assert document_tokens("running", **stemmed) == ["run"]


def test_stop_words_go_before_stemming() -> None:
    stemmed = {"stemmer": {"type": "snowball", "language": "english"}, "stopwords": "english"}
    assert document_tokens("The being of beings", **stemmed) == ["be"]


def test_own_stop_words_follow_the_case_rule() -> None:
    own = {"stopwords": {"languages": ["german"], "custom": ["QUICK"]}}
    assert document_tokens("Quick und brown", **own) == ["brown"]
    assert document_tokens("Quick QUICK", lowercase=False, **own) == ["Quick"]


def test_folding_goes_before_lower_case_and_stop_words() -> None:
    assert document_tokens("ÉCOLE straße", ascii_folding=True) == ["ecole", "strasse"]
    folded = {"ascii_folding": True, "stopwords": {"custom": ["a"]}}
    assert document_tokens("à table", **folded) == ["table"]


def test_stemmer_can_be_switched_off_explicitly() -> None:
    assert document_tokens("running", stemmer={"type": "none"}) == ["running"]


STEMMED_LANGUAGES = (
    *("arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek"),
    *("hungarian", "italian", "norwegian", "portuguese", "romanian", "russian", "spanish"),
    *("swedish", "turkish"),
)


def test_words_have_the_same_stem_here_and_in_qdrant() -> None:
    """Whichever words find one another there do so here."""
    words = [
        (language, word)
        for language in STEMMED_LANGUAGES
        for word in sorted(stop_words_of(language))[:200:25]
    ]
    words += [("tamil", word) for word in ["வீடுகள்", "வீட்டில்", "மரம்", "மரங்கள்", "வந்தான்", "வந்தார்கள்"]]
    payloads: list[JsonObject] = [{language: word} for language, word in words]
    stemmed = {
        language: indexed("text", stemmer={"type": "snowball", "language": language})["a"]
        for language in dict(words)
    }
    with edge_shard(payloads, stemmed) as shard:
        for language, word in words:
            filter = Filter(must=(FieldCondition(language, match=MatchText(word)),))
            assert passing(filter, payloads, stemmed) == shard.passing(filter), word


@pytest.mark.parametrize(
    "params",
    [
        {"tokenizer": "code"},
        {"min_token_len": "two"},
        {"stopwords": "klingon"},
        {"stopwords": {"languages": ["latin"]}},
        {"stemmer": {"type": "snowball", "language": "armenian"}},
        {"stemmer": {"type": "snowball", "language": "klingon"}},
        {"stemmer": {"type": "snowball"}},
        {"stemmer": {"type": "porter"}},
    ],
)
def test_option_that_is_not_available_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(WrongInput):
        text_pipeline(params)


# Multilingual


def multilingual_tokens(text: str) -> list[str]:
    pytest.importorskip("icu4py", reason="the extra `multilingual` is not installed")
    return document_tokens(text, tokenizer="multilingual")


def test_multilingual_divides_scripts_without_spaces() -> None:
    assert multilingual_tokens("本日の日付は") == ["本日", "の", "日付", "は"]
    assert multilingual_tokens("มาทำงานกันเถอะ") == ["มา", "ทางาน", "กน", "เถอะ"]


def test_multilingual_gives_plain_lower_case_words() -> None:
    assert multilingual_tokens("It's naïve, ÉCOLE ｶﾀｶﾅ שָׁלוֹם ёж") == [
        *("it", "s", "naive", "ecole", "カタカナ", "שלום", "ёж"),
    ]


def test_multilingual_leaves_out_words_without_letters() -> None:
    assert multilingual_tokens("abc 3.14 42 x1") == ["abc", "x1"]


def test_multilingual_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "icu4py.breakers", None)
    with pytest.raises(WrongInput, match="multilingual"):
        text_pipeline({"tokenizer": "multilingual"})
