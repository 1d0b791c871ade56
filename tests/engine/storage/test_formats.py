"""The documented bytes are the written bytes."""

import os
import re
from pathlib import Path
from typing import get_args

import pytest

from headrace.engine.storage.files import write_document
from headrace.engine.storage.wal import Wal
from headrace.engine.storage.wal_scan import wal_file_paths
from headrace.model.operations import Operation

FORMATS = Path(__file__).parents[3] / "docs" / "formats"
HEX_LINE = re.compile(r"^    ([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)$", re.MULTILINE)


def documented_log() -> bytes:
    data = b""
    for byte_offset, pairs in HEX_LINE.findall((FORMATS / "wal.md").read_text()):
        assert int(byte_offset, 16) == len(data)
        data += bytes.fromhex(pairs)
    return data


def test_a_log_is_written_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: bytes(range(count)))
    wal = Wal.create(tmp_path / "wal")
    wal.append(1, b"one")
    wal.append(2, b"two!")
    wal.sync()
    wal.close()
    (path,) = wal_file_paths(tmp_path / "wal")
    assert path.read_bytes() == documented_log()


def test_the_documented_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000001.wal").write_bytes(documented_log())
    wal = Wal.open(tmp_path, create=False)
    assert [(seq_no, bytes(body)) for seq_no, body in wal.replay()] == [(1, b"one"), (2, b"two!")]
    wal.close()


def test_a_document_is_written_as_documented(tmp_path: Path) -> None:
    write_document(tmp_path / "document", {"name": "a", "count": 3})
    lines = (tmp_path / "document").read_text().splitlines()
    assert "".join(f"    {line}\n" for line in lines) in (FORMATS / "documents.md").read_text()


def test_the_operations_of_a_log_are_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (FORMATS / "wal.md").read_text(), re.MULTILINE)
    documented = dict(rows)
    for operation in get_args(Operation):
        members = documented.pop(operation.__struct_config__.tag)
        for field in operation.__struct_fields__:
            assert f"`{field}`" in members
    assert set(documented) <= {"WREC", "WEND", "WNXT"}
