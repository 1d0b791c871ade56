"""Archives that a stranger made: nothing outside the collection's directory is touched."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from crc32c import crc32c

from headrace.engine.engine import Engine
from headrace.engine.segment.checkpoint import Manifest
from headrace.engine.snapshot.archive import (
    ArchiveReader,
    InvalidSnapshot,
    SnapshotHeader,
    Source,
    StoredCollection,
    never_stops,
    write_archive,
)
from headrace.engine.snapshot.restore import restore_directory, restore_new_directory
from headrace.engine.storage.file_ops import FILE_OPS
from headrace.engine.storage.files import decode_document, encode_document
from headrace.model.errors import NoSpace, NotFound
from tests.crash.test_engine_crash import state_of
from tests.engine.snapshot.collections import filled_engine
from tests.engine.storage.faulty_file_ops import FaultyFileOps

BLOCK = tarfile.BLOCKSIZE


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("good")
    engine = filled_engine(directory, "c")
    path = engine.snapshots.find("c", engine.create_snapshot("c").name)
    engine.close()
    return path


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = filled_engine(tmp_path / "outer" / "data", "c", ops=FaultyFileOps())
    yield engine
    engine.close()


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
        for path in directory.rglob("*")
    }


def assert_refused(engine: Engine, archive: Path) -> None:
    """Restoring it fails, and changes nothing anywhere."""
    before = tree(engine.directory.parent)
    state = state_of(engine.collection("c"))
    for name in ("c", "new"):
        with pytest.raises(InvalidSnapshot):
            engine.restore_collection(name, archive)
    assert state_of(engine.collection("c")) == state
    assert tree(engine.directory.parent) == before


def members_of(archive: Path) -> list[Source]:
    """All members but the first."""
    with ArchiveReader(archive) as reader:
        return [Source(member.name, b"".join(chunks)) for member, chunks in reader.members()]


def written(path: Path, sources: list[Source]) -> Path:
    """An archive whose checksums are right."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    write_archive(fd, False, [StoredCollection("c", 1)], sources, FILE_OPS, never_stops)
    os.close(fd)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "0/../../evil",
        "0/data/../../../evil",
        "0/data/..",
        "0/data/.hidden",
        "0/data/a/b",
        "1/collection.doc",
        "00/collection.doc",
        "0/wal/00000000000000000001.wal",
        "lock",
        "aliases.doc",
        "0/data/nul\0.data",
        "0/data/back\\slash",
        "",
    ],
)
def test_a_member_whose_name_leads_elsewhere_is_refused(
    good: Path, engine: Engine, tmp_path: Path, name: str
) -> None:
    sources = [*members_of(good), Source(name, b"evil")]
    assert_refused(engine, written(tmp_path / "evil.snapshot", sources))


def written_full(path: Path, sources: list[Source]) -> Path:
    """As `written`, an archive of a whole directory."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    write_archive(fd, True, [StoredCollection("c", 1)], sources, FILE_OPS, never_stops)
    os.close(fd)
    return path


def document_of(content: bytes) -> bytes:
    """A document whose checksum is right, whatever is in it."""
    content += b"\n"
    return b"headrace-document 1 %08x %d\n" % (crc32c(content), len(content)) + content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("aliases.doc", b"evil"),
        ("aliases.doc", document_of(b"[1]")),
        ("source_positions.doc", document_of(b'{"a":1}')),
        ("settings-quotas.doc", document_of(b"[" * 100_000)),
        ("settings-quotas.doc", document_of(b"[1")),
    ],
)
def test_documents_that_are_none_are_refused(
    good: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    sources = [Source(name, content), *members_of(good)]
    archive = written_full(tmp_path / "evil.snapshot", sources)
    with pytest.raises(InvalidSnapshot):
        restore_new_directory(archive, tmp_path / "new", FaultyFileOps())
    assert list(tmp_path.iterdir()) == [archive]


def test_a_catalogue_in_a_snapshot_says_nothing(good: Path, tmp_path: Path) -> None:
    strangers = document_of(b'{"generation":9,"aliases":{"evil":"c"},"collections":{"x":[]}}')
    sources = [Source("catalogue.doc", strangers), *members_of(good)]
    archive = written_full(tmp_path / "evil.snapshot", sources)
    restore_new_directory(archive, tmp_path / "new", FaultyFileOps())
    engine = Engine.open(tmp_path / "new", FaultyFileOps())
    assert (engine.collection_names(), engine.aliases()) == (["c"], [])
    engine.close()


@pytest.mark.parametrize("name", ["0/collection.doc", "0/COLLECTION.DOC"])
def test_a_member_twice_is_refused(good: Path, engine: Engine, tmp_path: Path, name: str) -> None:
    sources = [*members_of(good), Source(name, b"evil")]
    assert_refused(engine, written(tmp_path / "evil.snapshot", sources))


@pytest.mark.parametrize("left_out", ["0/collection.doc", "0/checkpoint.doc"])
def test_a_missing_document_is_refused(
    good: Path, engine: Engine, tmp_path: Path, left_out: str
) -> None:
    sources = [source for source in members_of(good) if source.name != left_out]
    assert_refused(engine, written(tmp_path / "evil.snapshot", sources))


def test_a_missing_or_additional_data_file_is_refused(
    good: Path, engine: Engine, tmp_path: Path
) -> None:
    sources = members_of(good)
    assert_refused(engine, written(tmp_path / "less.snapshot", sources[:-1]))
    more = [*sources, Source("0/data/more.data", b"more")]
    assert_refused(engine, written(tmp_path / "more.snapshot", more))


def changed_manifest(good: Path, change: Callable[[Manifest], Manifest]) -> list[Source]:
    return [
        Source(
            source.name,
            encode_document(change(decode_document(_bytes(source), "", Manifest)))
            if source.name == "0/checkpoint.doc"
            else source.content,
        )
        for source in members_of(good)
    ]


def _bytes(source: Source) -> bytes:
    assert isinstance(source.content, bytes)
    return source.content


def test_a_manifest_that_names_files_elsewhere_is_refused(
    good: Path, engine: Engine, tmp_path: Path
) -> None:
    def change(manifest: Manifest) -> Manifest:
        live = msgspec.structs.replace(manifest.live, name="../../../lock")
        return msgspec.structs.replace(manifest, live=live)

    assert_refused(engine, written(tmp_path / "evil.snapshot", changed_manifest(good, change)))


@pytest.mark.parametrize("rows", [-1, 10**6, 2**62])
def test_a_manifest_that_contradicts_its_files_is_refused(
    good: Path, engine: Engine, tmp_path: Path, rows: int
) -> None:
    sources = changed_manifest(good, lambda m: msgspec.structs.replace(m, row_count=rows))
    assert_refused(engine, written(tmp_path / "evil.snapshot", sources))


def with_first_header(good: Path, change: Callable[[tarfile.TarInfo], None]) -> bytes:
    """The archive with the tar header of its second member changed."""
    content = bytearray(good.read_bytes())
    first = tarfile.TarInfo.frombuf(bytes(content[:BLOCK]), "utf-8", "strict")
    second = BLOCK + -(-first.size // BLOCK) * BLOCK
    info = tarfile.TarInfo.frombuf(bytes(content[second : second + BLOCK]), "utf-8", "strict")
    change(info)
    content[second : second + BLOCK] = info.tobuf(tarfile.GNU_FORMAT)
    return bytes(content)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
    ],
)
def test_a_member_that_is_no_plain_file_is_refused(
    good: Path, engine: Engine, tmp_path: Path, kind: bytes
) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type = kind
        info.linkname = "../../../../evil"

    path = tmp_path / "evil.snapshot"
    path.write_bytes(with_first_header(good, change))
    assert_refused(engine, path)


def test_a_length_other_than_declared_is_refused(
    good: Path, engine: Engine, tmp_path: Path
) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.size = 2**40

    path = tmp_path / "evil.snapshot"
    path.write_bytes(with_first_header(good, change))
    assert_refused(engine, path)


def test_a_declared_terabyte_takes_no_room(good: Path, engine: Engine, tmp_path: Path) -> None:
    with ArchiveReader(good) as reader:
        header = reader.header
    huge = [msgspec.structs.replace(member, bytes_count=2**50) for member in header.members]
    document = encode_document(SnapshotHeader(1, False, header.collections, huge))
    info = tarfile.TarInfo("snapshot.doc")
    info.size = len(document)
    path = tmp_path / "bomb.snapshot"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + document + bytes(-len(document) % BLOCK))
    before = tree(engine.directory)
    with pytest.raises(NoSpace):
        engine.restore_collection("new", path)
    assert tree(engine.directory) == before


def test_a_header_that_claims_gigabytes_is_not_read(engine: Engine, tmp_path: Path) -> None:
    info = tarfile.TarInfo("snapshot.doc")
    info.size = 2**33
    path = tmp_path / "bomb.snapshot"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 2**33 + 4 * BLOCK)
    assert_refused(engine, path)


def test_a_compressed_archive_is_refused(good: Path, engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "bomb.snapshot"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("snapshot.doc")
        info.size = 10 * 2**20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    assert_refused(engine, path)


def test_a_link_in_the_place_of_an_archive_is_refused(
    good: Path, engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "link.snapshot"
    path.symlink_to(good)
    with pytest.raises(Exception, match="opening"):
        engine.restore_collection("new", path)
    os.mkfifo(tmp_path / "fifo.snapshot")
    assert_refused(engine, tmp_path / "fifo.snapshot")


def test_bytes_behind_the_end_are_refused(good: Path, engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "longer.snapshot"
    path.write_bytes(good.read_bytes() + bytes(BLOCK))
    assert_refused(engine, path)


def test_two_collections_of_one_name_make_no_directory(good: Path, tmp_path: Path) -> None:
    sources = members_of(good)
    twice = [*sources, *(Source(f"1{source.name[1:]}", source.content) for source in sources)]
    path = tmp_path / "evil.snapshot"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    stored = [StoredCollection("c", 1), StoredCollection("c", 1)]
    write_archive(fd, True, stored, twice, FILE_OPS, never_stops)
    os.close(fd)
    with pytest.raises(InvalidSnapshot):
        restore_directory(path, tmp_path / "restored", FILE_OPS, never_stops)


def flip_bits(good: Path, engine: Engine, tmp_path: Path, flips: int) -> None:
    """Each flipped bit is found, but for those that tar does not give a meaning to."""
    rng = random.Random(4)
    content = good.read_bytes()
    state = state_of(engine.collection("c"))
    path = tmp_path / "flipped.snapshot"
    for _ in range(flips):
        bit = rng.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(InvalidSnapshot):
            engine.restore_collection("c", path)
    assert state_of(engine.collection("c")) == state


def test_200_flipped_bits_in_an_archive_are_found(
    good: Path, engine: Engine, tmp_path: Path
) -> None:
    flip_bits(good, engine, tmp_path, 200)


def test_an_archive_cut_anywhere_is_refused(good: Path, engine: Engine, tmp_path: Path) -> None:
    content = good.read_bytes()
    path = tmp_path / "cut.snapshot"
    for length in {*range(0, len(content), 7919), len(content) - 1, len(content) - 1024}:
        path.write_bytes(content[:length])
        with pytest.raises(InvalidSnapshot):
            engine.restore_collection("c", path)


@pytest.mark.parametrize(
    "name",
    [
        *("../x.snapshot", "..", ".", "", "a/b.snapshot", "a\\b.snapshot", "\0.snapshot", "CON"),
        *("x" * 300 + ".snapshot", ".making-x.snapshot", "%2e%2e%2fx.snapshot"),
        *("\ud800.snapshot", "c", "link.snapshot", "folder.snapshot"),
    ],
)
def test_a_name_never_leads_out_of_the_snapshots(engine: Engine, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outer" / "data" / "x.snapshot"
    outside.write_bytes(b"not to be had")
    folder = tmp_path / "outer/data/snapshots"
    engine.create_snapshot("c")
    (folder / "folder.snapshot").mkdir()
    (folder / "link.snapshot").symlink_to(outside)
    for collection_name in (None, "c", "../data"):
        with pytest.raises(NotFound):
            engine.snapshots.find(collection_name, name)
        with pytest.raises(NotFound):
            engine.snapshots.delete(collection_name, name)
    assert engine.snapshots.list(None) == []
    assert outside.read_bytes() == b"not to be had"
