"""Requests that schemathesis makes from the OpenAPI document are answered as it says.

Each operation gets those of its coverage phase (every property, bound and alternative in
turn) and random ones, as the document wants them and as it does not. Whatever comes in, the
answer is no fault of the server's, and valid for its status code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.contract.contract import operations, violations
from tests.contract.operation_documents import COLLECTIONS, VECTOR_SIZE, operation_document
from tests.server.rest.rest_server import Rest

OPERATIONS = sorted(operations(), key=lambda one: (one[1], one[0]))

# Where a single node refuses whatever it is asked.
REFUSED = {
    ("POST", "/cluster/recover"),
    ("DELETE", "/cluster/peer/{peer_id}"),
    ("POST", "/collections/{collection_name}/cluster"),
    ("PUT", "/collections/{collection_name}/shards"),
    ("POST", "/collections/{collection_name}/shards/delete"),
}
# Where success takes what no document can describe: a file, or the name of one.
NAMED_BY_FILES = ("/snapshots/", "/recover", "/upload")


@dataclass(frozen=True)
class Effort:
    """How much is sent to each operation.

    Attributes:
        coverage_step: of the coverage phase, every so manieth request is sent.
        coverage_max: no more of them are made.
        valid_max: how many random requests as the document wants them.
        invalid_max: how many that are not; they take longest to make.
    """

    coverage_step: int
    coverage_max: int
    valid_max: int
    invalid_max: int


QUICK = Effort(coverage_step=20, coverage_max=200, valid_max=4, invalid_max=0)
THOROUGH = Effort(coverage_step=6, coverage_max=6_000, valid_max=100, invalid_max=60)


@pytest.fixture
def filled(rest: Rest) -> Iterator[None]:
    """The collections that fitted requests name; whatever requests make is taken away."""
    before = collection_names(rest)
    for name, vectors in zip(COLLECTIONS, (named_vectors(), plain_vector()), strict=True):
        rest.result("PUT", f"/collections/{name}", vectors)
        fill(rest, name, is_named="sparse_vectors" in vectors)
    yield
    rest.result("PUT", "/quotas", {})
    for name in collection_names(rest) - before:
        rest.http.delete("/collections/" + quoted(name))
    for one in rest.result("GET", "/snapshots"):
        rest.result("DELETE", f"/snapshots/{quoted(one['name'])}")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_generated_requests_are_answered_as_the_document_says(
    rest: Rest, filled: None, method: str, path: str
) -> None:
    assert send_generated(rest, method, path, QUICK).total() > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_very_many_generated_requests_are_answered_as_the_document_says(
    rest: Rest,
    filled: None,
    record_property: Callable[[str, object], None],
    method: str,
    path: str,
) -> None:
    record_property("statuses", dict(send_generated(rest, method, path, THOROUGH)))


def send_generated(rest: Rest, method: str, path: str, effort: Effort) -> Counter[int]:
    """How often each status was the answer."""
    statuses: Counter[int] = Counter()

    def send(case: Any) -> None:
        request = case.as_transport_kwargs(base_url=rest.url)
        response = case.call(base_url=rest.url)
        statuses[response.status_code] += 1
        answered = httpx.Response(
            response.status_code, content=response.content, headers=content_type(response)
        )
        assert response.status_code < 500, (request, response.text)
        # Of a method that is not the operation's, the document says nothing.
        if case.method.upper() == method:
            assert violations(method, path, answered) == [], (request, response.text)

    for is_fitted, mode, random_max in (
        (True, GenerationMode.POSITIVE, effort.valid_max),
        (False, GenerationMode.NEGATIVE, effort.invalid_max),
    ):
        schema, operation = loaded(method, path, is_fitted)
        coverage = coverage_of(schema, operation, mode)
        for case in islice(coverage, 0, effort.coverage_max, effort.coverage_step):
            send(case)
        if random_max:
            send_random(operation, mode, random_max, send)
    if (method, path) not in REFUSED and not any(one in path for one in NAMED_BY_FILES):
        # One that is there already was to be made as it should.
        assert statuses[200] + statuses[409] > 0, statuses
    return statuses


def coverage_of(schema: Any, operation: Any, mode: GenerationMode) -> Iterator[Any]:
    return iter(
        schema.iter_coverage_cases(
            operation,
            generation_modes=[mode],
            generation_config=schema.config.generation_for(operation=operation),
        )
    )


def send_random(
    operation: Any, mode: GenerationMode, examples: int, send: Callable[[Any], None]
) -> None:
    if mode.is_negative and not (operation.body or any(operation.iter_parameters())):
        return

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        send(case)

    try:
        run()
    except Unsatisfiable:
        # Any text is a good name of a collection, so nothing can be wrong with such a request.
        assert mode.is_negative


def loaded(method: str, path: str, is_fitted: bool) -> tuple[Any, Any]:
    schema = schemathesis.openapi.from_dict(operation_document(method, path, is_fitted=is_fitted))
    return schema, schema[path][method]


def named_vectors() -> dict[str, Any]:
    size = {"size": VECTOR_SIZE, "distance": "Dot"}
    return {
        "vectors": {
            "dense": size,
            "multi": {**size, "multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"sparse": {}},
    }


def plain_vector() -> dict[str, Any]:
    return {"vectors": {"size": VECTOR_SIZE, "distance": "Cosine"}}


def fill(rest: Rest, name: str, *, is_named: bool) -> None:
    """Ten points with a value of every kind, and indexes that some requests need."""
    for field, kind in (("color", "keyword"), ("n", "integer"), ("price", "float")):
        index = {"field_name": field, "field_schema": kind}
        rest.result("PUT", f"/collections/{name}/index", index)
    points = []
    for number in range(10):
        dense = [number + 1.0, 1.0, 0.5, -number]
        sparse = {"indices": [number, 50], "values": [1.0, 0.5]}
        named = {"dense": dense, "multi": [dense, dense[::-1]], "sparse": sparse}
        payload = {
            "color": ["red", "green"][number % 2],
            "n": number,
            "price": number / 4,
            "at": f"2024-01-{number + 1:02}T00:00:00Z",
            "place": {"lon": number, "lat": 50},
            "text": "the quick brown fox",
            "nested": [{"x": number}, {"x": "y"}],
        }
        points.append({"id": number, "vector": named if is_named else dense, "payload": payload})
    rest.result("PUT", f"/collections/{name}/points?wait=true", {"points": points})


def collection_names(rest: Rest) -> set[str]:
    return {one["name"] for one in rest.result("GET", "/collections")["collections"]}


def quoted(name: str) -> str:
    return str(httpx.QueryParams({"": name}))[1:].replace("+", "%20")


def content_type(response: Any) -> dict[str, str]:
    return {"content-type": ",".join(response.headers.get("content-type", ()))}
