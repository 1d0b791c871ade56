"""What is in a snapshot file, and which of it can be believed?

A snapshot is a plain tar archive. Its first member lists all others with their lengths and
checksums, in order; a reader takes exactly those and refuses everything else a tar archive
can hold. The bytes are described in `docs/formats/snapshot.md`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import msgspec
from crc32c import crc32c

from headrace.engine.storage.file_ops import FileOps, ReadableBuffer, storage_error, write_all
from headrace.engine.storage.files import decode_document, encode_document
from headrace.model.errors import CorruptFile, WrongInput

SNAPSHOT_FORMAT_VERSION = 1
HEADER_NAME = "snapshot.doc"
COLLECTION_NAME = "collection.doc"
CHECKPOINT_NAME = "checkpoint.doc"

# A member takes about 100 bytes of it, so this is far beyond any real archive.
_HEADER_BYTES_MAX = 64 * 2**20
# What lies between being stopped and stopping: a few milliseconds of reading and hashing.
_CHUNK_BYTES = 4 * 2**20
_END = bytes(2 * tarfile.BLOCKSIZE)

_DOCUMENT = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}\.doc")
_COLLECTION_MEMBER = re.compile(
    r"(0|[1-9][0-9]{0,5})/(collection\.doc|checkpoint\.doc|data/[A-Za-z0-9][A-Za-z0-9_.-]{0,79})"
)

CheckRunning = Callable[[], None]


class InvalidSnapshot(WrongInput):
    """A snapshot file that is damaged, or is none.

    Attributes:
        path: the file.
        byte_offset: where in it.
        expected: what should be there.
        found: what is there.
    """

    def __init__(self, path: Path, byte_offset: int, expected: str, found: str) -> None:
        self.path = path
        self.byte_offset = byte_offset
        self.expected = expected
        self.found = found
        super().__init__(
            f"The snapshot {path.name} is damaged or is none of Headrace's: "
            f"at byte {byte_offset} expected {expected}, found {found}"
        )


class Member(msgspec.Struct, frozen=True):
    """One file in an archive; `checksum` is its CRC-32C."""

    name: str
    bytes_count: int
    checksum: int


class StoredCollection(msgspec.Struct, frozen=True):
    """One collection in an archive; its members begin with its place in the list."""

    name: str
    seq_no: int


class SnapshotHeader(msgspec.Struct, frozen=True):
    """The content of the first member.

    Attributes:
        version: of the format.
        is_full: whether it holds a whole data directory.
        collections: what is in it.
        members: all other members, in order.
    """

    version: int
    is_full: bool
    collections: list[StoredCollection]
    members: list[Member]


class Source(NamedTuple):
    """Where a member's bytes come from: a file that does not change, or the bytes."""

    name: str
    content: bytes | Path


def never_stops() -> None:
    """The `CheckRunning` of work that nothing stops."""


def write_archive(
    fd: int,
    is_full: bool,
    collections: list[StoredCollection],
    sources: Sequence[Source],
    ops: FileOps,
    check_running: CheckRunning,
) -> str:
    """Write an archive to an empty file; not durable yet.

    Returns:
        The SHA-256 of the file, hexadecimal.

    Raises:
        OSError: the system refused.
        CorruptFile: a source changed while it was read.
    """
    members = [_member(source, check_running) for source in sources]
    header = SnapshotHeader(SNAPSHOT_FORMAT_VERSION, is_full, collections, members)
    output = _Output(fd, ops)
    output.member(HEADER_NAME, encode_document(header))
    for source, member in zip(sources, members, strict=True):
        output.begin(member.name, member.bytes_count)
        checksum = 0
        for chunk in _chunks(source, check_running):
            checksum = crc32c(chunk, checksum)
            output.write(chunk)
        if checksum != member.checksum:
            raise CorruptFile(
                str(source.content), 0, f"checksum {member.checksum:08x}", f"{checksum:08x}"
            )
        output.end(member.bytes_count)
    output.write(_END)
    return output.sha256.hexdigest()


class ArchiveReader:
    """An opened archive. Close it, or use it as a context manager.

    Attributes:
        path: the file.
        header: what it holds.

    Raises:
        InvalidSnapshot: it is no archive, or its header is damaged.
        StorageFailed: the system cannot read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise storage_error(error, f"opening {path}") from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise InvalidSnapshot(path, 0, "a regular file", "something else")
        self._file: BinaryIO = os.fdopen(fd, "rb")
        try:
            self._size = status.st_size
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member and its bytes, which must be taken in this order, and once.

        A member's checksum is verified when its last bytes are taken.

        Raises:
            InvalidSnapshot: the archive does not hold what its header says.
        """
        for member in self.header.members:
            self._expect_member(member.name, member.bytes_count)
            yield member, self._content(member)
        position = self._file.tell()
        if self._size - position != len(_END) or self._file.read(len(_END)) != _END:
            raise InvalidSnapshot(self.path, position, "1,024 zeros, the end", "something else")

    def _read_header(self) -> SnapshotHeader:
        name, bytes_count = self._next_member()
        if name != HEADER_NAME or bytes_count > _HEADER_BYTES_MAX:
            raise InvalidSnapshot(self.path, 0, f"a member {HEADER_NAME}", repr(name))
        content = self._read(bytes_count)
        self._skip_padding(bytes_count)
        try:
            header = decode_document(content, str(self.path), SnapshotHeader)
        except CorruptFile as error:
            raise InvalidSnapshot(
                self.path, tarfile.BLOCKSIZE + error.byte_offset, error.expected, error.found
            ) from None
        if header.version != SNAPSHOT_FORMAT_VERSION:
            expected = f"format version {SNAPSHOT_FORMAT_VERSION}"
            raise InvalidSnapshot(self.path, 0, expected, f"{header.version}")
        self._check_names(header)
        return header

    def _check_names(self, header: SnapshotHeader) -> None:
        """Whatever is done with names later, none of them can lead out of a directory."""
        names = [member.name for member in header.members]
        if len({name.casefold() for name in names}) != len(names):
            raise InvalidSnapshot(self.path, 0, "members of different names", "a name twice")
        for member in header.members:
            found = _COLLECTION_MEMBER.fullmatch(member.name)
            is_collections = found is not None and int(found[1]) < len(header.collections)
            is_document = header.is_full and _DOCUMENT.fullmatch(member.name) is not None
            if not (is_collections or is_document) or member.bytes_count < 0:
                expected = "the name of a snapshot's member"
                raise InvalidSnapshot(self.path, 0, expected, repr(member.name[:100]))
        for number in range(len(header.collections)):
            for name in (COLLECTION_NAME, CHECKPOINT_NAME):
                if f"{number}/{name}" not in names:
                    raise InvalidSnapshot(self.path, 0, f"a member {number}/{name}", "none")

    def _next_member(self) -> tuple[str, int]:
        """The name and length of the member that begins here; only plain files are taken.

        Each block is decoded by itself: long names, links, devices, sparse files and
        extended headers are other types of member, and none of them is followed.
        """
        position = self._file.tell()
        try:
            info = tarfile.TarInfo.frombuf(self._read(tarfile.BLOCKSIZE), "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise InvalidSnapshot(self.path, position, "a member of a tar", str(error)) from None
        if info.type != tarfile.REGTYPE or info.linkname:
            raise InvalidSnapshot(self.path, position, "a plain file", f"type {info.type!r}")
        return info.name, info.size

    def _expect_member(self, name: str, bytes_count: int) -> None:
        position = self._file.tell()
        found = self._next_member()
        if found != (name, bytes_count):
            raise InvalidSnapshot(
                self.path,
                position,
                f"the member {name} of {bytes_count} bytes",
                f"{found[0]!r} of {found[1]} bytes",
            )

    def _content(self, member: Member) -> Iterator[bytes]:
        position = self._file.tell()
        left, checksum = member.bytes_count, 0
        while left:
            chunk = self._read(min(left, _CHUNK_BYTES))
            checksum = crc32c(chunk, checksum)
            left -= len(chunk)
            yield chunk
        if checksum != member.checksum:
            raise InvalidSnapshot(
                self.path,
                position,
                f"{member.name} with checksum {member.checksum:08x}",
                f"{checksum:08x}",
            )
        self._skip_padding(member.bytes_count)

    def _skip_padding(self, bytes_count: int) -> None:
        padding = self._read(_padding_bytes(bytes_count))
        if any(padding):
            raise InvalidSnapshot(
                self.path, self._file.tell() - len(padding), "zeros up to the block", "others"
            )

    def _read(self, bytes_count: int) -> bytes:
        position = self._file.tell()
        if bytes_count > self._size - position:
            found = f"{self._size - position}"
            raise InvalidSnapshot(self.path, position, f"{bytes_count} bytes more", found)
        try:
            data = self._file.read(bytes_count)
        except OSError as error:
            raise storage_error(error, f"reading {self.path}") from error
        if len(data) < bytes_count:
            raise InvalidSnapshot(self.path, position, f"{bytes_count} bytes", f"{len(data)}")
        return data


class _Output:
    """The archive that is being written."""

    def __init__(self, fd: int, ops: FileOps) -> None:
        self.sha256 = hashlib.sha256()
        self._fd = fd
        self._ops = ops
        self._position = 0

    def member(self, name: str, content: bytes) -> None:
        self.begin(name, len(content))
        self.write(content)
        self.end(len(content))

    def begin(self, name: str, bytes_count: int) -> None:
        info = tarfile.TarInfo(name)
        info.size = bytes_count
        # GNU's form also says lengths from 8 GiB on in the block itself.
        block = info.tobuf(tarfile.GNU_FORMAT)
        assert len(block) == tarfile.BLOCKSIZE
        self.write(block)

    def end(self, bytes_count: int) -> None:
        self.write(bytes(_padding_bytes(bytes_count)))

    def write(self, data: ReadableBuffer) -> None:
        write_all(self._ops, self._fd, data, self._position)
        self.sha256.update(data)
        self._position += len(data)


def _member(source: Source, check_running: CheckRunning) -> Member:
    bytes_count = checksum = 0
    for chunk in _chunks(source, check_running):
        checksum = crc32c(chunk, checksum)
        bytes_count += len(chunk)
    return Member(source.name, bytes_count, checksum)


def _chunks(source: Source, check_running: CheckRunning) -> Iterator[bytes]:
    if isinstance(source.content, bytes):
        yield source.content
        return
    with source.content.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            check_running()
            yield chunk


def _padding_bytes(bytes_count: int) -> int:
    return -bytes_count % tarfile.BLOCKSIZE
