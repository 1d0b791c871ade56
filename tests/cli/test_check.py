"""`headrace check` and `headrace restore`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import main
from headrace.engine.engine import Engine
from tests.crash.test_engine_crash import state_of
from tests.engine.snapshot.collections import filled_engine


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["headrace", *arguments])
    with pytest.raises(SystemExit) as exiting:
        main.main()
    code = exiting.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    engine = filled_engine(tmp_path / "data", "c")
    engine.collection("c").checkpoint()
    engine.create_full_snapshot()
    engine.close()
    return tmp_path / "data"


def test_an_undamaged_directory_is_exit_0(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check", str(data)) == 0
    assert capsys.readouterr().out.endswith("bytes, no damage\n")


def test_damage_is_exit_1_and_told_with_its_place(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(data.glob("collections/c/data/*values.data"))
    content = bytearray(path.read_bytes())
    content[4096] ^= 1
    path.write_bytes(content)
    assert run(monkeypatch, "check", str(data)) == 1
    output = capsys.readouterr()
    assert f"damaged: {path} at byte 4096: expected checksum" in output.out
    assert output.err == ""
    assert run(monkeypatch, "check", "--json", str(data)) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(one["file"], one["byte_offset"]) for one in report["problems"]] == [(str(path), 4096)]
    assert set(report) == {"directory", "files", "bytes", "problems", "notes"}


def test_a_directory_that_is_none_is_a_wrong_command_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main.app, ["check", str(tmp_path)])
    assert result.exit_code == 2
    assert "`collections`" in result.stderr


def test_a_directory_is_checked_beside_its_owner(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.open(data)
    assert run(monkeypatch, "check", str(data)) == 0
    engine.close()


def test_a_full_snapshot_restores_to_a_new_directory(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    snapshot = next(data.glob("snapshots/*.snapshot"))
    restored = tmp_path / "restored"
    assert run(monkeypatch, "restore", str(snapshot), "--data", str(restored)) == 0
    assert capsys.readouterr().out == f"restored 1 collections into {restored}: c\n"
    states = []
    for directory in (data, restored):
        engine = Engine.open(directory)
        states.append(state_of(engine.collection("c")))
        engine.close()
    assert states[0] == states[1]
    assert run(monkeypatch, "restore", str(snapshot), "--data", str(restored)) == 3
    assert "is not empty" in capsys.readouterr().err
    content = bytearray(snapshot.read_bytes())
    content[-5000] ^= 1
    snapshot.write_bytes(content)
    assert run(monkeypatch, "restore", str(snapshot), "--data", str(tmp_path / "other")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "restored"]


def test_a_repair_says_what_it_left_out(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = next(data.glob("collections/c/data/*low.data"))
    content = bytearray(path.read_bytes())
    content[4096] ^= 1
    path.write_bytes(content)
    target = tmp_path / "repaired"
    assert run(monkeypatch, "repair", str(data), "--to", str(target)) == 0
    output = capsys.readouterr().out
    assert f"damaged: {path} at byte 4096" in output
    assert "collection c: left out: 0 points whose rows are damaged, and 38 rows" in output
    assert f"{target} is complete; {data} is as it was" in output
    assert run(monkeypatch, "check", str(target)) == 0
    assert run(monkeypatch, "repair", "--json", str(data), "--to", str(target)) == 3
    assert "is not empty" in capsys.readouterr().err
