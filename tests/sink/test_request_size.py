"""How the size of requests follows how long they take."""

from __future__ import annotations

from headrace.sink.request_size import RequestSize


def test_a_slow_request_halves_the_size_only_if_it_was_about_that_large() -> None:
    size = RequestSize(1000, 60.0)
    size.note_taken(3, 59.0)
    size.note_taken(500, 59.0)
    assert size.points == 1000
    size.note_taken(501, 59.0)
    assert size.points == 250
    # Those that were under way at the old size halve it together, once.
    size.note_taken(501, 59.0)
    assert size.points == 250


def test_what_the_target_did_not_take_is_halved_however_small_it_was() -> None:
    size = RequestSize(1000, 60.0)
    size.note_too_much(10)
    assert size.points == 5
    size.note_too_much(1)
    assert size.points == 1
