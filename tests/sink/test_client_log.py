"""What Kafka's clients log in an outage is told now and then, not at each attempt."""

from __future__ import annotations

import logging
import time

import pytest

from headrace.sink.client_log import LOG_INTERVAL_S, ClientLog


def test_lines_of_one_kind_are_logged_once_in_a_while_with_how_many_were_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    log = ClientLog(logging.getLogger("tests.client"))
    for attempt in range(50):
        log.log(logging.WARNING, "%s [%s] %s", "FAIL", "consumer-1", f"refused {attempt}")
    log.log(logging.WARNING, "%s [%s] %s", "SESSTMOUT", "consumer-1", "timed out")
    now_s += LOG_INTERVAL_S
    log.log(logging.WARNING, "%s [%s] %s", "FAIL", "consumer-1", "refused again")
    log.log(logging.WARNING, "%s [%s] %s", "FAIL", "consumer-1", "and again")
    assert [one.getMessage() for one in caplog.records] == [
        "FAIL [consumer-1] refused 0",
        "SESSTMOUT [consumer-1] timed out",
        "FAIL [consumer-1] refused again (49 more since the last)",
    ]
