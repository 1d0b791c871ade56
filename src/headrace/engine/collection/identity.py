"""By what is a collection told from any other of its name, and from an older copy of itself?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from crc32c import crc32c

from headrace.engine.collection.document import COLLECTION_DOCUMENT
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.wal_scan import KnownLogs, read_log_id
from headrace.model.errors import CorruptFile

WAL_DIRECTORY = "wal"


class Identity(msgspec.Struct, frozen=True):
    """What is known of a collection from outside of it.

    Attributes:
        log_id: of its log, hexadecimal.
        document: the CRC-32C of its `collection.doc`, which never changes.
        checkpoint: the generation of a durable checkpoint; 0 if there was none.
        seq_no: of a durable write.
    """

    log_id: str
    document: int
    checkpoint: int
    seq_no: int


# By log id, what there may be in one directory.
Identities = Mapping[str, Identity]


def known_logs(identities: Identities | None) -> KnownLogs | None:
    """Which logs there may be; None if that is not known."""
    if identities is None:
        return None
    return {log_id: one.seq_no for log_id, one in identities.items()}


def generation_min(identities: Identities | None) -> int:
    """The generation of a checkpoint that there must be; 0 if there may be none."""
    return min((one.checkpoint for one in (identities or {}).values()), default=0)


def read_identity(collection: Path, ops: FileOps = FILE_OPS, seq_no: int = 0) -> Identity:
    """The identity of the collection in a directory, whatever its checkpoint is.

    Args:
        collection: the directory.
        ops: the file operations to use.
        seq_no: of a durable write.

    Raises:
        CorruptFile: its document or its log is missing or damaged.
        StorageFailed: the system cannot read them.
    """
    log_id = read_log_id(collection / WAL_DIRECTORY)
    return Identity(log_id, document_checksum(collection, ops), 0, seq_no)


def document_checksum(collection: Path, ops: FileOps = FILE_OPS) -> int:
    """The CRC-32C of the file `collection.doc` in a directory.

    Raises:
        CorruptFile: it is missing.
        StorageFailed: the system cannot read it.
    """
    path = collection / COLLECTION_DOCUMENT
    try:
        return crc32c(ops.read_file(path))
    except FileNotFoundError:
        raise CorruptFile(str(path), 0, "the document of a collection", "no file") from None
    except OSError as error:
        raise storage_error(error, f"reading {path}") from error
