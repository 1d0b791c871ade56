"""Every field of every request is read, refused by name, or known to say nothing here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.test_docs import code_spans, table

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 240

# What one node satisfies whatever is asked; see docs/compatibility.md.
ENVELOPE = {"ordering", "read_consistency"}
ENVELOPE_MESSAGES = {"WriteOrdering", "ReadConsistency"}


def test_fields_that_are_not_read_are_documented(tmp_path: Path) -> None:
    unread = {
        tuple(field.removeprefix("qdrant.").rsplit(".", 1)) for field in unread_fields(tmp_path)
    }
    hints = {
        (message, name)
        for message, name in unread
        if name not in ENVELOPE and message not in ENVELOPE_MESSAGES
    }
    rows = table("docs/compatibility.md", "field of a message")
    documented = {
        tuple(field.rsplit(".", 1))
        for row in rows
        for field in code_spans(row["field of a message"])
    }
    assert hints == documented
    # Otherwise nothing was watched.
    assert {name for _, name in unread} >= ENVELOPE


def unread_fields(directory: Path) -> list[str]:
    # Protobuf chooses its implementation once, when it is first imported.
    done = subprocess.run(
        [sys.executable, "-m", "tests.server.grpc.field_recording", str(directory)],
        cwd=ROOT,
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    unread: list[str] = json.loads(done.stdout)
    return unread
