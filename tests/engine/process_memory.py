"""What a process of its own takes of memory: ours holds whatever earlier tests left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]

# Put before every measured program.
PRELUDE = """
import sys

def memory_bytes(field):
    # VmRSS: resident now; VmHWM: the most that ever was.
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return 1024 * int(fields[field].split()[0])
"""


def run_measured(program: str, *arguments: object, timeout_s: int = 600) -> dict[str, float]:
    """Run a program whose last line of output is a JSON object of figures."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, float])
