"""What is shown of a slow request is short and holds no keys."""

from __future__ import annotations

import orjson

from headrace.server.request_shape import body_shape


def test_long_values_are_counted_or_cut() -> None:
    body = {"query": [0.5] * 300, "text": "x" * 1000, "ids": [str(one) for one in range(40)]}
    shape = body_shape(orjson.dumps(body))
    assert shape["query"] == "<300 numbers>"
    assert shape["text"] == "x" * 256 + "..."
    assert shape["ids"][-1] == "<40 in all>"


def test_options_of_models_show_their_names_alone() -> None:
    query = {"text": "x", "model": "m", "options": {"openai-api-key": "SECRET", "k": {"deep": 1}}}
    shape = body_shape(orjson.dumps({"prefetch": [{"query": query}], "limit": 3}))
    assert shape["prefetch"][0]["query"]["options"] == {"openai-api-key": "...", "k": "..."}
    assert shape["limit"] == 3
    assert body_shape(b'{"options":"SECRET"}') == {"options": "..."}


def test_what_is_no_json_or_very_long_is_told_as_such() -> None:
    assert body_shape(b"") is None
    assert body_shape(b"{") == "<no JSON>"
    assert body_shape(b'"' + b"x" * 2**20 + b'"') == f"<{2**20 + 2} bytes>"
