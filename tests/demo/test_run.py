"""The demo as its user runs it: the whole command, in a process of its own."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.demo.child_process import kill, start_bound
from headrace.demo.formats import SPARSE
from headrace.demo.searches import SEARCHES
from headrace.demo.stream import BAD_RECORDS
from tests.stream.harness import PATIENCE_S, produce, rest_client, wait_until

LAST_LINE = re.compile(
    r"demo: records=16968 points=16860 "
    rf"dead_letters={len(BAD_RECORDS)} searches={len(SEARCHES)} seconds=\d+\.\d"
)


class DemoProcess:
    """`headrace demo`, whose output goes to a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        headrace = Path(sys.executable).parent / "headrace"
        environment = {"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error"}
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = start_bound(
                [headrace, "demo", *arguments],
                stdout=stdout,
                stderr=stderr,
                environment=environment,
            )

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        return self._stdout.read_text().splitlines()

    @property
    def errors(self) -> str:
        """What it has said on stderr so far."""
        return self._stderr.read_text()

    def wait_for(self, beginning: str) -> str:
        """The line that begins like this, once it is printed."""
        wait_until(
            lambda: (
                self.process.poll() is not None
                or any(one.startswith(beginning) for one in self.lines)
            ),
            f"a line that begins with {beginning}",
        )
        return next(one for one in self.lines if one.startswith(beginning))


def broker_answers(bootstrap_servers: str) -> bool:
    try:
        AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0}).list_topics(timeout=1)
    except KafkaException:
        return False
    return True


def test_demo_ends_with_its_figures_and_leaves_nothing_behind(
    tmp_path: Path, tansu_bootstrap_servers: str
) -> None:
    demo = DemoProcess(tmp_path)
    try:
        assert demo.process.wait(PATIENCE_S) == 0, demo.errors
    finally:
        kill(demo.process)
    assert LAST_LINE.fullmatch(demo.lines[-1])
    assert demo.errors == ""
    assert {one.name for one in tmp_path.iterdir()} == {"stdout", "stderr"}
    assert not broker_answers(demo.wait_for("embedded broker on ").split()[-1])


def test_interrupted_demo_stops_cleanly(tmp_path: Path, tansu_bootstrap_servers: str) -> None:
    demo = DemoProcess(tmp_path)
    try:
        demo.wait_for("records in ")
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(PATIENCE_S) == 130
    finally:
        kill(demo.process)
    assert demo.errors == ""
    assert {one.name for one in tmp_path.iterdir()} == {"stdout", "stderr"}
    assert not broker_answers(demo.wait_for("embedded broker on ").split()[-1])


def test_kept_demo_serves_what_its_hints_say(tmp_path: Path, tansu_bootstrap_servers: str) -> None:
    demo = DemoProcess(tmp_path, "--keep")
    try:
        assert LAST_LINE.fullmatch(demo.wait_for("demo: "))
        curl = shlex.split(demo.wait_for("  curl "))
        answer = httpx.post(
            curl[2], content=curl[-1], headers={"Content-Type": "application/json"}
        ).raise_for_status()
        assert len(answer.json()["result"]["points"]) == 3
        client = shlex.split(demo.wait_for("  python "))
        shown = subprocess.run([sys.executable, *client[1:]], capture_output=True, check=True)
        assert shown.stdout.count(b"ScoredPoint(") == 3
        kcat = shlex.split(demo.wait_for("  echo "))
        produce(kcat[kcat.index("-b") + 1], kcat[-1], [(None, kcat[1].encode())])
        with rest_client(demo.wait_for("  REST ").split()[-1]) as rest:
            wait_until(lambda: bool(rest.retrieve(SPARSE, [10_000])), "the airport of one's own")
        demo.process.send_signal(signal.SIGTERM)
        assert demo.process.wait(PATIENCE_S) == 0
    finally:
        kill(demo.process)
    assert Path(demo.wait_for("  data ").split()[-1]).is_dir()
