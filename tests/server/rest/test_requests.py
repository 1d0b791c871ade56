"""What surrounds every route: envelope, errors, parameters, limits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.model.errors import ErrorCode, HeadraceError, RateLimited, Unavailable
from headrace.server.errors import WIRE_STATUS
from headrace.server.rest.receiving import BODY_BYTES_MAX
from headrace.service.service import Service
from tests.server.rest.rest_server import Rest

JSON = {"content-type": "application/json"}


def test_every_error_code_has_a_status_in_both_protocols() -> None:
    assert set(WIRE_STATUS) == set(ErrorCode)


def test_the_root_names_the_version_whose_api_is_spoken(rest: Rest) -> None:
    answer = rest.http.get("/").json()
    assert answer["title"] == "qdrant - vector search engine"
    assert answer["version"] == "1.19.0"
    assert len(answer["commit"]) == 40


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/healthz", "healthz check passed"),
        ("/livez", "healthz check passed"),
        ("/readyz", "all shards are ready"),
    ],
)
def test_probes_answer_in_plain_text(rest: Rest, path: str, text: str) -> None:
    response = rest.http.get(path)
    assert (response.status_code, response.text) == (200, text)
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/collections/a/points/query/x"),
        ("PATCH", "/collections/a/points"),
        ("POST", "/collections"),
        ("DELETE", "/"),
    ],
)
def test_unknown_routes_and_wrong_methods_are_an_empty_404(
    rest: Rest, method: str, path: str
) -> None:
    response = rest.http.request(method, rest.url + path)
    assert (response.status_code, response.content) == (404, b"")


def test_a_slash_at_the_end_is_trimmed(rest: Rest) -> None:
    assert rest.result("GET", "/collections/") == rest.result("GET", "/collections")
    assert rest.http.get("/healthz/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("POST", "/points/query", {}),
        ("POST", "/points/query/batch", {"searches": []}),
        ("POST", "/points/scroll", {}),
        ("POST", "/points/count", {}),
        ("POST", "/points", {"ids": []}),
        ("GET", "/points/1", None),
        ("PUT", "/points", {"points": []}),
        ("POST", "/points/delete", {"points": []}),
        ("POST", "/points/batch", {"operations": []}),
        ("PUT", "/index", {"field_name": "a", "field_schema": "keyword"}),
        ("DELETE", "/index/a", None),
        ("POST", "/points/scroll", {"shard_key": "a"}),
    ],
)
def test_a_missing_collection_is_a_404(rest: Rest, method: str, path: str, body: Any) -> None:
    assert rest.error(method, f"/collections/missing{path}", body) == (
        404,
        "Not found: Collection `missing` doesn't exist!",
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/points/scroll?timeout=x", {"limit": 0}, 422),
        ("POST", "/points/scroll?timeout=x", {"limit": -1}, 400),
        ("POST", "/points/scroll?timeout=0", {}, 400),
        ("PUT", "/points?wait=1", {"points": [{}]}, 400),
        ("PUT", "/points?wait=1", {"points": []}, 400),
    ],
)
def test_body_and_parameters_are_judged_before_the_collection_is_looked_for(
    rest: Rest, method: str, path: str, body: Any, status: int
) -> None:
    assert rest.error(method, f"/collections/missing{path}", body)[0] == status


def test_the_body_is_judged_before_the_query_string(rest: Rest, collection: str) -> None:
    _, text = rest.error("POST", f"/collections/{collection}/points/scroll?timeout=x", {"limit": 0})
    assert text.startswith("Validation error in JSON body: [scroll_request.limit: value 0 invalid")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("wait=1", "provided string was not `true` or `false`"),
        ("wait=", "provided string was not `true` or `false`"),
        ("wait=True", "provided string was not `true` or `false`"),
        ("ordering=x", "unknown variant `x`, expected one of `weak`, `medium`, `strong`"),
        ("timeout=0", "invalid value: integer `0`, expected a nonzero u64"),
        ("timeout=-1", "invalid digit found in string"),
        ("timeout=", "cannot parse integer from empty string"),
        ("wait=true&wait=true", "duplicate field `wait`"),
    ],
)
def test_parameters_of_a_write_are_checked(
    rest: Rest, collection: str, query: str, reason: str
) -> None:
    path = f"/collections/{collection}/points/delete?{query}"
    assert rest.error("POST", path, {"points": []}) == (
        400,
        f"Deserialize error in query parameters: {reason}",
    )


@pytest.mark.parametrize(
    "query", ["consistency=1", "consistency=majority", "consistency=", "timeout=5", "other=1"]
)
def test_good_parameters_of_a_read_are_taken(rest: Rest, collection: str, query: str) -> None:
    rest.result("POST", f"/collections/{collection}/points/count?{query}", {})


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_timeout_may_be_as_long_as_a_number_can_say(
    rest: Rest, collection: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.server.rest.endpoint.IN_PLACE_POINTS_MAX", -1)
    body: Any = {"points": []} if method == "PUT" else {"ids": []}
    rest.result(method, f"/collections/{collection}/points?timeout={2**64 - 1}", body)


@pytest.mark.parametrize("query", ["consistency=0", "consistency=some"])
def test_bad_consistencies_are_refused(rest: Rest, collection: str, query: str) -> None:
    status, text = rest.error("POST", f"/collections/{collection}/points/count?{query}", {})
    assert status == 400
    assert text.startswith("Deserialize error in query parameters: failed to deserialize")


def test_a_timeout_of_zero_breaks_a_rule_where_collections_change(rest: Rest) -> None:
    assert rest.error("DELETE", "/collections/missing?timeout=0") == (
        422,
        "Validation error in query parameters: [timeout: value 0 invalid, must be 1 or larger]",
    )


@pytest.mark.parametrize("content", [b"", b"{", b"{} x", b'{"a":NaN}', b"\xff", b'{"limit":1e400}'])
def test_what_is_not_json_is_a_format_error(rest: Rest, collection: str, content: bytes) -> None:
    path = f"/collections/{collection}/points/scroll"
    status, text = rest.error("POST", path, content=content, headers=JSON)
    assert status == 400
    assert text.startswith("Format error in JSON body: ")
    assert " at line 1 column " in text


@pytest.mark.parametrize("depth", [129, 100_000])
def test_json_nested_too_deep_is_a_format_error(rest: Rest, collection: str, depth: int) -> None:
    for path in ("points/scroll", "points/query", "points/delete"):
        status, text = rest.error(
            "POST",
            f"/collections/{collection}/{path}",
            content=b'{"filter":' + b"[" * depth + b"]" * depth + b"}",
            headers=JSON,
        )
        assert status == 400
        assert text.startswith("Format error in JSON body: ")


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/x-json2"}]
)
def test_a_body_must_be_of_a_json_type(
    rest: Rest, collection: str, headers: dict[str, str]
) -> None:
    path = f"/collections/{collection}/points/scroll"
    status, text = rest.error("POST", path, content=b"{}", headers=headers)
    assert (status, "Content type error" in text) == (400, True)


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "application/vnd.a+json"]
)
def test_json_types_with_parameters_or_a_suffix_are_taken(
    rest: Rest, collection: str, media_type: str
) -> None:
    path = f"/collections/{collection}/points/scroll"
    rest.result("POST", path, content=b"{}", headers={"content-type": media_type})


def test_a_body_over_the_limit_is_refused_declared_or_not(rest: Rest, collection: str) -> None:
    path = f"/collections/{collection}/points/scroll"

    def chunks() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 2**20 + 1):
            yield b" " * 2**20

    for content in (b" " * (BODY_BYTES_MAX + 1), chunks()):
        status, text = rest.error("POST", path, content=content, headers=JSON)
        assert status == 400
        assert "larger than allowed" in text


def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Service, "count", fail)
    monkeypatch.setattr(Service, "scroll_pieces", fail)
    for path in ("/collections/{0}/points/count", "/collections/{0}/points/scroll"):
        status, text = rest.error("POST", path.format(collection), {})
        assert status == 500
        assert text.startswith("Service internal error: ")
        assert "secret" not in text


def test_a_rate_limit_says_when_to_come_back(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error: HeadraceError = RateLimited("too many", retry_after_s=7)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Service, "scroll_pieces", fail)
    path = f"/collections/{collection}/points/scroll"
    response = rest.call("POST", path, {})
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    error = Unavailable("not now")
    assert rest.error("POST", path, {}) == (503, "not now")


def test_a_read_that_takes_longer_than_its_timeout_is_a_408(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(Service, "scroll_pieces", lambda *_: release.wait(30))
    monkeypatch.setattr("headrace.server.rest.endpoint.IN_PLACE_POINTS_MAX", -1)
    path = f"/collections/{collection}/points/scroll?timeout=1"
    status, text = rest.error("POST", path, {})
    release.set()
    assert (status, text) == (408, "Timeout: Operation timed out after 1 seconds")


def test_a_write_that_takes_longer_than_its_timeout_goes_on(
    rest: Rest, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, written = threading.Event(), threading.Event()
    write = Service.write

    def slow(self: Service, *arguments: Any) -> int:
        release.wait(30)
        seq_no = write(self, *arguments)
        written.set()
        return seq_no

    monkeypatch.setattr(Service, "write", slow)
    path = f"/collections/{collection}/points?wait=true&timeout=1"
    body = {"points": [{"id": 1, "vector": [1, 0, 0, 0]}]}
    assert rest.result("PUT", path, body) == {"status": "wait_timeout"}
    release.set()
    assert written.wait(30)
    assert rest.result("POST", f"/collections/{collection}/points/count", {}) == {"count": 1}
