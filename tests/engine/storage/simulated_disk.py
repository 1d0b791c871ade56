"""File operations that are recorded, and replayed as a crash would have left the files.

`RecordingFileOps` does every operation for real and notes it. `disk_after_kill` builds the
files as they stand if the process ends after some of the operations; `disk_after_power_loss`
builds them as a power loss may leave them: of the writes to a file since its last sync any
512-byte sectors may be there or not, and of the changed names in a directory since its last
sync any beginning.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.engine.storage.file_ops import FileOps, ReadableBuffer

SECTOR_BYTES = 512


@dataclass(frozen=True)
class FileOp:
    """One recorded operation.

    Attributes:
        kind: create, write, truncate, sync, rename, unlink, mkdir, rmdir or sync_dir.
        path: the name it was given; for an open file, the one it was opened by.
        file: which file a create, write, truncate or sync is about, whatever its name is now.
        byte_offset: of a write; of a truncate, the new length.
        data: of a write.
        target: of a rename.
    """

    kind: str
    path: Path
    file: int = 0
    byte_offset: int = 0
    data: bytes = b""
    target: Path | None = None


class Killed(BaseException):
    """Stands for SIGKILL: from here on no operation of this process has any effect."""


class RecordingFileOps(FileOps):
    """The real operations, noted in order, without the real syncs.

    Attributes:
        log: what was done.
        adopted: how many of these are what `adopt` found.
        killed_after: length of `log` from which every operation raises `Killed` instead.
    """

    def __init__(self) -> None:
        self.log: list[FileOp] = []
        self.adopted = 0
        self.killed_after: int | None = None
        self._files_count = 0
        self._files_by_inode: dict[int, int] = {}
        self._open_files: dict[int, tuple[Path, int]] = {}

    def adopt(self, start: Path) -> None:
        """Note what is in `start` already, as durable; the first `adopted` operations."""
        for path in sorted(start.rglob("*")):
            if path.is_dir():
                self.log.append(FileOp("mkdir", path))
            else:
                file = self._new_file(path.stat().st_ino)
                self.log.append(FileOp("create", path, file))
                self.log.append(FileOp("write", path, file, 0, path.read_bytes()))
                self.log.append(FileOp("sync", path, file))
            self.log.append(FileOp("sync_dir", path.parent))
        self.adopted = len(self.log)

    def open(self, path: Path, flags: int) -> int:
        self._check_alive()
        is_new = not path.exists()
        fd = super().open(path, flags)
        inode = os.fstat(fd).st_ino
        file = self._new_file(inode) if is_new else self._files_by_inode[inode]
        self._open_files[fd] = path, file
        if is_new:
            self.log.append(FileOp("create", path, file))
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        del self._open_files[fd]

    def write(self, fd: int, data: ReadableBuffer, byte_offset: int) -> int:
        self._check_alive()
        taken = super().write(fd, data, byte_offset)
        self._note("write", fd, byte_offset, bytes(data[:taken]))
        return taken

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        self._check_alive()
        super().ftruncate(fd, size_bytes)
        self._note("truncate", fd, size_bytes)

    def fdatasync(self, fd: int) -> None:
        self._check_alive()
        self._note("sync", fd)

    def rename(self, source: Path, target: Path) -> None:
        self._check_alive()
        super().rename(source, target)
        self.log.append(FileOp("rename", source, target=target))

    def unlink(self, path: Path) -> None:
        self._check_alive()
        super().unlink(path)
        self.log.append(FileOp("unlink", path))

    def mkdir(self, path: Path) -> None:
        self._check_alive()
        super().mkdir(path)
        self.log.append(FileOp("mkdir", path))

    def rmdir(self, path: Path) -> None:
        self._check_alive()
        super().rmdir(path)
        self.log.append(FileOp("rmdir", path))

    def fsync_dir(self, path: Path) -> None:
        self._check_alive()
        self.log.append(FileOp("sync_dir", path))

    def _check_alive(self) -> None:
        if self.killed_after is not None and len(self.log) >= self.killed_after:
            raise Killed

    def _new_file(self, inode: int) -> int:
        # An inode number is used again after an unlink that may not be durable yet.
        self._files_count += 1
        self._files_by_inode[inode] = self._files_count
        return self._files_count

    def _note(self, kind: str, fd: int, byte_offset: int = 0, data: bytes = b"") -> None:
        path, file = self._open_files[fd]
        self.log.append(FileOp(kind, path, file, byte_offset, data))


def disk_after_kill(ops: Sequence[FileOp], start: Path, target: Path) -> None:
    """Build in `target` what `start` held when the process was killed after `ops`."""
    disk = _Disk(ops, start)
    disk.settle_names(lambda pending: len(pending))
    disk.settle_contents(lambda: True)
    _build(disk.root, target)


def disk_after_power_loss(
    ops: Sequence[FileOp], start: Path, target: Path, rng: random.Random
) -> None:
    """Build in `target` one of the states in which a power loss after `ops` may leave `start`."""
    disk = _Disk(ops, start)
    disk.settle_names(lambda pending: rng.randint(0, len(pending)))
    kept_share = rng.choice((0.0, 0.5, 0.9, 1.0))
    disk.settle_contents(lambda: rng.random() < kept_share)
    _build(disk.root, target)


@dataclass(eq=False)
class _File:
    content: bytearray = field(default_factory=bytearray)
    unsynced: list[FileOp] = field(default_factory=list)


@dataclass(eq=False)
class _Directory:
    """Its names as a running process sees them, and as they are durable."""

    names: dict[str, _File | _Directory] = field(default_factory=dict)
    durable_names: dict[str, _File | _Directory] = field(default_factory=dict)


@dataclass(eq=False)
class _NameChange:
    """`node` loses its old name, gets its new one, or both at once."""

    node: _File | _Directory
    old: tuple[_Directory, str] | None
    new: tuple[_Directory, str] | None

    def settle(self) -> None:
        if self.old is not None:
            directory, name = self.old
            directory.durable_names.pop(name, None)
        if self.new is not None:
            directory, name = self.new
            directory.durable_names[name] = self.node

    @property
    def directories(self) -> list[_Directory]:
        return [place[0] for place in (self.old, self.new) if place is not None]


class _Disk:
    """What is durable, and what is not yet, after some operations below `start`."""

    def __init__(self, ops: Sequence[FileOp], start: Path) -> None:
        self.root = _Directory()
        self._start = start
        self._files: dict[int, _File] = {}
        self._unsynced_names: list[_NameChange] = []
        for op in ops:
            self._do(op)

    def settle_names(self, kept: Callable[[list[_NameChange]], int]) -> None:
        """Make durable, for each directory, as many of its oldest changes as `kept` says."""
        for directory in {id(d): d for c in self._unsynced_names for d in c.directories}.values():
            pending = [c for c in self._unsynced_names if directory in c.directories]
            self._settle_names(pending[: kept(pending)])

    def settle_contents(self, keep: Callable[[], bool]) -> None:
        """Take those sectors of the unsynced writes for which `keep` is true."""
        for file in self._files.values():
            _settle_content(file, keep)

    def _do(self, op: FileOp) -> None:
        if op.kind == "create":
            self._files[op.file] = _File()
            self._change(_NameChange(self._files[op.file], None, self._place(op.path)))
        elif op.kind == "mkdir":
            self._change(_NameChange(_Directory(), None, self._place(op.path)))
        elif op.kind in ("unlink", "rmdir"):
            self._change(_NameChange(self._node(op.path), self._place(op.path), None))
        elif op.kind == "rename":
            assert op.target is not None
            node, target = self._node(op.path), self._place(op.target)
            self._change(_NameChange(node, self._place(op.path), target))
        elif op.kind == "sync_dir":
            directory = self._node(op.path)
            self._settle_names([c for c in self._unsynced_names if directory in c.directories])
        elif op.kind == "sync":
            _settle_content(self._files[op.file], lambda: True)
        else:
            self._files[op.file].unsynced.append(op)

    def _change(self, change: _NameChange) -> None:
        if change.old is not None:
            directory, name = change.old
            del directory.names[name]
        if change.new is not None:
            directory, name = change.new
            directory.names[name] = change.node
        self._unsynced_names.append(change)

    def _settle_names(self, changes: list[_NameChange]) -> None:
        for change in changes:
            change.settle()
            self._unsynced_names.remove(change)

    def _node(self, path: Path) -> _File | _Directory:
        node: _File | _Directory = self.root
        for name in path.relative_to(self._start).parts:
            assert isinstance(node, _Directory)
            node = node.names[name]
        return node

    def _place(self, path: Path) -> tuple[_Directory, str]:
        parent = self._node(path.parent)
        assert isinstance(parent, _Directory)
        return parent, path.name


def _settle_content(file: _File, keep: Callable[[], bool]) -> None:
    for op in file.unsynced:
        if op.kind == "truncate":
            if keep():
                _resize(file.content, op.byte_offset)
            continue
        for start, piece in _sectors(op.byte_offset, op.data):
            if keep():
                _resize(file.content, max(len(file.content), start + len(piece)))
                file.content[start : start + len(piece)] = piece
    file.unsynced = []


def _build(directory: _Directory, target: Path) -> None:
    target.mkdir(parents=True)
    for name, node in directory.durable_names.items():
        if isinstance(node, _Directory):
            _build(node, target / name)
        else:
            (target / name).write_bytes(node.content)


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _sectors(start: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        taken = SECTOR_BYTES - (start + position) % SECTOR_BYTES
        yield start + position, data[position : position + taken]
        position += taken
