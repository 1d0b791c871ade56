"""How long, and how much, may a peer send before it has said what it wants?

uvicorn waits for ever for the rest of a request's head, and keeps all of it. Here a
connection is closed whose head does not come to its end in time, or is too large.
"""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.server.rest.receiving import IS_WHOLE

# From the first byte of a connection or request on: a slow handshake takes a second.
REQUEST_HEAD_S = 30.0

# Names of collections and points, tokens and query strings; most servers take less.
REQUEST_HEAD_BYTES_MAX = 128 * 1024


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection of the REST front."""

    _head_timer: TimerHandle | None = None
    _head_is_complete = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(REQUEST_HEAD_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before a head is complete, and begin to wait for the rest of one."""
        super().data_received(data)
        if self._head_is_complete:  # as mostly: a request comes whole
            return
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(REQUEST_HEAD_S, self._head_is_late)
        self._head_bytes += len(data)
        if self._head_bytes > REQUEST_HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("Request head too large.")

    def on_message_begin(self) -> None:
        """A further request's head begins, unless it is the first's."""
        super().on_message_begin()
        if self._head_is_complete:
            self._head_is_complete = False
            self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_is_complete = True
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there too."""
        self.scope[IS_WHOLE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self.transport.close()
