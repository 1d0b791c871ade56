"""How is a request shown to who looks for what made it slow?

As the caller sent it, but for what is long: numbers in a row are counted, texts and lists are
cut. Only requests about points are shown; the one place where they may hold a key, the options
of a model, shows the names of its members alone.
"""

from __future__ import annotations

from typing import Any

import orjson

# Longer bodies are told by their size alone: decoding them takes a while itself.
_BODY_BYTES_MAX = 2**20

_NUMBERS_MAX = 8
_ELEMENTS_MAX = 32
_TEXT_CHARS_MAX = 256

_CUT = "..."

# What a model is told may be a key to it.
_MODEL_OPTIONS = "options"


def body_shape(body: bytes) -> Any:
    """A JSON body, shortened; None for none."""
    if not body:
        return None
    if len(body) > _BODY_BYTES_MAX:
        return f"<{len(body)} bytes>"
    try:
        return shortened(orjson.loads(body))
    except orjson.JSONDecodeError:
        return "<no JSON>"


def shortened(value: Any) -> Any:
    """A JSON value of bounded length."""
    if isinstance(value, str):
        return value if len(value) <= _TEXT_CHARS_MAX else value[:_TEXT_CHARS_MAX] + _CUT
    if isinstance(value, list):
        if len(value) > _NUMBERS_MAX and all(type(one) in (int, float) for one in value):
            return f"<{len(value)} numbers>"
        shown = [shortened(one) for one in value[:_ELEMENTS_MAX]]
        return shown if len(value) <= _ELEMENTS_MAX else [*shown, f"<{len(value)} in all>"]
    if isinstance(value, dict):
        members = list(value.items())[:_ELEMENTS_MAX]
        shown_members = {
            name[:_TEXT_CHARS_MAX]: (_hidden(one) if name == _MODEL_OPTIONS else shortened(one))
            for name, one in members
        }
        return shown_members if len(value) <= _ELEMENTS_MAX else {**shown_members, _CUT: len(value)}
    return value


def _hidden(options: Any) -> Any:
    """The names of the options alone."""
    if not isinstance(options, dict):
        return _CUT
    return {name[:_TEXT_CHARS_MAX]: _CUT for name in list(options)[:_ELEMENTS_MAX]}
