from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.engine.vector_index import pace
from headrace.engine.vector_index.pace import Pace


class Clock:
    """Time that passes only while somebody sleeps, or `now_s` is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.at_each_look: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.at_each_look()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def waited_s(pace: Pace, clock: Clock, is_stopped: Callable[[], bool] = lambda: False) -> float:
    began_s = clock.now_s
    pace.give_way(is_stopped)
    return clock.now_s - began_s


def test_without_writes_nothing_waits(clock: Clock) -> None:
    assert waited_s(Pace(), clock) == 0


def test_a_write_long_ago_holds_nothing_up(clock: Clock) -> None:
    paced = Pace()
    paced.note_write(1000, 1000)
    clock.now_s += 1
    assert waited_s(paced, clock) == 0


def test_a_burst_goes_first_and_building_begins_when_it_ends(clock: Clock) -> None:
    paced = Pace()
    began_s = clock.now_s

    def write_for_half_a_second() -> None:
        if clock.now_s < began_s + 0.5:
            paced.note_write(1000, 1000)

    clock.at_each_look = write_for_half_a_second
    paced.note_write(1000, 1000)
    assert waited_s(paced, clock) == pytest.approx(0.65, abs=0.03)


def test_a_stream_holds_building_up_for_a_second_and_then_half_of_the_time(clock: Clock) -> None:
    paced = Pace()
    clock.at_each_look = lambda: paced.note_write(1000, 1000)
    paced.note_write(1000, 1000)
    assert waited_s(paced, clock) == pytest.approx(1, abs=0.02)
    for _ in range(20):
        worked_s = 0.2
        clock.now_s += worked_s
        paced.note_write(1000, 1000)
        assert waited_s(paced, clock) == pytest.approx(worked_s, abs=0.02)


def test_in_a_stream_one_thread_links(clock: Clock) -> None:
    paced = Pace()
    assert paced.threads(4) == 4
    paced.note_write(1000, 1000)
    assert not paced.is_quiet()
    assert paced.threads(4) == 1
    clock.now_s += 1
    assert paced.is_quiet()
    assert paced.threads(4) == 4


def test_too_much_to_scan_is_linked_at_once(clock: Clock) -> None:
    paced = Pace()
    paced.note_write(1000, 2**30)
    assert paced.threads(4) == 4
    assert not paced.is_quiet()
    assert waited_s(paced, clock) == 0


def test_building_that_is_given_up_waits_no_longer(clock: Clock) -> None:
    paced = Pace()
    clock.at_each_look = lambda: paced.note_write(1000, 1000)
    paced.note_write(1000, 1000)
    asked = iter([False, False, True])
    assert waited_s(paced, clock, lambda: next(asked)) == pytest.approx(0.02)
    assert paced.give_way(lambda: True)


def test_a_stream_that_linking_cannot_keep_up_with_goes_first_while_there_is_little_to_scan(
    clock: Clock,
) -> None:
    paced = Pace()
    unlinked_bytes = 0

    def write_much() -> None:
        nonlocal unlinked_bytes
        unlinked_bytes += 100_000
        paced.note_write(100_000, unlinked_bytes)

    clock.at_each_look = write_much
    write_much()
    # As long as 32 MiB take to come.
    assert waited_s(paced, clock) == pytest.approx(3.35, abs=0.05)
    clock.now_s += 0.2
    write_much()
    # From then on it has every second turn.
    assert waited_s(paced, clock) == pytest.approx(0.2, abs=0.02)


def test_a_stream_that_has_slowed_down_waits_no_longer(clock: Clock) -> None:
    paced = Pace()
    began_s = clock.now_s

    def write() -> None:
        paced.note_write(100_000 if clock.now_s < began_s + 3 else 1000, 1000)

    clock.at_each_look = write
    write()
    assert 4 < waited_s(paced, clock) < 10
