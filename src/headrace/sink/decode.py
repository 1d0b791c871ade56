"""How do the bytes of one Kafka record become changes of points?

Most records are plain JSON and in order: simdjson parses them, and vectors go from its
tape into arrays without a Python number in between; those with one dense vector are read
many at once (`decode_together`). At any doubt (a duplicate key, an odd id, a number that fits
nowhere) the record is read again by `envelope`, which either knows its value or says what is
wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, cast

import msgspec
import numpy as np
import orjson
import simdjson

from headrace.model.ids import POINT_ID_NUMBER_MAX, PointId, parse_uuid
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson, SourcePartition
from headrace.model.points import PointStruct
from headrace.model.vectors import DEFAULT_VECTOR_NAME, FloatVector, SparseVector, Vector
from headrace.sink.changes import Change, Upsert
from headrace.sink.config import ConnectorConfig
from headrace.sink.connect_value import ConnectValue, as_connect
from headrace.sink.converters import JSON_CONVERTER_CLASS, Converter, TextConverter
from headrace.sink.decode_together import Envelopes, EnvelopesReader
from headrace.sink.entries import UpsertColumns
from headrace.sink.envelope import SPARSE_INDEX_MAX
from headrace.sink.errors import Reason, RecordError, Stage
from headrace.sink.json_value import InvalidJson, parse_json
from headrace.sink.kafka_record import KafkaRecord, in_runs
from headrace.sink.shapes.routing import Routing
from headrace.sink.shapes.rows import DELETED_FIELD
from headrace.sink.shapes.shape import Shape
from headrace.sink.transforms.base import ConnectHeaders, ConnectRecord
from headrace.sink.transforms.chain import TransformChain

_NOWHERE: Final = SourcePartition("", "", 0)
_FLOAT32_MAX_SQUARED: Final = float(np.finfo(np.float32).max) ** 2


class RecordDecoder:
    """Decodes records one after the other; not thread-safe, each task has its own.

    Args:
        value_converter: reads values.
        key_converter: reads keys, of every record; None reads the key of a tombstone
            alone, as JSON or as a bare UUID.
        collection_name: the collection of all records, if `shape` does not say.
        transforms: what every record goes through before it is looked at, if anything.
        shape: what records look like; envelopes if not given.
        reads_json_headers: whether headers are JSON, else what they are.
    """

    def __init__(
        self,
        value_converter: Converter,
        key_converter: Converter | None = None,
        collection_name: str | None = None,
        transforms: TransformChain | None = None,
        shape: Shape | None = None,
        reads_json_headers: bool = False,
    ) -> None:
        self._value_converter = value_converter
        self._has_key_converter = key_converter is not None
        self._key_converter = key_converter or TextConverter()
        self._transforms = transforms
        self._reads_json_headers = reads_json_headers
        self._shape = shape or Shape(Routing(name=collection_name))
        self._is_plain_json = (
            value_converter.reads_plain_json and transforms is None and self._shape.rows is None
        )
        self._parser = simdjson.Parser()
        self._envelopes = EnvelopesReader()

    @classmethod
    def of(cls, config: ConnectorConfig) -> RecordDecoder:
        """A decoder for the records of a connector."""
        return cls(
            config.value_converter,
            config.key_converter,
            transforms=config.transforms,
            shape=config.shape,
            reads_json_headers=config.reads_json_headers,
        )

    def decode(self, kafka_key: bytes | None, kafka_value: bytes | None) -> Change:
        """The one change of a record of which no more is known than its key and value.

        Raises:
            RecordError: the record is wrong by itself; says at which stage.
        """
        with quiet_overflow():
            (change,) = self.decode_record(KafkaRecord(_NOWHERE, 0, kafka_key, kafka_value))
        return change

    def decode_together(
        self, kafka_records: Sequence[KafkaRecord]
    ) -> UpsertColumns | dict[int, Upsert]:
        """The upserts that records stand for, of those that can be read together.

        Returns:
            Columns if that is all of them, each puts another point, and all into one
            collection; else by rank. The other records are for `decode_record`.
        """
        if not self._is_plain_json or not self._shape.is_plain:
            return {}
        no_key, no_headers = self._key_converter.refuses_bytes, self._reads_json_headers
        # Nothing but its value says what a record stands for.
        texts = [
            None
            if (no_key and one.kafka_key is not None) or (no_headers and one.headers)
            else one.kafka_value
            for one in kafka_records
        ]
        envelopes = self._envelopes.read(texts)
        names = self._collection_names(kafka_records, envelopes)
        vectors, payloads = envelopes.vectors, envelopes.payloads
        is_all = 0 < len(kafka_records) == len(envelopes.ranks) == len(set(envelopes.ids))
        if is_all and names[0] and names.count(names[0]) == len(names):
            return UpsertColumns(names[0], kafka_records, envelopes.ids, vectors, payloads)
        rows = zip(envelopes.ranks, names, envelopes.ids, vectors, payloads, strict=True)
        return {
            rank: Upsert(name, PointStruct(point_id, {DEFAULT_VECTOR_NAME: vector}, payload))
            for rank, name, point_id, vector, payload in rows
            if name
        }

    def _collection_names(
        self, kafka_records: Sequence[KafkaRecord], envelopes: Envelopes
    ) -> list[str | None]:
        """Where each envelope goes; None if neither it nor the configuration says."""
        routed = [
            name
            for partition, run in in_runs(kafka_records)
            for name in [self._shape.routing.collection_of(partition.stream)] * len(run)
        ]
        if not any(routed):
            return envelopes.collection_names
        named = zip(envelopes.ranks, envelopes.collection_names, strict=True)
        return [routed[rank] or name for rank, name in named]

    def decode_record(self, kafka_record: KafkaRecord) -> tuple[Change, ...]:
        """The changes that a record stands for, in order; none if a transform dropped it.

        Within `quiet_overflow`, which costs too much to be entered for each record.

        Raises:
            RecordError: the record is wrong by itself; says at which stage.
            HeadraceError: of the class TARGET, if a schema registry does not answer now.
        """
        if self._is_plain_json and kafka_record.kafka_value is not None:
            changes = self._decode_fast(kafka_record, kafka_record.kafka_value)
            if changes is not None:
                return changes
        record: ConnectRecord | None = self._connect_record(kafka_record)
        if self._transforms is not None and record is not None:
            record = self._transforms.apply(record)
        try:
            return () if record is None else self._shape.read(record)
        except RecursionError:
            raise RecordError("nested too deeply", Reason.INVALID_PAYLOAD) from None

    def _decode_fast(
        self, kafka_record: KafkaRecord, kafka_value: bytes
    ) -> tuple[Change, ...] | None:
        """The change of an envelope in plain JSON that is in order in every respect."""
        kafka_key = kafka_record.kafka_key
        if kafka_key is not None and self._key_converter.refuses_bytes:
            self._key_converter.convert(kafka_key)
        collection_name = self._shape.routing.collection_of(kafka_record.partition.stream)
        upsert = self._decode_in_order(kafka_value, collection_name)
        if upsert is None:
            return None
        if self._shape.is_plain and not (self._reads_json_headers and kafka_record.headers):
            return (upsert,)
        return self._shape.finish(upsert, self._unconverted(kafka_record))

    def _connect_record(self, kafka_record: KafkaRecord) -> ConnectRecord:
        kafka_key = kafka_record.kafka_key
        kafka_value = kafka_record.kafka_value
        value = None if kafka_value is None else self._value_converter.convert(kafka_value)
        converted = None if kafka_key is None else self._convert_key(kafka_key, value is None)
        return msgspec.structs.replace(
            self._unconverted(kafka_record), kafka_key=converted, value=value
        )

    def _unconverted(self, kafka_record: KafkaRecord) -> ConnectRecord:
        """What is known of a record before its key and value are converted."""
        headers: ConnectHeaders = list(kafka_record.headers)
        if self._reads_json_headers:
            headers = [(name, _json_header(name, data)) for name, data in kafka_record.headers]
        return ConnectRecord(
            kafka_record.partition.stream,
            kafka_record.partition.partition,
            kafka_record.kafka_offset,
            None,
            None,
            headers,
            kafka_record.timestamp_ms,
        )

    def _convert_key(self, kafka_key: bytes, is_tombstone: bool) -> ConnectValue:
        try:
            return self._key_converter.convert(kafka_key)
        except RecordError:
            if self._has_key_converter or is_tombstone:
                raise
            # Nobody has said what the keys are: those of other records than tombstones
            # may be anything.
            return kafka_key

    def _decode_in_order(self, text: bytes, collection_name: str | None) -> Upsert | None:
        """The point of a JSON text that is in order in every respect, else None."""
        try:
            document = self._parser.parse(text)
            if type(document) is not simdjson.Object:
                return None
            return _read_document(document, text, collection_name)
        except (_InDoubt, ValueError, TypeError, orjson.JSONEncodeError):
            return None
        except RuntimeError:
            # Too deep, or too large an integer, which leaves the parser as it is. A parser
            # that something still refers to reports the same way, and is never usable again.
            self._parser = simdjson.Parser()
            return None


def quiet_overflow() -> AbstractContextManager[None]:
    """Numbers too large for float32 are told by record, not by NumPy's warnings."""
    return np.errstate(over="ignore")


def _json_header(name: str, data: str | bytes | None) -> ConnectValue:
    if data is None:
        return None
    try:
        return as_connect(parse_json(data if isinstance(data, bytes) else data.encode()))
    except InvalidJson as error:
        raise RecordError(
            f"Header '{name}': {error}",
            Reason.INVALID_JSON,
            Stage.HEADER_CONVERTER,
            JSON_CONVERTER_CLASS,
        ) from None


class _InDoubt(Exception):
    """The fast way cannot be certain of this record."""


def _read_document(
    document: simdjson.Object, text: bytes, collection_name: str | None
) -> Upsert | None:
    names = _unique_keys(document)
    # An operation, a change event, or a row that is gone.
    if "id" not in names or "op" in names or DELETED_FIELD in names:
        return None
    name = collection_name or (document["collection_name"] if "collection_name" in names else None)
    if type(name) is not str or not name:
        return None
    point_id = _read_id(document["id"])
    payload = _read_payload(document["payload"] if "payload" in names else None)
    reader = _VectorReader()
    vector = document["vector"] if "vector" in names else None
    if vector is None and "vectors" in names:
        vector = document["vectors"]
    vectors = reader.read(vector)
    reader.check_nesting(text, payload)
    return Upsert(name, PointStruct(point_id, vectors, payload))


def _unique_keys(document: simdjson.Object) -> list[str]:
    """The keys of an object; simdjson would take the first of a duplicate, JSON the last."""
    names = list(document)
    if len(set(names)) != len(names):
        raise _InDoubt
    return names


def _read_id(value: object) -> PointId:
    if type(value) is int and 0 <= value <= POINT_ID_NUMBER_MAX:
        return value
    uuid = parse_uuid(value) if type(value) is str else None
    if uuid is None:
        raise _InDoubt
    return uuid


def _read_payload(value: object) -> PayloadJson:
    if value is None:
        return EMPTY_PAYLOAD
    if type(value) is not simdjson.Object:
        raise _InDoubt
    # Not the text itself: going through a dict keeps the last of duplicate keys, at every
    # level, for half a microsecond. Integers and floats come out as they went in.
    return orjson.dumps(value.as_dict())


class _VectorReader:
    """Reads the vectors of one document, and keeps account of the arrays that it met.

    `Array.as_buffer` flattens nested arrays without a word: `[1,[2]]` would pass as
    `[1,2]`. An array within those met here would show as one bracket too many, and
    counting brackets costs a microsecond where looking at each element costs forty.
    """

    def __init__(self) -> None:
        self._arrays: list[tuple[simdjson.Array, int]] = []

    def read(self, value: object) -> dict[str, Vector]:
        if value is None:
            return {}
        if type(value) is simdjson.Array:
            return {DEFAULT_VECTOR_NAME: self._read_array(value)}
        if type(value) is simdjson.Object:
            return {name: self._read_named(value[name]) for name in _unique_keys(value)}
        raise _InDoubt

    def check_nesting(self, text: bytes, payload: PayloadJson) -> None:
        """Make certain that no array met here holds one that was not counted.

        Args:
            text: the whole document; each array met is at least one `[` in it.
            payload: the payload as written again, from the same document.
        """
        expected = sum(brackets for _, brackets in self._arrays)
        in_payload = payload.count(b"[")
        surplus = _count_brackets(text, expected + in_payload + 1) - expected
        # `\u005b` is the one way to write a bracket that `text` does not show, in a string.
        if surplus == 0 or (surplus == in_payload and b"\\u005" not in text):
            return
        for array, brackets in self._arrays:
            # The package's stub says str; it is bytes.
            if cast(bytes, array.mini).count(b"[") != brackets:
                raise _InDoubt

    def _read_named(self, value: object) -> Vector:
        if type(value) is simdjson.Array:
            return self._read_array(value)
        if type(value) is simdjson.Object:
            return self._read_sparse(value)
        raise _InDoubt

    def _read_array(self, array: simdjson.Array) -> Vector:
        if len(array) == 0:
            raise _InDoubt
        if type(array[0]) is not simdjson.Array:
            return self._read_floats(array, brackets=1)
        widths = {len(row) if type(row) is simdjson.Array else 0 for row in array}
        if len(widths) != 1 or 0 in widths:
            raise _InDoubt
        floats = self._read_floats(array, brackets=1 + len(array))
        return floats.reshape(len(array), widths.pop())

    def _read_sparse(self, fields: simdjson.Object) -> SparseVector:
        names = _unique_keys(fields)
        if "indices" not in names or "values" not in names:
            raise _InDoubt
        indices_array, values_array = fields["indices"], fields["values"]
        if type(indices_array) is not simdjson.Array or type(values_array) is not simdjson.Array:
            raise _InDoubt
        self._arrays.append((indices_array, 1))
        indices = np.frombuffer(indices_array.as_buffer(of_type="u"), dtype=np.uint64)
        values = self._read_floats(values_array, brackets=1)
        if len(indices) != len(values) or len(np.unique(indices)) != len(indices):
            raise _InDoubt
        if len(indices) and indices.max() > SPARSE_INDEX_MAX:
            raise _InDoubt
        return SparseVector(indices.astype(np.uint32), values)

    def _read_floats(self, array: simdjson.Array, brackets: int) -> FloatVector:
        self._arrays.append((array, brackets))
        doubles = np.frombuffer(array.as_buffer(of_type="d"), dtype=np.float64)
        # No element is larger than the root of the sum of all squares. This is one call of
        # the algebra, where to look for what is not finite takes four of NumPy's.
        if not doubles.dot(doubles) <= _FLOAT32_MAX_SQUARED:
            raise _InDoubt
        return doubles.astype(np.float32)


def _count_brackets(text: bytes, most: int) -> int:
    """How many `[` a text has, or `most`: `bytes.count` takes a nanosecond for each byte."""
    count = 0
    place = text.find(b"[")
    while place >= 0 and count < most:
        count += 1
        place = text.find(b"[", place + 1)
    return count
