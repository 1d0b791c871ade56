"""What is kept of a collection besides its points?"""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.engine.storage.file_ops import FILE_OPS, FileOps
from headrace.engine.storage.files import read_document
from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import CorruptFile

COLLECTION_DOCUMENT = "collection.doc"


class CollectionDocument(msgspec.Struct, frozen=True):
    """The content of collection.doc: the true name, which its directory may only hint at."""

    name: str
    config: CollectionConfig


def read_collection_document(directory: Path, ops: FileOps = FILE_OPS) -> CollectionDocument:
    """The document in a collection's directory.

    Raises:
        CorruptFile: it is missing or damaged.
        StorageFailed: the system cannot read it.
    """
    path = directory / COLLECTION_DOCUMENT
    try:
        return read_document(path, CollectionDocument, ops=ops)
    except FileNotFoundError:
        raise CorruptFile(str(path), 0, "the document of a collection", "no file") from None
