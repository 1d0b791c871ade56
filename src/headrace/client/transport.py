"""What carries a client's requests instead of a connection?"""

from __future__ import annotations

from typing import NoReturn

import httpx

from headrace.client.dispatch import Dispatcher


class EngineTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Hands requests to the engine in this process; for both kinds of httpx client.

    Closing it does nothing: the official client makes short-lived HTTP clients of the same
    transport when it uploads.

    Args:
        dispatcher: answers the requests.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; see `Dispatcher.answer`."""
        return self._dispatcher.answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; see `Dispatcher.answer_async`."""
        return await self._dispatcher.answer_async(request)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "An embedded store cannot be sent to another process: use it from threads, or "
            "serve its directory with `headrace serve`"
        )
