from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.demo.dataset import Airport, load_airports
from headrace.demo.embedding import TextEmbedding, WordWeights
from headrace.demo.formats import MessageFormat, message_formats, text_of
from headrace.demo.stream import BAD_RECORDS, DemoStream


@pytest.fixture(scope="module")
def airports() -> list[Airport]:
    """A part of the data that has airports to correct and airports to take back."""
    return [one for one in load_airports() if one.number % 9 == 0 or one.country != "USA"]


@pytest.fixture(scope="module")
def formats(airports: list[Airport]) -> list[MessageFormat]:
    weights = WordWeights([text_of(one) for one in airports])
    return message_formats(airports, TextEmbedding(), weights)


def test_stream_has_as_many_records_as_it_says(
    airports: list[Airport], formats: list[MessageFormat]
) -> None:
    stream = DemoStream(airports, formats)
    assert len(list(stream)) == len(stream)


def test_fold_of_the_stream_is_what_it_expects(
    airports: list[Airport], formats: list[MessageFormat]
) -> None:
    stream = DemoStream(airports, formats)
    stored: dict[str, dict[int | str, Any]] = {one.collection_name: {} for one in formats}
    for one in stream:
        if one.kafka_key is None:
            continue
        kafka_key = json.loads(one.kafka_key)
        points = stored[kafka_key["collection_name"]]
        if one.value is None:
            del points[kafka_key["id"]]
        else:
            value = json.loads(one.value)
            assert {name: value[name] for name in kafka_key} == kafka_key
            points[value["id"]] = value["payload"]
    assert stored == {one.collection_name: stream.expected_payloads(one) for one in formats}
    assert len(stream.expected_payloads(formats[0])) < len(airports)


def test_bad_records_are_in_the_stream_once_each(
    airports: list[Airport], formats: list[MessageFormat]
) -> None:
    bad = [one.value for one in DemoStream(airports, formats) if one.kafka_key is None]
    assert bad == [one.value for one in BAD_RECORDS]
