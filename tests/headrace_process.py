"""How does a test run the command line as a process of its own, bounded in time?"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import IO, Self

HEADRACE = str(Path(sys.executable).with_name("headrace"))
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

_SERVING = re.compile(r"^serving: REST (?P<rest>\S+)(?: gRPC (?P<grpc>\S+))? data (?P<data>.+)$")


class HeadraceProcess:
    """A running `headrace` (or another program that prints its ready line); killed at the end.

    Attributes:
        stderr_text: what it has logged so far.
    """

    def __init__(
        self,
        *arguments: str,
        command: Sequence[str] = (HEADRACE,),
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=clean_environment(environment),
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdout_lines: Queue[str | None] = Queue()
        self._stderr_lines: Queue[str | None] = Queue()
        self.stderr_text = ""
        for stream, lines in (
            (self._process.stdout, self._stdout_lines),
            (self._process.stderr, self._stderr_lines),
        ):
            threading.Thread(target=_pump, args=(stream, lines), daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_until_serving(self) -> re.Match[str]:
        """The groups `rest`, `grpc` and `data` of its ready line."""
        return self.wait_for_stdout(_SERVING)

    def wait_for_stdout(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """The first line on stdout that matches."""
        while (line := self._next_line(self._stdout_lines)) is not None:
            if found := pattern.search(line):
                return found
        raise AssertionError(f"no line like {pattern.pattern!r}; it logged:\n{self.all_stderr()}")

    def wait_for_stderr(self, text: str) -> None:
        """Return once a line on stderr contains `text`."""
        while (line := self._next_line(self._stderr_lines)) is not None:
            self.stderr_text += line + "\n"
            if text in line:
                return
        raise AssertionError(f"no line with {text!r}; it logged:\n{self.stderr_text}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal; returns its exit code."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(STOP_TIMEOUT_S)

    def all_stderr(self) -> str:
        """All that it logged; ends the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
        while (line := self._next_line(self._stderr_lines)) is not None:
            self.stderr_text += line + "\n"
        return self.stderr_text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def _next_line(self, lines: Queue[str | None]) -> str | None:
        try:
            line = lines.get(timeout=START_TIMEOUT_S)
        except Empty:
            raise AssertionError(f"nothing said for {START_TIMEOUT_S} s") from None
        if line is None:
            lines.put(None)  # the end stays the end
        return line


def run_headrace(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `headrace` to its end."""
    return subprocess.run(
        [HEADRACE, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        env=clean_environment(environment),
        check=False,
    )


def clean_environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of headrace, and with what is added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1"} | dict(added or {})


def _pump(stream: IO[str], lines: Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)
