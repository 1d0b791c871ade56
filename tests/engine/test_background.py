"""Building runs at a lower priority than requests, and so do the threads it starts."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from headrace.engine.background import give_way_to_requests
from headrace.engine.vector_index.builder import IndexBuilder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such priorities")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


class _Work:
    def __init__(self) -> None:
        self.niceness = 0
        self.done = threading.Event()

    def __call__(self) -> None:
        # As a thread that links nodes is started.
        thread = threading.Thread(target=lambda: setattr(self, "niceness", niceness()))
        thread.start()
        thread.join()
        self.done.set()

    def build_next(self, _: object) -> bool:
        self()
        return False

    def build_failed(self, error: Exception) -> None:
        raise AssertionError from error


def test_only_the_calling_thread_gives_way() -> None:
    before = niceness()
    work = _Work()

    def run() -> None:
        give_way_to_requests()
        work()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert work.niceness >= 10
    assert niceness() == before


def test_a_process_of_low_priority_has_background_work_of_a_lower_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_process: list[int] = [15, 19]
    asked: list[int] = []
    monkeypatch.setattr(os, "getpriority", lambda *_: of_process.pop(0))
    monkeypatch.setattr(os, "setpriority", lambda _, __, niceness: asked.append(niceness))
    give_way_to_requests()
    give_way_to_requests()
    assert asked == [19, 19]


def test_the_builder_gives_way() -> None:
    before = niceness()
    builder, built = IndexBuilder(), _Work()
    builder.submit(built)
    assert built.done.wait(10)
    builder.close()
    assert built.niceness >= min(19, before + 10)
    assert niceness() == before
