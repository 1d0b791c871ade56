"""Log lines: one each, in UTC, on stderr."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from headrace.server.logs import (
    LogFormat,
    LogLevel,
    change_format,
    configure_logging,
    current_format,
    fields,
)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "httpx", "httpcore")]
    handlers, levels = loggers[0].handlers[:], [logger.level for logger in loggers]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


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


def test_fields_stand_behind_the_text_as_names_and_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogLevel.INFO)
    logging.getLogger("headrace").info("slow request", extra=fields(status=200, request_id="a-1"))
    assert capsys.readouterr().err.endswith("headrace: slow request status=200 request_id=a-1\n")


def test_a_json_line_has_its_fields_as_members(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO, LogFormat.JSON)
    logger = logging.getLogger("headrace")
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        logger.exception("it %s", "failed", extra=fields(request_id="a-1", status=500))
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    line = json.loads(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("exception").endswith("RuntimeError: first\nsecond")
    assert line == {
        "level": "ERROR",
        "logger": "headrace",
        "message": "it failed",
        "request_id": "a-1",
        "status": 500,
    }


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_nothing_that_is_logged_begins_a_line_of_its_own(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogLevel.INFO, log_format)
    name = "c\n2026-01-01T00:00:00.000Z INFO headrace: all keys were given away\x1b[2J\u2028"
    logging.getLogger("headrace").info("slow request", extra=fields(collection=name))
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_the_format_can_change_while_lines_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogLevel.INFO)
    assert current_format() is LogFormat.TEXT
    change_format(LogFormat.JSON)
    assert current_format() is LogFormat.JSON
    logging.getLogger("headrace").info("said")
    assert json.loads(capsys.readouterr().err)["message"] == "said"


def test_no_url_is_logged_that_may_hold_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    for level in LogLevel:
        configure_logging(level)
        logging.getLogger("httpx").info("HTTP Request: GET http://user:secret@x/?token=secret")
    assert capsys.readouterr().err == ""
