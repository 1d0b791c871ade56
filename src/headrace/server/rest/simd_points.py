"""How are the bodies of upserts read fast: vectors never through Python floats?

simdjson parses the body, each vector goes into an array in one call, and payloads are
taken as JSON text. Whatever is not plainly regular is left to the exact way of `points`,
which accepts the same bodies and says what is wrong with the others. So here is no error
text, and no case but the common ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import orjson
import simdjson

from headrace.model.ids import PointId
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson
from headrace.model.points import PointStruct
from headrace.model.vectors import DEFAULT_VECTOR_NAME, FloatMatrix, SparseVector, Vector
from headrace.server.rest.body import JSON_DEPTH_MAX, U32_MAX, Node, Rules, check_depth, decode_json
from headrace.server.rest.ids import point_id_of
from headrace.server.rest.points import Upsert, VectorUpdates, read_upsert_options

# A parser keeps buffers of about nine times the largest body it has seen.
_KEPT_PARSER_BODY_BYTES_MAX = 4 * 2**20

_MISSING: Any = object()
_T = TypeVar("_T")

_idle_parsers: deque[simdjson.Parser] = deque(maxlen=8)


class Irregular(Exception):
    """The body is wrong, or not of the common form: read it the exact way."""


def read_upsert_fast(body: bytes) -> Upsert:
    """An upsert of the common form.

    Raises:
        Irregular: it is of another form.
        FormatError, InvalidBody, BadRequest: its update filter or mode is wrong.
    """
    return _read(body, _Reader.upsert)


def read_vector_updates_fast(body: bytes) -> VectorUpdates:
    """A vector update of the common form.

    Raises: as `read_upsert_fast`.
    """
    return _read(body, _Reader.vector_updates)


def _read(body: bytes, read: Callable[[_Reader, Any], _T]) -> _T:
    """Parse, read, and prove that no vector hid an array among its numbers.

    `as_buffer` flattens nested arrays silently, so `[1, [2]]` would pass as `[1, 2]`. The
    proof counts: all `[` of the body are ones that the reader opened itself. A string can
    only spoil the count upwards, once `[` written as an escape is excluded.
    """
    # One byte is found many times faster than several, and most bodies have no escape.
    if b"\\" in body and (b"\\u005b" in body or b"\\u005B" in body):
        raise Irregular
    reader = _Reader()
    try:
        parser = _idle_parsers.pop()
    except IndexError:
        parser = simdjson.Parser()
    try:
        with np.errstate(over="ignore"):
            result = read(reader, parser.parse(body))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # What simdjson raises for what it does not take. The parser is left to die with
        # the values that the error may still refer to: it could not be used beside them.
        raise Irregular from error
    if body.count(b"[") != reader.arrays_opened:
        raise Irregular
    if len(body) <= _KEPT_PARSER_BODY_BYTES_MAX:
        _idle_parsers.append(parser)
    return result


class _Reader:
    """Reads one parsed body.

    Attributes:
        arrays_opened: how many arrays of the body were taken for what they are.
    """

    def __init__(self) -> None:
        self.arrays_opened = 0

    def upsert(self, body: Any) -> Upsert:
        points = body.get("points")
        if not isinstance(points, simdjson.Array) or "batch" in body:
            return self._batch_upsert(body)
        self.arrays_opened += 1
        return Upsert([self._point(point) for point in points], *self._options(body))

    def vector_updates(self, body: Any) -> VectorUpdates:
        self.arrays_opened += 1
        updates = []
        for point in body["points"]:
            point_id = point_id_of(point["id"])
            if point_id is None or len(point) != 2:
                raise Irregular
            updates.append((point_id, self._vectors(point["vector"])))
        if not updates or not all(vectors for _, vectors in updates):
            raise Irregular
        _, update_filter, shard_key = self._options(body)
        return VectorUpdates(updates, update_filter, shard_key)

    def _batch_upsert(self, body: Any) -> Upsert:
        batch = body["batch"]
        ids = self._ids(batch["ids"])
        vectors = self._vector_columns(batch["vectors"], len(ids))
        payloads = [EMPTY_PAYLOAD] * len(ids)
        if batch.get("payloads") is not None:
            self.arrays_opened += 1
            payloads = [self._payload(payload) for payload in batch["payloads"]]
        if not len(ids) == len(vectors) == len(payloads):
            raise Irregular
        points = [PointStruct(*point) for point in zip(ids, vectors, payloads, strict=True)]
        return Upsert(points, *self._options(body))

    def _options(self, body: Any) -> tuple[Any, Any, Any]:
        if len(body) == 1:
            return read_upsert_options(Node({}, "", Rules()))
        options: dict[str, Any] = {}
        for name in ("update_mode", "update_filter", "shard_key"):
            value = body.get(name)
            if isinstance(value, (simdjson.Object, simdjson.Array)):
                text: Any = value.mini
                self.arrays_opened += text.count(b"[")
                value = decode_json(text)
            options[name] = value
        rules = Rules()
        read = read_upsert_options(Node(options, "", rules))
        rules.check()
        return read

    def _point(self, point: Any) -> PointStruct:
        point_id = point_id_of(point["id"])
        vector = point.get("vector", _MISSING)
        if vector is _MISSING:
            vector = point["vectors"]
        payload = point.get("payload", _MISSING)
        if point_id is None or len(point) != (2 if payload is _MISSING else 3):
            raise Irregular
        return PointStruct(
            point_id,
            self._vectors(vector),
            EMPTY_PAYLOAD if payload is _MISSING else self._payload(payload),
        )

    def _ids(self, values: Any) -> list[PointId]:
        self.arrays_opened += 1
        ids = []
        for value in values:
            point_id = point_id_of(value)
            if point_id is None:
                raise Irregular
            ids.append(point_id)
        return ids

    def _payload(self, payload: Any) -> PayloadJson:
        """The text of an object, with numbers as they were; a repeated key's last value wins."""
        if payload is None:
            return EMPTY_PAYLOAD
        if not isinstance(payload, simdjson.Object):
            raise Irregular
        # The type stubs say str; it is bytes.
        text: Any = payload.mini
        arrays = text.count(b"[")
        objects = text.count(b"{")
        self.arrays_opened += arrays
        may_be_deep = arrays + objects > JSON_DEPTH_MAX
        if objects == 1 and not may_be_deep and len(set(payload)) == len(payload):
            return bytes(text)
        decoded = orjson.loads(text)
        if may_be_deep:
            check_depth(decoded)
        return orjson.dumps(decoded)

    def _vectors(self, vector: Any) -> dict[str, Vector]:
        if isinstance(vector, simdjson.Array):
            return {DEFAULT_VECTOR_NAME: self._list_vector(vector)}
        if not isinstance(vector, simdjson.Object):
            raise Irregular
        names = list(vector)
        if len(set(names)) != len(names):
            raise Irregular
        return {name: self._vector(vector[name]) for name in names}

    def _vector(self, vector: Any) -> Vector:
        if isinstance(vector, simdjson.Array):
            return self._list_vector(vector)
        return self._sparse_vector(vector)

    def _list_vector(self, vector: Any) -> Vector:
        self.arrays_opened += 1
        if isinstance(vector[0], simdjson.Array):
            return self._matrix(vector)
        return self._floats(vector)

    def _matrix(self, rows: Any) -> FloatMatrix:
        """Rows of one length, in one call; the outer array is counted by the caller."""
        dims = {len(row) for row in rows}
        self.arrays_opened += len(rows)
        (dim,) = dims
        return self._floats(rows, len(rows) * dim).reshape(len(rows), dim)

    def _floats(self, values: Any, count: int | None = None) -> FloatMatrix:
        flat = np.frombuffer(values.as_buffer(of_type="d"), dtype=np.float64)
        if not flat.size or flat.size != (len(values) if count is None else count):
            raise Irregular
        return flat.astype(np.float32)

    def _sparse_vector(self, vector: Any) -> SparseVector:
        indices = np.frombuffer(vector["indices"].as_buffer(of_type="u"), dtype=np.uint64)
        values = np.frombuffer(vector["values"].as_buffer(of_type="d"), dtype=np.float64)
        self.arrays_opened += 2
        if (
            len(vector) != 2
            or len(indices) != len(values)
            or len(np.unique(indices)) != len(indices)
            or (len(indices) and indices.max() > U32_MAX)
        ):
            raise Irregular
        return SparseVector(indices.astype(np.uint32), values.astype(np.float32))

    def _vector_columns(self, vectors: Any, count: int) -> list[dict[str, Vector]]:
        columns: dict[str, list[Vector]] = {}
        if isinstance(vectors, simdjson.Array):
            columns[DEFAULT_VECTOR_NAME] = self._column(vectors)
        else:
            names = list(vectors)
            if not names or len(set(names)) != len(names):
                raise Irregular
            columns = {name: self._column(vectors[name]) for name in names}
        if any(len(column) != count for column in columns.values()):
            raise Irregular
        return [{name: column[row] for name, column in columns.items()} for row in range(count)]

    def _column(self, column: Any) -> list[Vector]:
        self.arrays_opened += 1
        first: Any = column[0]
        if isinstance(first, simdjson.Array):
            element: Any = first[0]
            if not isinstance(element, simdjson.Array):
                return list(self._matrix(column))
        return [self._vector(vector) for vector in column]
