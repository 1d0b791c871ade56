"""Thousands of broken requests: each is refused by name or answered, none is our fault."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.server.log_position import last_seq_no
from tests.server.rest import malformed_http
from tests.server.rest.rest_server import Rest

VECTOR = [1.0, 0.0, 0.0, 0.0]
FILTER = {
    "must": [
        {"key": "a.b", "match": {"value": 1}},
        {"key": "a[]", "range": {"gt": 1, "lte": "2020-01-01"}},
        {"nested": {"key": "n", "filter": {"must_not": [{"is_null": {"key": "x"}}]}}},
        {"has_id": [1, 2]},
    ],
    "should": {"key": "g", "geo_radius": {"center": {"lon": 1, "lat": 2}, "radius": 3}},
    "min_should": {"conditions": [{"slice": {"total": 4, "index": 1}}], "min_count": 1},
}
QUERY = {
    "prefetch": [{"query": VECTOR, "filter": FILTER, "limit": 5}],
    "query": {"formula": {"sum": ["$score", {"mult": [0.5, "price"]}]}, "defaults": {"price": 1}},
    "limit": 3,
    "params": {"hnsw_ef": 10, "exact": True},
    "with_payload": {"include": ["a"]},
}
POINTS = {
    "points": [
        {"id": 1, "vector": VECTOR, "payload": {"a": [1, {"b": None}]}},
        {"id": "550e8400-e29b-41d4-a716-446655440000", "vector": {"": VECTOR}},
    ],
    "update_filter": FILTER,
    "update_mode": "upsert",
}
GROUP = {"group_by": "a[].b", "with_lookup": {"collection": "c", "with_payload": ["a"]}}
CHANGE = {
    "vectors": {"": {"hnsw_config": {"m": 16}, "on_disk": True}},
    "optimizers_config": {"deleted_threshold": 0.5},
    "hnsw_config": {"ef_construct": 100},
    "strict_mode_config": {"enabled": False, "sparse_config": {"s": {"max_length": 1}}},
    "metadata": {"a": {"b": None}},
    "quantization_config": "Disabled",
}
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/points/query", QUERY),
    ("POST", "/points/query", {"query": {"recommend": {"positive": [1], "negative": [VECTOR]}}}),
    ("POST", "/points/query", {"query": {"nearest": 1, "mmr": {"diversity": 0.5}}}),
    ("POST", "/points/query/batch", {"searches": [QUERY, {"query": 1}]}),
    ("POST", "/points/scroll", {"filter": FILTER, "limit": 3, "order_by": {"key": "price"}}),
    ("POST", "/points/count", {"filter": FILTER, "exact": True}),
    ("POST", "/points", {"ids": [1, 2], "with_payload": ["a"], "with_vector": [""]}),
    ("PUT", "/points", POINTS),
    ("PUT", "/points", {"batch": {"ids": [1, 2], "vectors": [VECTOR] * 2, "payloads": [{}, {}]}}),
    ("POST", "/points/delete", {"filter": FILTER}),
    ("PUT", "/points/vectors", {"points": [{"id": 1, "vector": VECTOR}]}),
    ("POST", "/points/vectors/delete", {"points": [1], "vector": [""]}),
    ("POST", "/points/payload", {"payload": {"a": 1}, "points": [1], "key": "a[0].b"}),
    ("PUT", "/points/payload", {"payload": {"a": 1}, "filter": FILTER}),
    ("POST", "/points/payload/delete", {"keys": ["a.b", "c[]"], "points": [1]}),
    ("POST", "/points/payload/clear", {"points": [1]}),
    ("POST", "/points/batch", {"operations": [{"upsert": POINTS}, {"delete": {"points": [1]}}]}),
    ("PUT", "/index", {"field_name": "price", "field_schema": {"type": "float"}}),
    (
        "PUT",
        "/index",
        {"field_name": "t", "field_schema": {"type": "text", "stopwords": "english"}},
    ),
    ("POST", "/points/query/groups", {**QUERY, "group_by": "a", "with_lookup": "c"}),
    ("POST", "/points/search", {"vector": {"name": "", "vector": VECTOR}, "limit": 3}),
    ("POST", "/points/search/batch", {"searches": [{"vector": VECTOR, "top": 3}]}),
    ("POST", "/points/search/groups", {"vector": VECTOR, "limit": 1, "group_size": 1} | GROUP),
    ("POST", "/points/recommend", {"positive": [1], "strategy": "best_score", "limit": 3}),
    (
        "POST",
        "/points/recommend/groups",
        {"positive": [VECTOR], "limit": 1, "group_size": 1} | GROUP,
    ),
    (
        "POST",
        "/points/discover",
        {"target": 1, "context": [{"positive": 1, "negative": 2}], "limit": 3},
    ),
    ("POST", "/facet", {"key": "a", "limit": 3, "filter": FILTER, "exact": True}),
    ("POST", "/points/search/matrix/pairs", {"sample": 10, "limit": 3, "using": ""}),
    ("POST", "/points/search/matrix/offsets", {"sample": 10, "filter": FILTER}),
    ("PATCH", "", CHANGE),
    ("PUT", "/vectors/v", {"dense": {"size": 4, "distance": "Dot"}}),
    ("POST", "/cluster", {"drop_replica": {"shard_id": 0, "peer_id": 0}}),
    ("PUT", "/shards", {"shard_key": "k", "shards_number": 1}),
    ("POST", "/shards/0/points/scroll", {"hash_ring_filter": {"expected_shard_id": 0}}),
]
ODD_VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 2**64, -(2**63) - 1, 1e39, "", "x", "$score[9]", "a..b", [], {},
    [[]], [None], {"": 0}, {"key": "a"}, [1, [2]], "\x00", "2020-13-01", 2**63, VECTOR, FILTER,
]  # fmt: skip


def mutated(value: Any, chance: random.Random) -> Any:
    """`value` with one to three of its parts replaced, dropped, doubled or renamed."""
    value = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        containers = [one for one in walk(value) if one]
        if not containers:
            return chance.choice(ODD_VALUES)
        container = chance.choice(containers)
        places = list(container) if isinstance(container, dict) else range(len(container))
        place = chance.choice(list(places))
        match chance.randint(0, 3):
            case 0:
                del container[place]
            case 1 if isinstance(container, dict):
                container[chance.choice(["filter", "points", "x", "query"])] = container[place]
            case 1:
                container.append(container[place])
            case _:
                container[place] = copy.deepcopy(chance.choice(ODD_VALUES))
    return value


def walk(value: Any) -> list[Any]:
    if not isinstance(value, (dict, list)):
        return []
    children = value.values() if isinstance(value, dict) else value
    return [value, *(inner for child in children for inner in walk(child))]


def encoded(body: Any, chance: random.Random) -> bytes:
    """As JSON, one in ten of them damaged."""
    text = json.dumps(body).encode()
    if chance.random() < 0.1:
        cut = chance.randrange(len(text))
        text = text[:cut] + chance.choice([b"", b"\xff", b"\x00", b"]", b'"']) + text[cut + 1 :]
    return text


@pytest.mark.parametrize("route", ["/points/delete", "/points/payload/clear"])
@pytest.mark.parametrize("clause", ["must", "must_not"])
def test_a_condition_without_an_operator_is_refused_before_it_deletes_anything(
    rest: Rest, collection: str, route: str, clause: str
) -> None:
    path = f"/collections/{collection}"
    points = [{"id": 1, "vector": VECTOR, "payload": {"a": 1}}]
    rest.result("PUT", f"{path}/points?wait=true", {"points": points})
    status, text = rest.error("POST", path + route, {"filter": {clause: [{"key": "a"}]}})
    assert status == 422
    assert "At least one field condition must be specified" in text
    assert rest.result("GET", f"{path}/points/1")["payload"] == {"a": 1}


CALLERS_FAULT = {200, 202, 400, 403, 404, 405, 409, 411, 413, 414, 415, 422, 429, 431}


# A similarity beyond float32 is infinite, which is no fault.
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("seed", range(4))
def test_malformed_requests_are_never_a_fault_of_ours(
    rest: Rest, collection: str, bystander: Bystander, seed: int
) -> None:
    statuses = send_malformed(rest, collection, seed, rounds=250)
    assert {200, 400, 404, 422} <= {*statuses}
    bystander.check()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_ten_thousand_malformed_requests_are_never_a_fault_of_ours(
    rest: Rest,
    collection: str,
    bystander: Bystander,
    record_property: Callable[[str, object], None],
) -> None:
    statuses = send_malformed(rest, collection, seed=20240607, rounds=10_000)
    # Some of those that are not HTTP end their connection without an answer.
    assert statuses.total() > 9_500
    record_property("statuses", dict(statuses))
    bystander.check()


class Bystander:
    """A collection that no request names, and which must stay as it is."""

    def __init__(self, rest: Rest, name: str) -> None:
        self._rest = rest
        self._name = name
        points = [{"id": n, "vector": VECTOR, "payload": {"n": n}} for n in range(50)]
        rest.result("PUT", f"/collections/{name}/points?wait=true", {"points": points})
        self._before = self._all()

    def check(self) -> None:
        assert self._all() == self._before

    def _all(self) -> Any:
        page = {"limit": 100, "with_vector": True}
        return self._rest.result("POST", f"/collections/{self._name}/points/scroll", page)


@pytest.fixture
def bystander(rest: Rest, new_collection: Callable[..., str]) -> Bystander:
    return Bystander(rest, new_collection())


def send_malformed(rest: Rest, collection: str, seed: int, rounds: int) -> Counter[int]:
    """Send requests that are broken in all ways; returns how often each status came.

    What is refused has changed nothing: no record was appended to the collection's log.
    """
    chance = random.Random(seed)
    statuses: Counter[int] = Counter()
    base = f"/collections/{collection}"
    url = httpx.URL(rest.url)
    for _ in range(rounds):
        method, path, body = chance.choice(REQUESTS)
        seq_no = last_seq_no(rest.service, collection)
        if chance.random() < 0.05:
            sent: Any = malformed_http.odd_framing(base + path, chance)
            answers = malformed_http.statuses_of(url.host, url.port or 0, sent)
        else:
            sent = raw_request(method, base + path, body, chance)
            answers = [send(rest, sent)]
        assert {*answers} <= CALLERS_FAULT, (answers, sent)
        if not {*answers} & {200, 202}:
            assert last_seq_no(rest.service, collection) == seq_no, (answers, sent)
        statuses.update(answers)
        # What a request may have set, such as a limit of strict mode, must not hide the rest.
        if 429 in answers or chance.random() < 0.01:
            relaxed = {"strict_mode_config": {"enabled": False}}
            rest.result("PATCH", base, relaxed)
    assert rest.result("GET", base)["status"] in ("green", "yellow")
    return statuses


def raw_request(method: str, path: str, body: Any, chance: random.Random) -> malformed_http.Raw:
    headers = {"content-type": "application/json"}
    match chance.randrange(10):
        case 0 | 1:
            content, headers = malformed_http.odd_body(body, chance)
            return malformed_http.Raw(method, path, content, headers)
        case 2:
            target = malformed_http.odd_target(path, chance)
            return malformed_http.Raw(method, target, json.dumps(body).encode(), headers)
        case _:
            return malformed_http.Raw(method, path, encoded(mutated(body, chance), chance), headers)


def send(rest: Rest, request: malformed_http.Raw) -> int:
    # Targets go out as they are: httpx would mend them.
    raw = httpx.URL(rest.url).copy_with(raw_path=request.target.encode())
    response = rest.http.request(
        request.method, raw, content=request.content, headers=request.headers
    )
    return response.status_code
