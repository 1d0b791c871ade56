"""How does a program that we start never outlive us?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Runs in a Python of its own, which then becomes the program: a `preexec_fn` would run
# Python code in a copy of a process whose other threads may hold locks. The request for
# the signal survives exec. The parent may have died before it, hence the check after it.
_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
parent_pid, command = int(sys.argv[1]), sys.argv[2:]
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
if os.getppid() == parent_pid:
    os.execvp(command[0], command)
"""


def start_bound(
    command: Sequence[str | Path],
    *,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that the kernel kills when the calling thread ends.

    So the caller should be a thread that outlives the program, as a rule the main one.
    Only Linux can do this; elsewhere the program is started plainly. The program has a
    session of its own: a Ctrl-C in the terminal does not reach it.

    Args:
        command: the program, by path or found in PATH, and its arguments.
        stdout, stderr: as `subprocess.Popen` takes them.
        environment: the program's environment; None gives it ours.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
    return subprocess.Popen(
        [*(launcher if sys.platform == "linux" else ()), *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=None if environment is None else dict(environment),
        start_new_session=True,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a program, and wait until it is gone; one that has ended is left alone."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
