"""A map stays for as long as anything may read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Its own handler is registered first, so it runs after all others.
_READS_AT_EXIT = """
import atexit, os, sys
held = []
atexit.register(lambda: print(bytes(held[0][:5]).decode()))
from headrace.engine.storage.mapped_memory import map_for_reading
fd = os.open(sys.argv[1], os.O_RDONLY)
held.append(map_for_reading(fd, os.fstat(fd).st_size))
os.close(fd)
"""


def test_a_map_can_be_read_until_the_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"bytes" * 1000)
    done = subprocess.run(
        [sys.executable, "-c", _READS_AT_EXIT, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "bytes\n")
