"""How each ending of a command becomes an exit code, in one place."""

from __future__ import annotations

import pytest

from headrace.cli import main as main_module
from headrace.cli.failures import CommandFailed
from headrace.model.errors import DirectoryInUse


def exit_code_after(ending: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> object:
    def end(prog_name: str) -> None:
        if ending is not None:
            raise ending

    monkeypatch.setattr(main_module, "app", end)
    with pytest.raises(SystemExit) as exiting:
        main_module.main()
    return exiting.value.code


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [
        (None, 0),
        (SystemExit(0), 0),
        (SystemExit(2), 1),  # what typer ends with after a wrong command line
        (SystemExit(130), 130),
        (CommandFailed("no", 2), 2),
        (CommandFailed("no", 3), 3),
        (DirectoryInUse("data", 7), 3),
        (RuntimeError("a defect"), 2),
    ],
    ids=repr,
)
def test_an_ending_has_its_exit_code(
    ending: BaseException | None, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code_after(ending, monkeypatch) == exit_code


def test_an_expected_failure_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code_after(CommandFailed("the port is taken", 3), monkeypatch)
    assert capsys.readouterr().err == "headrace: error: the port is taken\n"


def test_an_unexpected_failure_keeps_its_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exit_code_after(RuntimeError("a defect"), monkeypatch)
    assert "unexpected" in caplog.text
    assert "RuntimeError: a defect" in caplog.text
