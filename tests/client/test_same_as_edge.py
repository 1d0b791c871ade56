"""Headrace answers the scenario as Qdrant's own engine, step by step.

A step is compared, or it stands in one of the lists of what the engine lacks, with the
reason. Where the two differ on purpose, a step is named, and what each answers is asserted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from qdrant_client import QdrantClient, models

import headrace
from tests.client.edge_client import EDGE_REFUSALS, EdgeClient
from tests.client.scenario import STEPS, step_ids
from tests.client.steps import DEPRECATED, REFUSALS, Step, normal

_SHARD = "a shard stands alone: no server, no cluster and no other collection knows of it"
_NAMES = "a shard has a path, not a name"
_SNAPSHOTS = "a shard reads snapshots that a server made, and makes none"
_GROUPS = "groups are gathered from several queries, by the server"
_MATRIX = "a matrix is made of a sample and a query for each of its points, by the server"
LACKED_METHODS = {
    "info": _SHARD,
    "get_collections": _NAMES,
    "collection_exists": _NAMES,
    "update_collection": "a shard's parameters are given when it is opened",
    "update_collection_aliases": _NAMES,
    "get_aliases": _NAMES,
    "get_collection_aliases": _NAMES,
    "get_optimizations": "a shard is optimized when it is told to, and keeps no report",
    "query_points_groups": _GROUPS,
    "search_matrix_pairs": _MATRIX,
    "search_matrix_offsets": _MATRIX,
    "cluster_status": _SHARD,
    "cluster_telemetry": _SHARD,
    "collection_cluster_info": _SHARD,
    "cluster_collection_update": _SHARD,
    "create_shard_key": _SHARD,
    "delete_shard_key": _SHARD,
    "list_shard_keys": _SHARD,
    "recover_current_peer": _SHARD,
    "remove_peer": _SHARD,
    "create_snapshot": _SNAPSHOTS,
    "list_snapshots": _SNAPSHOTS,
    "delete_snapshot": _SNAPSHOTS,
    "recover_snapshot": _SNAPSHOTS,
    "create_shard_snapshot": _SNAPSHOTS,
    "list_shard_snapshots": _SNAPSHOTS,
    "delete_shard_snapshot": _SNAPSHOTS,
    "recover_shard_snapshot": _SNAPSHOTS,
    "create_full_snapshot": _SNAPSHOTS,
    "list_full_snapshots": _SNAPSHOTS,
    "delete_full_snapshot": _SNAPSHOTS,
}
LACKED_STEPS = {
    "get_collection-a missing collection's": _NAMES,
    "create_collection-a second time": _NAMES,
    "count-by alias": _NAMES,
    "count-of a deleted collection": _NAMES,
    "count-of no name": _NAMES,
}

_WRITES = {
    "create_collection",
    "recreate_collection",
    "create_payload_index",
    "delete_payload_index",
    "create_vector_name",
    "delete_vector_name",
    "upsert",
    "upload_points",
    "upload_collection",
    "update_vectors",
    "delete_vectors",
    "delete",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "clear_payload",
    "batch_update_points",
}
_ONE_DIMENSION = models.VectorParams(size=1, distance=models.Distance.DOT)
# Sums of float32 are rounded at other places; numbers of a payload come back one unit off.
_RELATIVE, _ABSOLUTE = 2e-4, 2e-5
_RELATIVE_IN_PAYLOAD = 1e-15


@dataclass(frozen=True)
class Refused:
    """That a step was refused, and why."""

    text: str


class Answers(NamedTuple):
    """What Headrace and the engine say to a step."""

    ours: Any
    theirs: Any


def compared_steps() -> list[int]:
    return [number for number, one in enumerate(STEPS) if not _is_lacked(one)]


def _name(one: Step) -> str:
    return f"{one.method}-{one.label}"


def _is_lacked(one: Step) -> bool:
    return one.method in LACKED_METHODS or _name(one) in LACKED_STEPS


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[int, Answers]]:
    """What each compared step is answered; all steps are taken."""
    client, engine = headrace.connect(":memory:"), EdgeClient()
    found = {}
    for number, one in enumerate(STEPS):
        ours = _answer(client, one)
        if not _is_lacked(one):
            found[number] = Answers(ours, _answer(engine, one))
    yield found
    engine.close()
    client.close()


def _answer(client: QdrantClient | EdgeClient, one: Step) -> Any:
    """The answer to a step; to a write it is all that the collection then holds."""
    is_deprecated = one.method in DEPRECATED and isinstance(client, QdrantClient)
    try:
        with pytest.deprecated_call() if is_deprecated else nullcontext():
            answer = getattr(client, one.method)(**one.arguments)
    except REFUSALS as error:
        return Refused(str(normal(error)))
    except Exception as error:
        if type(error) not in EDGE_REFUSALS:
            raise
        return Refused(str(error))
    if one.method in _WRITES:
        return _content(client, one.arguments["collection_name"])
    if one.method == "get_collection":
        return _sizes(answer)
    return _tied_by_id(normal(answer, one.is_ordered))


def _content(client: Any, collection_name: str) -> Any:
    points, _ = client.scroll(collection_name, limit=10_000, with_vectors=True)
    return normal(points), _sizes(client.get_collection(collection_name))


def _sizes(info: Any) -> Any:
    """What both count: points, and the points in each payload index by its type."""
    indexes = {
        key: (_type_name(index.data_type), index.points)
        for key, index in info.payload_schema.items()
    }
    return info.points_count, indexes


def _type_name(data_type: Any) -> str:
    return str(getattr(data_type, "value", data_type)).rpartition(".")[2].lower()


def _tied_by_id(answer: Any) -> Any:
    """The answer with points of one score, or of one value, in the order of their ids."""
    match answer:
        case dict():
            return {name: _tied_by_id(one) for name, one in answer.items()}
        case [{"id": _}, *_]:
            places = sorted(
                range(len(answer)), key=lambda at: (_run(answer, at), str(answer[at]["id"]))
            )
            return [answer[at] for at in places]
        case list() | tuple():
            return [_tied_by_id(one) for one in answer]
    return answer


def _run(points: list[Any], place: int) -> int:
    """Where the run of points that tie with the one at a place begins."""
    while place and _ties(_rank(points[place - 1]), _rank(points[place])):
        place -= 1
    return place


def _rank(point: dict[str, Any]) -> Any:
    value = point.get("order_value")
    return point.get("score") if value is None else value


def _ties(one: Any, other: Any) -> bool:
    return one is not None and one == pytest.approx(other, rel=1e-5, abs=1e-5)


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two answers differ, and what stands there."""
    match ours, theirs:
        case dict(), dict():
            # Each engine counts versions its own way, but those that have none.
            for name in sorted(ours.keys() | theirs.keys()):
                if name != "version" or 0 in (ours.get(name), theirs.get(name)):
                    at = f"{path}.{name}"
                    yield from differences(ours.get(name), theirs.get(name), at)
        case (list() | tuple(), list() | tuple()) if len(ours) == len(theirs):
            for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                yield from differences(one, other, f"{path}[{place}]")
        case float(), float():
            is_exact = ".payload" in path
            relative, absolute = (_RELATIVE_IN_PAYLOAD, 0) if is_exact else (_RELATIVE, _ABSOLUTE)
            if ours != pytest.approx(theirs, rel=relative, abs=absolute):
                yield path, ours, theirs
        case Refused(), Refused():
            # The protocols add which kind of error it is, and more on which point.
            if not theirs.text or theirs.text not in ours.text:
                yield path, ours.text, theirs.text
        case _ if type(ours) is not type(theirs) or ours != theirs:
            yield path, ours, theirs


Differences = list[tuple[str, Any, Any]]
NAMED: dict[str, Callable[[Differences], None]] = {}


def named(*names: str) -> Callable[[Callable[[Differences], None]], None]:
    """What the steps of these names differ in; the function asserts all of it."""

    def register(check: Callable[[Differences], None]) -> None:
        NAMED.update(dict.fromkeys(names, check))

    return register


# What differs on purpose


@named("query_points-MMR")
def _mmr_shows_vectors_that_were_not_asked_for(found: Differences) -> None:
    assert [(path, ours) for path, ours, _ in found] == [
        (f".points[{place}].vector", None) for place in range(10)
    ]
    assert all(list(theirs) == ["text"] for _, _, theirs in found)


@named(
    "scroll-by a field without an index",
    "query_points-by a field without an index",
    "facet-of a field without an index",
)
def _the_reason_points_at_documentation_of_qdrant(found: Differences) -> None:
    [(path, ours, theirs)] = found
    reason, _, where = theirs.partition(" Check ")
    assert path == ""
    assert reason.rstrip(".") in ours
    assert where.startswith("https://qdrant.tech/documentation/")


@named("count-text without an index")
def _text_without_an_index_is_a_substring_not_tokens(found: Differences) -> None:
    assert found == [(".count", 0, 20)]


@named("query_points-formula without a value")
def _a_formula_without_a_value_is_the_callers_fault(found: Differences) -> None:
    [(_, ours, theirs)] = found
    assert "Wrong input: Expected number value for nothing in the payload and/or" in ours
    # Which of its threads is heard first is left to chance.
    assert "cancelled" in theirs or "nothing" in theirs


@named("query_points-prefetches alone")
def _prefetches_alone_are_refused_before_a_shard_is_asked(found: Differences) -> None:
    [(_, ours, theirs)] = found
    assert "Bad request: A query is needed to merge the prefetches." in ours
    assert theirs == "Validation failed: cannot have prefetches without a query"


@named("query_points-frequencies after deletions")
def _frequencies_count_what_is_stored_not_what_was(found: Differences) -> None:
    """A test of its own shows that Headrace's are right."""
    assert any(path.endswith(".score") for path, _, _ in found)


@pytest.mark.parametrize("number", compared_steps(), ids=[step_ids()[n] for n in compared_steps()])
def test_headrace_answers_as_qdrants_engine(number: int, answers: dict[int, Answers]) -> None:
    found = list(differences(*answers[number]))
    check = NAMED.get(_name(STEPS[number]))
    if check is None:
        assert found == []
    else:
        check(found)


def test_each_step_is_compared_or_lacked_for_a_reason() -> None:
    methods = {one.method for one in STEPS}
    compared = {name for name in vars(EdgeClient) if not name.startswith("_")} - {"close"}
    assert methods == compared | LACKED_METHODS.keys()
    assert not compared & LACKED_METHODS.keys()
    assert LACKED_STEPS.keys() | NAMED.keys() <= {_name(one) for one in STEPS if one.label}
    assert all(LACKED_METHODS.values())
    assert all(LACKED_STEPS.values())


# Named differences that are no step's


def test_numbers_come_back_as_they_went_in_and_from_the_engine_one_unit_off(
    client: QdrantClient,
) -> None:
    number = 13.4 + 0.3
    found = []
    with closing(EdgeClient()) as engine:
        for one in (client, engine):
            one.create_collection("c", vectors_config=_ONE_DIMENSION)
            one.upsert("c", points=[models.PointStruct(id=1, vector=[1.0], payload={"n": number})])
            found.append(one.retrieve("c", ids=[1])[0].payload)
    assert found == [{"n": number}, {"n": math.nextafter(number, 0)}]


def test_frequencies_are_those_of_an_engine_that_never_had_what_was_deleted(
    client: QdrantClient,
) -> None:
    points = [
        models.PointStruct(id=i, vector={"s": models.SparseVector(indices=[i % 3], values=[1.0])})
        for i in range(12)
    ]
    kept = [one for one in points if one.id not in (0, 3, 4)]
    found = []
    with closing(EdgeClient()) as engine, closing(EdgeClient()) as fresh:
        for one, stored in ((client, points), (engine, points), (fresh, kept)):
            one.create_collection(
                "c",
                vectors_config={},
                sparse_vectors_config={
                    "s": models.SparseVectorParams(modifier=models.Modifier.IDF)
                },
            )
            one.upsert("c", points=stored)
            one.delete("c", points_selector=[0, 3, 4])
            query = models.SparseVector(indices=[0], values=[1.0])
            found.append(one.query_points("c", query=query, using="s").points[0].score)
    ours, theirs, of_fresh = found
    assert ours == pytest.approx(of_fresh)
    assert theirs != pytest.approx(of_fresh, abs=0.1)
