"""Payloads cross the wire exactly, as far as `Value` can say what JSON says."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest, MalformedInput
from headrace.server.grpc.payload import read_payload, write_payload_into

I64 = st.integers(-(2**63), 2**63 - 1)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | I64 | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def sent_and_stored(payload: bytes) -> Any:
    """The payload after it left, was encoded, decoded and came back."""
    message = qdrant.RetrievedPoint()
    write_payload_into(payload, message.payload)
    received = qdrant.RetrievedPoint.FromString(message.SerializeToString())
    return orjson.loads(read_payload(received.payload))


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_a_payload_comes_back_as_it_was(payload: dict[str, Any]) -> None:
    came_back = sent_and_stored(orjson.dumps(payload))
    sort = orjson.OPT_SORT_KEYS
    assert orjson.dumps(came_back, option=sort) == orjson.dumps(payload, option=sort)


def test_integers_beyond_64_bits_with_sign_leave_as_doubles() -> None:
    assert sent_and_stored(b'{"a":18446744073709551615,"b":9223372036854775807}') == {
        "a": 18446744073709551615.0,
        "b": 9223372036854775807,
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_refused(number: float) -> None:
    value = qdrant.Value(double_value=number)
    inside = qdrant.Value(list_value=qdrant.ListValue(values=[value]))
    for fields in ({"a": value}, {"a": inside}):
        with pytest.raises(MalformedInput, match="cannot convert to json number"):
            read_payload(fields)


def test_a_value_of_no_kind_is_null() -> None:
    assert read_payload({"a": qdrant.Value()}) == b'{"a":null}'


def test_nulls_and_empties_are_kept() -> None:
    payload: dict[str, Any] = {
        "null": None,
        "object": {},
        "list": [],
        "text": "",
        "zero": 0,
        "no": False,
    }
    assert sent_and_stored(orjson.dumps(payload)) == payload


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_the_deepest_payload_that_readers_follow_is_sent() -> None:
    response = qdrant.GetResponse(result=[qdrant.RetrievedPoint()])
    write_payload_into(nested(33), response.result[0].payload)
    qdrant.GetResponse.FromString(response.SerializeToString())


@pytest.mark.parametrize("payload", [nested(34), b'{"a":' + b"[" * 60 + b"]" * 60 + b"}"])
def test_a_payload_that_nests_deeper_is_refused(payload: bytes) -> None:
    with pytest.raises(BadRequest, match="nests too deep for gRPC"):
        write_payload_into(payload, qdrant.RetrievedPoint().payload)
