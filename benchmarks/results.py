"""What is one figure, and how is it kept? As one JSON line beside its rival's."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

RESULTS_FOLDER = Path(__file__).parent / "results"


class Figure(msgspec.Struct, frozen=True):
    """One comparison of one run.

    Attributes:
        what: what was done.
        ratio: Headrace against the rival; where `better` is "higher", above 1 means ahead.
        target: the ratio that is aimed at; None where none is set.
        better: which way the ratio improves.
        unit: of both raw figures.
        headrace: Headrace's raw figure.
        rival: the rival's raw figure.
        rival_name: the package and its version.
        data: what it was done with, such as "synthetic 100,000 x 128".
        recall: Headrace's recall@10 against exact; None where nothing is searched.
        rival_recall: the rival's.
    """

    what: str
    ratio: float
    target: float | None
    better: Literal["higher", "lower"]
    unit: str
    headrace: float
    rival: float
    rival_name: str
    data: str
    recall: float | None = None
    rival_recall: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the target, if there is one, is reached."""
        if self.target is None:
            return True
        return self.ratio >= self.target if self.better == "higher" else self.ratio <= self.target


class Run(msgspec.Struct, frozen=True):
    """What all figures of a run have in common.

    Attributes:
        commit: of the code measured, with "+changes" if it was not committed.
        machine: processor, cores, memory and Python.
        started_at: UTC, ISO 8601.
    """

    commit: str
    machine: str
    started_at: str


def describe_run() -> Run:
    """This machine, this code, now."""
    return Run(_commit(), _machine(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def write_results(folder: Path, run: Run, figures: Sequence[Figure]) -> Path:
    """One file for the run, one line for each figure; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.started_at.replace(':', '')}-{run.commit[:12]}.jsonl"
    lines = [
        msgspec.json.encode(msgspec.to_builtins(figure) | msgspec.to_builtins(run))
        for figure in figures
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def read_results(path: Path) -> tuple[Run, list[Figure]]:
    """The run and the figures of a file."""
    lines = path.read_bytes().splitlines()
    return msgspec.json.decode(lines[0], type=Run), [
        msgspec.json.decode(line, type=Figure) for line in lines
    ]


def _commit() -> str:
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        changes = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+changes" if changes else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
