"""A stop that is waited for, and one that is not: `run` owns its process's signals."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

from tests.headrace_process import HeadraceProcess

# Serves with a companion whose stop takes longer than anybody waits.
PROGRAM = """
import logging, sys, threading
from pathlib import Path
from headrace.server.options import ServeOptions
from headrace.server.run import run

class Stubborn:
    name = "stubborn"
    def start(self):
        pass
    def stop(self, timeout_s):
        print("told to stop", flush=True)
        threading.Event().wait()

logging.basicConfig(level=logging.INFO, format="%(message)s")
options = ServeOptions(Path(sys.argv[1]), http_port=0, grpc_port=None)
run(options, lambda serving: print("ready", flush=True), lambda service: [Stubborn()])
"""


def stubborn_process(data: Path) -> HeadraceProcess:
    return HeadraceProcess(str(data), command=(sys.executable, "-c", PROGRAM))


def test_a_second_ctrl_c_ends_the_process_at_once(tmp_path: Path) -> None:
    with stubborn_process(tmp_path) as process:
        process.wait_for_stdout(re.compile("^ready$"))
        process.send(signal.SIGINT)
        process.wait_for_stdout(re.compile("^told to stop$"))
        assert process.stop(signal.SIGINT) == 130
        assert "second Ctrl-C: ending now" in process.all_stderr()


def test_a_second_sigterm_does_not_hurry(tmp_path: Path) -> None:
    with stubborn_process(tmp_path) as process:
        process.wait_for_stdout(re.compile("^ready$"))
        process.send(signal.SIGTERM)
        process.wait_for_stdout(re.compile("^told to stop$"))
        process.send(signal.SIGTERM)
        assert process.stop(signal.SIGINT) == 130
