"""Log lines: one each, in UTC, on stderr."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from headrace.cli.logs import LogLevel, configure_logging


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    handlers, level, uvicorn_level = root.handlers[:], root.level, uvicorn.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    uvicorn.setLevel(uvicorn_level)


def test_a_line_says_when_how_bad_where_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO)
    logging.getLogger("headrace.sink").warning("lag=%d", 3)
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING headrace\.sink: lag=3\n", said.err
    )


def test_the_level_is_the_least_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.WARNING)
    logging.getLogger("headrace").info("not said")
    logging.getLogger("headrace").warning("said")
    assert "not said" not in (text := capsys.readouterr().err)
    assert "said" in text


def test_the_web_server_tells_its_own_life_only_to_who_debugs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogLevel.INFO)
    logging.getLogger("uvicorn.error").info("Started server process")
    assert capsys.readouterr().err == ""
