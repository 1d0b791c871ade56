"""Do the kernels of each generation of processors say what plain C says?"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

import headrace.engine.vector_index

_SOURCE = Path(__file__).parent / "kernels_agree.c"
_HEADERS = Path(headrace.engine.vector_index.__file__).parent
_SECONDS_MAX = 120
_SANITIZERS = "-fsanitize=address,undefined"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
    )


def _compiled(source: Path, program: Path, *options: str) -> subprocess.CompletedProcess[str]:
    compiler = shlex.split(os.environ.get("CC") or "cc")
    command = [*compiler, *options, f"-I{_HEADERS}", "-o", str(program), str(source)]
    try:
        return _run(command)
    except FileNotFoundError:
        pytest.skip("there is no C compiler")


def _assert_kernels_agree(program: Path, *options: str) -> None:
    made = _compiled(_SOURCE, program, *options)
    assert made.returncode == 0, made.stderr
    said = _run([str(program)])
    assert said.returncode == 0, said.stdout + said.stderr
    assert "processor" in said.stdout.split()


@pytest.mark.parametrize("level", ["-O2", "-O3"])
def test_kernels_agree_with_plain_c(tmp_path: Path, level: str) -> None:
    _assert_kernels_agree(tmp_path / "kernels_agree", level)


def test_kernels_read_nothing_behind_their_arrays(tmp_path: Path) -> None:
    source, empty = tmp_path / "empty.c", tmp_path / "empty"
    source.write_text("int main(void) { return 0; }\n")
    if _compiled(source, empty, _SANITIZERS).returncode or _run([str(empty)]).returncode:
        pytest.skip("there are no sanitizers")
    _assert_kernels_agree(
        tmp_path / "kernels_agree", "-O1", "-g", _SANITIZERS, "-fno-sanitize-recover=all"
    )
