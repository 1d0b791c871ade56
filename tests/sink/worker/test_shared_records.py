"""Connectors in the shared topic look as Kafka Connect writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.sink.worker.shared_records import (
    BadRecord,
    Change,
    ConfigChange,
    RestartRequest,
    StateChange,
    read_change,
    records_of,
)
from headrace.sink.worker.store import WantedState

NAMES = st.text(min_size=1, max_size=20)
CHANGES = st.one_of(
    st.builds(ConfigChange, NAMES, st.dictionaries(st.text(), st.text())),
    st.builds(StateChange, NAMES, st.sampled_from(WantedState)),
    st.builds(RestartRequest, NAMES, st.booleans(), st.booleans()),
)


@given(CHANGES)
def test_what_is_written_reads_as_it_was(change: Change) -> None:
    ((key, value),) = records_of(change)
    assert read_change(key, value) == change


def test_a_deletion_takes_what_was_wanted_along() -> None:
    records = records_of(ConfigChange("a", None))
    assert records == [("connector-a", None), ("target-state-a", None)]
    assert [read_change(*one) for one in records] == [
        ConfigChange("a", None),
        StateChange("a", WantedState.RUNNING),
    ]


@pytest.mark.parametrize(
    ("key", "value", "change"),
    [
        (
            "connector-a",
            b'{"properties":{"name":"a","tasks.max":"1","b":null}}',
            ConfigChange("a", {"name": "a", "tasks.max": "1"}),
        ),
        ("target-state-a", b'{"state":"STARTED"}', StateChange("a", WantedState.RUNNING)),
        ("target-state-a", b'{"state":"PAUSED"}', StateChange("a", WantedState.PAUSED)),
        (
            "target-state-a",
            b'{"state":"PAUSED","state.v2":"STOPPED"}',
            StateChange("a", WantedState.STOPPED),
        ),
        (
            "restart-connector-a",
            b'{"include-tasks":true,"only-failed":false}',
            RestartRequest("a", True, False),
        ),
        ("task-a-0", b'{"properties":{}}', None),
        ("commit-a", b'{"tasks":1}', None),
        ("session-key", b"{}", None),
    ],
)
def test_what_connect_writes_is_understood(key: str, value: bytes, change: Change | None) -> None:
    assert read_change(key, value) == change


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("connector-a", b"{"),
        ("connector-a", b"[]"),
        ("connector-a", b'{"properties":3}'),
        ("target-state-a", b'{"state":"DANCING"}'),
    ],
)
def test_what_cannot_be_read_is_a_bad_record(key: str, value: bytes) -> None:
    with pytest.raises(BadRecord):
        read_change(key, value)
