"""How does a result become the JSON of an answer?

Payloads go in as the bytes they are stored as, vectors and scores as float32 in their
shortest decimal form; neither passes through Python objects of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from headrace.model.points import Pieces, PointGroup, Record, ScoredPoint, ScrollPieces
from headrace.model.queries import FacetHit
from headrace.model.vectors import DEFAULT_VECTOR_NAME, SparseVector, Vector
from headrace.service.service import MatrixRow, StagePlan

T = TypeVar("T")

# Up to so many points an answer is made whole: its length is known then.
WHOLE_POINTS_MAX = 1_000

# Of more, so many are in memory at once: at 1,536 dimensions some 4 MiB of JSON.
PIECE_POINTS = 256

# Where infinities cancel out, a score says nothing: it is shown as the worst there is.
_NO_SCORE = float(np.finfo(np.float32).min)
_SCORE_MAX = float(np.finfo(np.float32).max)


def success(result: Any, seconds: float) -> bytes:
    """The envelope of a result.

    Args:
        result: JSON values, NumPy arrays and scalars, UUIDs, JSON fragments.
        seconds: how long the request took.
    """
    return orjson.dumps(
        {"result": result, "status": "ok", "time": seconds}, option=orjson.OPT_SERIALIZE_NUMPY
    )


class LongList(NamedTuple):
    """A result with a list that is too long to be in memory at once.

    Attributes:
        wrap: makes the result of its list; the list is the first that stands in it.
        pieces: elements of the list, some at a time; JSON values as for `success`.
    """

    wrap: Callable[[list[Any]], Any]
    pieces: Iterator[list[Any]]


def listed(
    found: Pieces[T], show: Callable[[list[T]], list[Any]], wrap: Callable[[list[Any]], Any]
) -> Any:
    """The result that shows what was found: as it is, or in pieces if that is much.

    Args:
        found: what was found, `PIECE_POINTS` at a time.
        show: makes JSON values.
        wrap: makes the result of their list; the list is the first that stands in it.
    """
    shown = map(show, found.pieces)
    if found.at_most <= WHOLE_POINTS_MAX:
        return wrap(list(chain.from_iterable(shown)))
    return LongList(wrap, shown)


def success_pieces(result: LongList, started: float) -> Iterator[bytes]:
    """The envelope of a result with a long list, a piece at a time.

    Args:
        result: what is shown.
        started: when the request came, by the performance counter.
    """
    before, _ = _around_list(success(result.wrap([]), 0.0))
    yield before
    separator = b""
    for piece in result.pieces:
        if piece:
            yield separator + orjson.dumps(piece, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
            separator = b","
    _, after = _around_list(success(result.wrap([]), perf_counter() - started))
    yield after


def failure(text: str, seconds: float) -> bytes:
    """The envelope of an error; it has no `result`."""
    return orjson.dumps({"status": {"error": text}, "time": seconds})


def record_answer(record: Record) -> dict[str, Any]:
    """A record: `payload` and `vector` only if they were asked for."""
    answer: dict[str, Any] = {"id": record.id}
    _add_content_into(answer, record)
    return answer


def records_answer(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Many records."""
    return [record_answer(record) for record in records]


def scroll_answer(page: ScrollPieces) -> Any:
    """A page of a scroll."""
    return listed(
        page.records,
        records_answer,
        lambda points: {"points": points, "next_page_offset": page.next_id},
    )


def query_answer(points: Sequence[ScoredPoint]) -> dict[str, Any]:
    """The points of a query, best first."""
    return {"points": scored_points_answer(points)}


def plan_answer(plan: StagePlan) -> dict[str, Any]:
    """How a query was answered; `cost` counts vectors looked at, prefetches included."""
    answer: dict[str, Any] = msgspec.to_builtins(plan)
    return answer | {"cost": plan.cost}


def scored_points_answer(points: Sequence[ScoredPoint]) -> list[dict[str, Any]]:
    """Scored points, best first."""
    scores = _shown_scores([point.score for point in points])
    return [
        _scored_point_answer(point.record, score)
        for point, score in zip(points, scores, strict=True)
    ]


def groups_answer(groups: Iterable[PointGroup]) -> dict[str, Any]:
    """Groups, best first."""
    return {"groups": [_group_answer(group) for group in groups]}


def facet_answer(hits: Iterable[FacetHit]) -> dict[str, Any]:
    """The values of a field, by count."""
    return {"hits": [{"value": hit.value, "count": hit.count} for hit in hits]}


def matrix_pairs_answer(rows: Sequence[MatrixRow]) -> dict[str, Any]:
    """A distance matrix as pairs of points."""
    return {
        "pairs": [
            {"a": row.id, "b": neighbour, "score": score}
            for row in rows
            for (neighbour, _), score in zip(row.nearest, _row_scores(row), strict=True)
        ]
    }


def matrix_offsets_answer(rows: Sequence[MatrixRow]) -> dict[str, Any]:
    """A distance matrix in coordinates: entry n is at (offsets_row[n], offsets_col[n])."""
    places = {row.id: place for place, row in enumerate(rows)}
    return {
        "offsets_row": [place for place, row in enumerate(rows) for _ in row.nearest],
        "offsets_col": [places[neighbour] for row in rows for neighbour, _ in row.nearest],
        "scores": [score for row in rows for score in _row_scores(row)],
        "ids": list(places),
    }


def update_answer(operation_id: int, wait: bool) -> dict[str, Any]:
    """The result of a write that is durable and visible."""
    return {"operation_id": operation_id, "status": "completed" if wait else "acknowledged"}


def _around_list(envelope: bytes) -> tuple[bytes, bytes]:
    before, _, after = envelope.partition(b"[]")
    return before + b"[", b"]" + after


def _scored_point_answer(record: Record, score: np.float32) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": record.id, "version": record.version, "score": score}
    _add_content_into(answer, record)
    return answer


def _group_answer(group: PointGroup) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": group.value, "hits": scored_points_answer(group.points)}
    if group.lookup is not None:
        answer["lookup"] = record_answer(group.lookup)
    return answer


def _row_scores(row: MatrixRow) -> NDArray[np.float32]:
    return _shown_scores([score for _, score in row.nearest])


def _shown_scores(scores: Sequence[float]) -> NDArray[np.float32]:
    """Scores in float32; JSON has no infinity, so the largest number stands for it."""
    if all(_NO_SCORE <= score <= _SCORE_MAX for score in scores):
        return np.array(scores, dtype=np.float32)
    with np.errstate(over="ignore"):
        shown = np.array(scores, dtype=np.float32)
    return np.nan_to_num(shown, nan=_NO_SCORE)


def _add_content_into(answer: dict[str, Any], record: Record) -> None:
    if record.payload is not None:
        answer["payload"] = orjson.Fragment(record.payload)
    if record.vectors is not None:
        answer["vector"] = _vectors_answer(record.vectors)
    if record.order_value is not None:
        answer["order_value"] = record.order_value


def _vectors_answer(vectors: dict[str, Vector]) -> Any:
    """A list if the one vector has no name, else a map by name."""
    if len(vectors) == 1 and DEFAULT_VECTOR_NAME in vectors:
        return _vector_answer(vectors[DEFAULT_VECTOR_NAME])
    return {name: _vector_answer(vector) for name, vector in vectors.items()}


def _vector_answer(vector: Vector) -> Any:
    if isinstance(vector, SparseVector):
        return {"indices": np.ascontiguousarray(vector.indices), "values": _c(vector.values)}
    return _c(vector)


def _c(vector: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """As orjson takes arrays: contiguous, in C order."""
    return np.ascontiguousarray(vector)
