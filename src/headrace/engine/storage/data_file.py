"""How are large arrays kept in files that can be mapped, and known to be undamaged?

A data file is written once, synced, and never changed. Its content starts at a page
border, so it can be mapped and used as an array; behind it stands a CRC-32C for each
block. Whoever refers to the file keeps its length and the checksum of those checksums,
so a missing, cut, stale or swapped file is told from the right one. The bytes are
described in `docs/formats/checkpoint.md`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from crc32c import crc32c

from headrace.engine.storage.file_ops import (
    FILE_OPS,
    FileOps,
    ReadableBuffer,
    storage_error,
    write_all,
)
from headrace.engine.storage.mapped_memory import drop_pages, map_for_reading
from headrace.model.errors import CorruptFile

_MAGIC = b"HRDATA01"
_HEADER = struct.Struct("<8sIIQ")
_CONTENT_START = 4096
# Small enough that a damaged place is named closely, large enough that the checksums of a
# gigabyte take 4 KiB.
_BLOCK_BYTES = 2**20

# Blocks of a cold file that are verified before their memory is given back.
_BLOCKS_PER_DROP = 16


class DataFileRef(msgspec.Struct, frozen=True):
    """What must be known of a data file to trust it.

    Attributes:
        name: its name within the directory of its kind.
        content_bytes: length of the content.
        checksum: CRC-32C of the header and the block checksums.
    """

    name: str
    content_bytes: int
    checksum: int


def write_data_file(
    directory: Path, name: str, parts: Iterable[ReadableBuffer], ops: FileOps = FILE_OPS
) -> DataFileRef:
    """Write the parts, one behind the other, as a new file; its bytes are durable then.

    The name is durable once the caller has synced the directory. On failure the file is
    removed.

    Raises:
        NoSpace: the disk is full.
        StorageFailed: the system refused.
    """
    path = directory / name
    try:
        fd = ops.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except OSError as error:
        raise storage_error(error, f"creating {path}") from error
    try:
        content_bytes, checksums = _write_blocks(fd, parts, ops)
        header = _HEADER.pack(_MAGIC, 1, _BLOCK_BYTES, content_bytes)
        table = struct.pack(f"<{len(checksums)}I", *checksums)
        checksum = crc32c(table, crc32c(header))
        write_all(ops, fd, table + struct.pack("<I", checksum), _CONTENT_START + content_bytes)
        write_all(ops, fd, header, 0)
        ops.fdatasync(fd)
    except BaseException as error:
        remove_data_file(path, ops)
        if isinstance(error, OSError):
            raise storage_error(error, f"writing {path}") from error
        raise
    finally:
        ops.close(fd)
    return DataFileRef(name, content_bytes, checksum)


def map_data_file(directory: Path, ref: DataFileRef, is_cold: bool = False) -> memoryview:
    """The content of a data file, mapped read only, after every block was verified.

    The map holds no descriptor.

    Args:
        directory: where it is.
        ref: what `write_data_file` returned.
        is_cold: whether no memory is to be left taken by having verified it.

    Raises:
        CorruptFile: the file is missing, is another one, or a block is damaged.
        StorageFailed: the system cannot read it.
    """
    mapped = _map(directory / ref.name)
    for damage in _find_damage(directory / ref.name, mapped, ref, is_cold):
        raise damage
    return mapped[_CONTENT_START : _CONTENT_START + ref.content_bytes]


def find_damage(directory: Path, ref: DataFileRef) -> list[CorruptFile]:
    """Everything that is wrong with a data file; of a damaged block, where it begins.

    Raises:
        StorageFailed: the system cannot read it.
    """
    path = directory / ref.name
    try:
        return list(_find_damage(path, _map(path), ref))
    except CorruptFile as damage:
        return [damage]


def read_undamaged(directory: Path, ref: DataFileRef) -> tuple[bytearray, list[tuple[int, int]]]:
    """What is left of a data file: its content, with zeros in the place of damaged blocks.

    Returns:
        The content, and the stretches of it that are lost, as (begin, end) in bytes.

    Raises:
        StorageFailed: the system cannot read it.
    """
    path = directory / ref.name
    everything = (bytearray(ref.content_bytes), [(0, ref.content_bytes)])
    try:
        mapped = _map(path)
    except CorruptFile:
        return everything
    content_end = _CONTENT_START + ref.content_bytes
    places = [damage.byte_offset for damage in _find_damage(path, mapped, ref)]
    blocks = -(-ref.content_bytes // _BLOCK_BYTES)
    if len(mapped) != content_end + 4 * blocks + 4 or content_end in places:
        # Without the checksums of the blocks nothing can be told.
        return everything
    # What stands before the content is known beforehand: damage there costs nothing.
    starts = [place - _CONTENT_START for place in places if place >= _CONTENT_START]
    content = bytearray(mapped[_CONTENT_START : _CONTENT_START + ref.content_bytes])
    lost = [(start, min(start + _BLOCK_BYTES, ref.content_bytes)) for start in starts]
    for begin, end in lost:
        content[begin:end] = bytes(end - begin)
    return content, lost


def remove_data_file(path: Path, ops: FileOps = FILE_OPS) -> None:
    """Remove a file that nothing refers to; a failure only leaves it for the next time."""
    try:
        ops.unlink(path)
    except OSError:
        return


def _write_blocks(fd: int, parts: Iterable[ReadableBuffer], ops: FileOps) -> tuple[int, list[int]]:
    """Write the content; returns its length and the checksum of each block."""
    checksums: list[int] = []
    content_bytes, in_block, checksum = 0, 0, 0
    for part in parts:
        rest = memoryview(part).cast("B")
        while rest:
            piece = rest[: _BLOCK_BYTES - in_block]
            write_all(ops, fd, piece, _CONTENT_START + content_bytes)
            checksum = crc32c(piece, checksum)
            content_bytes += len(piece)
            in_block += len(piece)
            rest = rest[len(piece) :]
            if in_block == _BLOCK_BYTES:
                checksums.append(checksum)
                in_block, checksum = 0, 0
    if in_block:
        checksums.append(checksum)
    return content_bytes, checksums


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _CONTENT_START:
                raise CorruptFile(str(path), 0, f"{_CONTENT_START} bytes or more", f"{size}")
            return map_for_reading(file.fileno(), size)
    except FileNotFoundError:
        raise CorruptFile(str(path), 0, "a data file", "no file") from None
    except OSError as error:
        raise storage_error(error, f"mapping {path}") from error


def _find_damage(
    path: Path, mapped: memoryview, ref: DataFileRef, is_cold: bool = False
) -> Iterator[CorruptFile]:
    """What is wrong, in order; blocks are only looked at where their checksums hold."""
    blocks = -(-ref.content_bytes // _BLOCK_BYTES)
    table_start = _CONTENT_START + ref.content_bytes
    expected_size = table_start + 4 * blocks + 4
    if len(mapped) != expected_size:
        place = min(len(mapped), expected_size)
        yield CorruptFile(str(path), place, f"{expected_size} bytes", f"{len(mapped)}")
        return
    header = _HEADER.pack(_MAGIC, 1, _BLOCK_BYTES, ref.content_bytes)
    if mapped[: _HEADER.size] != header:
        yield CorruptFile(str(path), 0, header.hex(), mapped[: _HEADER.size].hex())
    if any(mapped[_HEADER.size : _CONTENT_START]):
        yield CorruptFile(str(path), _HEADER.size, "zeros up to the content", "other bytes")
    table = mapped[table_start : expected_size - 4]
    stored = mapped[expected_size - 4 :]
    checksum = crc32c(table, crc32c(header))
    if checksum != ref.checksum or stored != struct.pack("<I", checksum):
        yield CorruptFile(str(path), table_start, f"checksum {ref.checksum:08x}", f"{checksum:08x}")
        return
    for number, (wanted,) in enumerate(struct.iter_unpack("<I", table)):
        begin = _CONTENT_START + number * _BLOCK_BYTES
        found = crc32c(mapped[begin : min(begin + _BLOCK_BYTES, table_start)])
        if is_cold and number % _BLOCKS_PER_DROP == _BLOCKS_PER_DROP - 1:
            drop_pages(mapped, begin - (_BLOCKS_PER_DROP - 1) * _BLOCK_BYTES, begin + _BLOCK_BYTES)
        if found != wanted:
            yield CorruptFile(str(path), begin, f"checksum {wanted:08x}", f"{found:08x}")
    if is_cold:
        drop_pages(mapped, 0, len(mapped))
