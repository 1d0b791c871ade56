"""The page on embedding says what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.client.arrays import ArrayCollection

PAGE = (Path(__file__).parent.parent.parent / "docs" / "embedded.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_its_programs_print_what_it_says(program: str, output: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == (output, "")


def test_every_program_has_its_output() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == 3


def test_its_table_of_methods_is_complete() -> None:
    named = set(re.findall(r"^\| `(\w+)\(", PAGE, re.M))
    methods = {
        name
        for name, value in vars(ArrayCollection).items()
        if callable(value) and not name.startswith("_")
    }
    assert named == methods
