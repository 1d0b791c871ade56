"""JSON with a Connect schema beside it: logical types, of Connect and of others."""

from __future__ import annotations

import base64
import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.sink.connect_schema import SchemaMismatch, convert_with_schema
from headrace.sink.connect_value import plain

CONNECT = "org.apache.kafka.connect.data."
UTC = datetime.UTC


def schema(type_name: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": type_name, **({} if name is None else {"name": name}), **more}


def decimal(scale: object) -> dict[str, Any]:
    return schema("bytes", f"{CONNECT}Decimal", parameters={"scale": scale})


@given(st.integers(-(10**30), 10**30), st.integers(0, 20))
def test_a_decimal_is_its_bytes_by_its_scale(unscaled: int, scale: int) -> None:
    size = (unscaled.bit_length() + 8) // 8
    text = base64.b64encode(unscaled.to_bytes(size, signed=True)).decode()
    found = convert_with_schema(decimal(str(scale)), text)
    assert isinstance(found, Decimal)
    sign, digits, exponent = found.as_tuple()
    assert exponent == -scale
    assert int("".join(map(str, digits))) * (-1 if sign else 1) == unscaled


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (decimal("2"), "MDk=", Decimal("123.45")),
        (decimal("2"), 123.45, Decimal("123.45")),
        (schema("int32", f"{CONNECT}Date"), 20_000, datetime.date(2024, 10, 4)),
        (schema("int32", f"{CONNECT}Time"), 3_661_001, datetime.time(1, 1, 1, 1_000)),
        (
            schema("int64", f"{CONNECT}Timestamp"),
            1_700_000_000_123,
            datetime.datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC),
        ),
    ],
)
def test_connects_logical_types_become_what_they_mean(
    kind: dict[str, Any], value: Any, expected: object
) -> None:
    assert convert_with_schema(kind, value) == expected


def test_a_timestamp_reaches_the_payload_as_the_datetime_index_reads_it() -> None:
    found = convert_with_schema(schema("int64", f"{CONNECT}Timestamp"), 0)
    assert plain(found) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (schema("int64", "io.debezium.time.MicroTimestamp"), 1_700_000_000_123_456),
        (schema("string", "io.debezium.data.Enum", parameters={"allowed": "a,b"}), "a"),
        (schema("string", "io.debezium.data.Json"), '{"a":1}'),
        (schema("int32", f"{CONNECT}Timestamp"), 5),
    ],
)
def test_logical_types_of_others_stay_their_base_type(kind: dict[str, Any], value: object) -> None:
    assert convert_with_schema(kind, value) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (decimal("x"), "MDk=", "has no scale"),
        (schema("bytes", f"{CONNECT}Decimal"), "MDk=", "has no scale"),
        (decimal("2"), "not base64!", "is not base64"),
        (schema("int32", f"{CONNECT}Date"), 2**31 - 1, "beyond the years"),
        (schema("int64", f"{CONNECT}Timestamp"), "now", "is not an int64"),
    ],
)
def test_what_is_not_of_its_logical_type_is_refused(
    kind: dict[str, Any], value: Any, text: str
) -> None:
    with pytest.raises(SchemaMismatch, match=text):
        convert_with_schema(kind, value)
