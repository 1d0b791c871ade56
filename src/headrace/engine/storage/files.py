"""How is a small file replaced so that a crash leaves the old one or the new one, whole?

Also the checksummed document, the form of all small files (`docs/formats/documents.md`),
and the safe file name of a collection.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec
from crc32c import crc32c

from headrace.engine.storage.file_ops import (
    FILE_OPS,
    FileOps,
    ReadableBuffer,
    storage_error,
    write_all,
)
from headrace.model.errors import CorruptFile, NewerFormat, StorageFailed

T = TypeVar("T")

DOCUMENT_FORMAT_VERSION = 1

_TEMPORARY_PREFIX = ".tmp-"
_DOCUMENT_HEADER = "headrace-document {version} {checksum:08x} {length}\n"

# A file name has at most 255 bytes; the rest is left to whoever adds a suffix.
DIRECTORY_NAME_BYTES_MAX = 200
_DIGEST_HEX_DIGITS = 64
_PLAIN_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_DEVICE_NAMES = frozenset(
    ["con", "prn", "aux", "nul"] + [f"{name}{n}" for name in ("com", "lpt") for n in range(10)]
)


def write_file_atomically(path: Path, data: ReadableBuffer, ops: FileOps = FILE_OPS) -> None:
    """Put `data` in the place of the file at `path`; durable when it returns.

    After a crash there is the old file or the new one, and perhaps a temporary file, which
    `remove_temporary_files` removes.

    Raises:
        NoSpace: the disk is full; the old file is as it was.
        StorageFailed: the system refused; the file is the old or the new one, whole.
    """
    temporary = path.parent / f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        _write_synced(temporary, data, ops)
        ops.rename(temporary, path)
    except BaseException as error:
        _remove_if_there(temporary, ops)
        if isinstance(error, OSError):
            raise storage_error(error, f"writing {path}") from error
        raise
    try:
        ops.fsync_dir(path.parent)
    except OSError as error:
        raise StorageFailed(f"syncing {path.parent}: {error.strerror}") from error


def remove_temporary_files(directory: Path, ops: FileOps = FILE_OPS) -> None:
    """Remove what interrupted calls of `write_file_atomically` left in `directory`.

    Only its owner may call it, while no such call is under way.

    Raises:
        StorageFailed: the system refused.
    """
    try:
        for path in directory.iterdir():
            if path.name.startswith(_TEMPORARY_PREFIX):
                ops.unlink(path)
    except OSError as error:
        raise storage_error(error, f"clearing {directory}") from error


def write_document(path: Path, document: object, ops: FileOps = FILE_OPS) -> None:
    """Store `document` as checksummed JSON; atomic, and durable when it returns.

    Args:
        path: replaced as a whole.
        document: anything that msgspec encodes as JSON.
        ops: the operations to use.

    Raises: as `write_file_atomically`.
    """
    write_file_atomically(path, encode_document(document), ops)


def encode_document(document: object) -> bytes:
    """The bytes of a document's file."""
    content = msgspec.json.encode(document, order="deterministic") + b"\n"
    return _document_header(content) + content


@overload
def read_document(path: Path, *, ops: FileOps = ...) -> Any: ...
@overload
def read_document(path: Path, kind: type[T], *, ops: FileOps = ...) -> T: ...
def read_document(path: Path, kind: Any = Any, *, ops: FileOps = FILE_OPS) -> Any:
    """The document that `write_document` stored.

    Args:
        path: where it is.
        kind: the type to decode to; plain JSON values if not given.
        ops: the operations to use.

    Raises:
        FileNotFoundError: there is no such file; the caller knows whether there must be.
        CorruptFile: it is not what was written, or not of this kind.
        StorageFailed: the system cannot read it.
    """
    try:
        data = ops.read_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error(error, f"reading {path}") from error
    return decode_document(data, str(path), kind)


@overload
def decode_document(data: bytes, path: str) -> Any: ...
@overload
def decode_document(data: bytes, path: str, kind: type[T]) -> T: ...
def decode_document(data: bytes, path: str, kind: Any = Any) -> Any:
    """The document in the bytes of a file; `path` is named in errors.

    Raises:
        NewerFormat: it is whole, and of a version that this one does not know.
        CorruptFile: it is not what was written, or not of this kind.
    """
    header_bytes = data.find(b"\n") + 1
    content = data[header_bytes:]
    expected = _document_header(content)
    if data[:header_bytes] != expected:
        version = _version_of(data[:header_bytes])
        if version > DOCUMENT_FORMAT_VERSION and data.startswith(
            _document_header(content, version)
        ):
            raise NewerFormat(path, version, DOCUMENT_FORMAT_VERSION)
        raise CorruptFile(path, 0, _shown(expected), _shown(data[: len(expected)]))
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptFile(path, header_bytes, f"a document of {kind}", str(error)) from error


def collection_directory_name(name: str) -> str:
    """One safe file-name component for any collection name; different for different names.

    Lower-case letters, digits, `_` and `-` stand for themselves and every other byte of the
    UTF-8 text is percent-encoded, capitals too, since file systems may ignore case. A name
    that would be too long keeps its beginning, then `~` and the SHA-256 of the whole, so
    the true name must also be stored inside the directory.

    Args:
        name: not empty; may hold anything, lone surrogates included.
    """
    assert name
    encoded_name = name.encode("utf-8", "surrogatepass")
    text = "".join(chr(b) if b in _PLAIN_BYTES else f"%{b:02x}" for b in encoded_name)
    if text in _DEVICE_NAMES:
        return f"%{ord(text[0]):02x}{text[1:]}"
    if len(text) <= DIRECTORY_NAME_BYTES_MAX:
        return text
    kept = text[: DIRECTORY_NAME_BYTES_MAX - _DIGEST_HEX_DIGITS - 1]
    return f"{kept}~{hashlib.sha256(encoded_name).hexdigest()}"


def _write_synced(path: Path, data: ReadableBuffer, ops: FileOps) -> None:
    fd = ops.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(ops, fd, data, 0)
        ops.fdatasync(fd)
    finally:
        ops.close(fd)


def _remove_if_there(path: Path, ops: FileOps) -> None:
    """Best effort, while another error is on its way; a rest is removed on the next opening."""
    try:
        ops.unlink(path)
    except OSError:
        return


def _document_header(content: bytes, version: int = DOCUMENT_FORMAT_VERSION) -> bytes:
    return _DOCUMENT_HEADER.format(
        version=version, checksum=crc32c(content), length=len(content)
    ).encode()


def _version_of(header: bytes) -> int:
    """The version that a document's header names; 0 if it names none."""
    words = header.split(b" ", 2)
    return int(words[1]) if len(words) == 3 and words[1].isdigit() and len(words[1]) < 10 else 0


def _shown(header: bytes) -> str:
    return repr(header.decode("ascii", "backslashreplace").rstrip("\n"))
