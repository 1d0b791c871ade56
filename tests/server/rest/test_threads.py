"""How many handlers run on threads at once, also when nobody waits for them any more?"""

from __future__ import annotations

import asyncio
import threading

import pytest

from headrace.server.rest.endpoint import READ_THREADS, Place, Threads
from headrace.server.rest.sending import Answer

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
