"""How do moments cross the wire? As timestamps in filters, as text in formulas."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from headrace.model.datetimes import parse_datetime_micros
from headrace.model.errors import MalformedInput
from headrace.server.grpc.rules import check_between

# The years 1 to 9999, which are what a protobuf timestamp may hold.
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799
_NANOS_MAX = 999_999_999


def read_timestamp_micros(path: str, timestamp: Timestamp) -> int:
    """Microseconds since 1970 UTC, as Qdrant keeps datetimes; finer digits are cut off.

    Raises:
        InvalidBody: it is not in the years 1 to 9999.
    """
    check_between(path, timestamp.seconds, _SECONDS_MIN, _SECONDS_MAX)
    check_between(path, timestamp.nanos, 0, _NANOS_MAX)
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1_000


def read_datetime_text_micros(text: str) -> int:
    """Microseconds since 1970 UTC.

    Raises:
        MalformedInput: the text is in none of the accepted forms.
    """
    micros = parse_datetime_micros(text)
    if micros is None:
        raise MalformedInput(
            f"'{text}' does not match accepted datetime format (RFC3339). "
            "Example: 2014-01-01T00:00:00Z"
        )
    return micros
