"""Do the kernels of each generation of processors say what plain C says?"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import headrace.engine.vector_index

_HERE = Path(__file__).parent
_SECONDS_MAX = 120


@pytest.mark.parametrize("level", ["-O2", "-O3"])
def test_kernels_agree_with_plain_c(tmp_path: Path, level: str) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    program = tmp_path / "kernels_agree"
    sources = Path(headrace.engine.vector_index.__file__).parent
    made = subprocess.run(
        [compiler, level, f"-I{sources}", "-o", str(program), str(_HERE / "kernels_agree.c")],
        capture_output=True,
        text=True,
        timeout=_SECONDS_MAX,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    said = subprocess.run(
        [program], capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
    )
    assert said.returncode == 0, said.stdout
    assert "processor" in said.stdout.split()
