"""How many handlers run on threads at once, also when nobody waits for them any more?"""

from __future__ import annotations

import asyncio
import threading

import pytest

from headrace.server.auth import FULL_ACCESS
from headrace.server.node import Node
from headrace.server.rest.app import JSON_ROUTES
from headrace.server.rest.endpoint import (
    IN_PLACE_PAYLOAD_BYTES_MAX,
    READ_THREADS,
    Call,
    Place,
    Threads,
)
from headrace.server.rest.routes import COLLECTION
from headrace.server.rest.sending import Answer
from tests.server.rest.rest_server import Rest

WAIT_S = 30.0


def test_handlers_that_timed_out_keep_their_place_until_they_end() -> None:
    release = threading.Event()
    lock = threading.Lock()
    running = most = 0

    def slow() -> Answer:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        release.wait(WAIT_S)
        with lock:
            running -= 1
        return Answer(200, b"")

    async def main() -> None:
        threads = Threads()
        limiter = threads.limiters[Place.READ_THREAD]
        for _ in range(3):
            requests = [
                asyncio.create_task(threads.run(slow, Place.READ_THREAD))
                for _ in range(2 * READ_THREADS)
            ]
            async with asyncio.timeout(WAIT_S):
                while running < READ_THREADS:
                    await asyncio.sleep(0.01)
            for request in requests:
                request.cancel()
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            assert limiter.borrowed_tokens == READ_THREADS
        release.set()
        async with asyncio.timeout(WAIT_S):
            while limiter.borrowed_tokens:
                await asyncio.sleep(0.01)
            answer = await threads.run(lambda: Answer(201, b""), Place.READ_THREAD)
        assert answer.status == 201
        assert limiter.borrowed_tokens == 0

    asyncio.run(main())
    assert most == READ_THREADS


def test_a_handler_that_fails_gives_its_place_back() -> None:
    def fail() -> Answer:
        raise RuntimeError("a fault of ours")

    async def main() -> None:
        threads = Threads()
        for _ in range(2 * READ_THREADS):
            with pytest.raises(RuntimeError):
                await threads.run(fail, Place.READ_THREAD)
        assert threads.limiters[Place.READ_THREAD].borrowed_tokens == 0

    asyncio.run(main())


def place_of(rest: Rest, collection: str, path: str, body: bytes) -> Place:
    """Where the handler of a POST below a small collection runs."""
    (route,) = (one for one in JSON_ROUTES if one.name == f"POST {COLLECTION}{path}")
    call = Call(rest.service, Node(), FULL_ACCESS, {"collection_name": collection}, b"", body)
    return route.operation.place(call)


@pytest.mark.parametrize(
    ("path", "body", "place", "place_if_large"),
    [
        ("/points/scroll", b"{}", Place.LOOP, Place.LOOP),
        ("/points/scroll", b'{"limit": 99}', Place.LOOP, Place.LOOP),
        ("/points/scroll", b'{"limit":100}', Place.LOOP, Place.READ_THREAD),
        ("/points/query", b'{"query": [1, 0, 0, 0]}', Place.LOOP, Place.LOOP),
        ("/points/query", b'{"query": [1], "limit" : 1000}', Place.LOOP, Place.READ_THREAD),
        ("/points/search", b'{"vector": [1], "top": 500}', Place.LOOP, Place.READ_THREAD),
        ("/points/search/matrix/pairs", b'{"sample": 500}', Place.LOOP, Place.READ_THREAD),
        ("/points", b'{"ids": [1, 2, 3]}', Place.LOOP, Place.LOOP),
        ("/points", b'{"ids": [%s]}' % b",".join([b"1"] * 200), Place.LOOP, Place.READ_THREAD),
        *(
            (path, body, Place.READ_THREAD, Place.READ_THREAD)
            for path, body in (
                ("/points/query", b'{"query": {"text": "a", "model": "m"}}'),
                ("/points/query", b'{"query": {"text": "a", "mode\\u006c": "m"}}'),
                ("/points/scroll", b'{"limi\\u0074": 1000}'),
                ("/points/scroll", b'{"order_by": "n", "limit": 100}'),
                ("/points/query/groups", b'{"group_by": "a", "group_size": 2}'),
                ("/points/search/groups", b'{"group_by": "a", "with_lookup": "large"}'),
                ("/points/query/batch", b'{"searches": []}'),
                ("/points/search/batch", b'{"searches": []}'),
            )
        ),
    ],
)
def test_what_may_take_long_does_not_run_on_the_event_loop(
    rest: Rest,
    collection: str,
    path: str,
    body: bytes,
    place: Place,
    place_if_large: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert place_of(rest, collection, path, body) is place
    monkeypatch.setattr("headrace.server.rest.endpoint.IN_PLACE_COMPONENTS_MAX", -1)
    assert place_of(rest, collection, path, body) is place_if_large


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/points/scroll", b"{}"),
        ("/points/query", b'{"query": [1, 0, 0, 0], "limit": 50, "with_payload": true}'),
        ("/points/query", b'{"filter": {"must": [{"key": "a", "match": {"value": 1}}]}}'),
        ("/points/search", b'{"vector": [1, 0, 0, 0], "limit": 10}'),
        ("/points", b'{"ids": [1, 2, 3]}'),
    ],
)
def test_large_payloads_are_not_written_down_on_the_event_loop(
    rest: Rest, collection: str, path: str, body: bytes
) -> None:
    points = [{"id": n, "vector": [1, 0, 0, 0], "payload": {"text": "x" * 99}} for n in range(40)]
    rest.result("PUT", f"/collections/{collection}/points", {"points": points})
    assert place_of(rest, collection, path, body) is Place.LOOP
    points[7]["payload"] = {"text": "x" * (IN_PLACE_PAYLOAD_BYTES_MAX // 40)}
    rest.result("PUT", f"/collections/{collection}/points", {"points": points[7:8]})
    assert place_of(rest, collection, path, body) is Place.READ_THREAD


def test_a_point_of_several_values_may_stand_in_an_order_more_often_than_there_are_points(
    rest: Rest, collection: str
) -> None:
    payload = {"n": list(range(99)), "text": "x" * (IN_PLACE_PAYLOAD_BYTES_MAX // 99)}
    points = [{"id": 1, "vector": [1, 0, 0, 0], "payload": payload}]
    rest.result("PUT", f"/collections/{collection}/points", {"points": points})
    body = b'{"order_by": "n", "limit": 99}'
    assert place_of(rest, collection, "/points/scroll", body) is Place.READ_THREAD
    assert place_of(rest, collection, "/points/scroll", b'{"limit": 99}') is Place.LOOP
