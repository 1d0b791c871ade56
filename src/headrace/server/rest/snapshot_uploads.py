"""How does a snapshot come in as a form, however large it is?

It is written as it arrives, next to where it will be restored. Nothing of it is kept in
memory, and nothing of it is looked at here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from anyio import to_thread
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.types import Receive

from headrace.engine.snapshot.store import check_room
from headrace.engine.storage.file_ops import FILE_OPS, storage_error, write_all
from headrace.model.errors import MalformedInput
from headrace.server.rest.receiving import receive_in_time

_FIELD = b"snapshot"
# How often the room on the disk is looked at again.
_ROOM_CHECK_BYTES = 64 * 2**20


async def receive_upload(headers: Mapping[bytes, bytes], receive: Receive, path: Path) -> None:
    """Write the form's field `snapshot` to a new file.

    Args:
        headers: of the request.
        receive: of the request.
        path: of the file; if this fails, the caller removes it.

    Raises:
        MalformedInput: it is no whole form, or has no such field, or has it twice.
        TimedOut: it stopped coming.
        NoSpace, StorageFailed: the file cannot be written.
    """
    kind, options = parse_options_header(headers.get(b"content-type", b""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise MalformedInput("Payload error: Content type error")
    declared = headers.get(b"content-length", b"")
    check_room(path.parent, int(declared) if declared.isdigit() else 0)
    form = _Form(options[b"boundary"], path)
    try:
        while True:
            message = await receive_in_time(receive)
            if message["type"] == "http.disconnect":
                raise MalformedInput("Multipart error: the form is incomplete")
            await to_thread.run_sync(form.take, message.get("body", b""))
            if not message.get("more_body", False):
                break
        form.finish()
    except FormParserError as error:
        raise MalformedInput(f"Multipart error: {error}") from None
    except OSError as error:
        raise storage_error(error, f"writing {path}") from error
    finally:
        form.close()


class _Form:
    """A form that is being read."""

    def __init__(self, boundary: bytes, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._position = 0
        self._is_field = False
        self._header_name = b""
        self._header_value = b""
        self._is_over = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    def take(self, body: bytes) -> None:
        """Read on."""
        before = self._position
        self._parser.write(body)
        if before // _ROOM_CHECK_BYTES != self._position // _ROOM_CHECK_BYTES:
            check_room(self._path.parent, 0)

    def finish(self) -> None:
        """Check that all of it came."""
        self._parser.finalize()
        if not self._is_over:
            raise MalformedInput("Multipart error: the form is incomplete")
        if self._fd is None:
            raise MalformedInput("Multipart error: Field `snapshot` is required")

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            FILE_OPS.close(self._fd)

    def _on_part_begin(self) -> None:
        self._is_field = False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._is_field = options.get(b"name") == _FIELD
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        if not self._is_field:
            return
        if self._fd is not None:
            raise MalformedInput("Multipart error: Duplicate field `snapshot`")
        self._fd = FILE_OPS.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_field:
            assert self._fd is not None
            write_all(FILE_OPS, self._fd, memoryview(data)[start:end], self._position)
            self._position += end - start

    def _on_end(self) -> None:
        self._is_over = True
