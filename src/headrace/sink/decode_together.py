"""How are many records read at once, when each is an envelope with one dense vector?

If all are of the commonest form, a compiled scan reads them (`envelope_scan`). Otherwise the
vectors are cut out of the texts, by a search for their key, and parsed together, straight into
one matrix; what is left of the texts is small, and parsed together too. To read each by itself
would cost several times what parsing it does.

Where a vector was stands a mark, between two texts another. Nobody who writes records can know
them, so the places where they come out of the parser tell where the cuts were: a vector that
was not the value of the envelope's own key shows, and so does a text that is not one value by
itself. Whatever is not plainly in order is left to `decode`, which reads each record by itself.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, cast

import msgspec
import numpy as np
import orjson
import simdjson

from headrace.model.ids import POINT_ID_NUMBER_MAX, PointId, parse_uuid
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson
from headrace.model.vectors import FloatMatrix
from headrace.sink.shapes.rows import DELETED_FIELD

ScannedColumns = tuple[
    list[bytes | None], list[int | bytes], FloatMatrix, list[bytes | None], list[int]
]

# Where the package was built without a C compiler, the library's parsers read all texts.
scan: Callable[[list[bytes]], ScannedColumns | None] | None
try:
    from headrace.sink.envelope_scan import scan as _compiled_scan

    scan = _compiled_scan
except ImportError:
    scan = None

# Texts that are parsed together stay in the processor's cache.
_TOGETHER_BYTES: Final = 128 * 1024

_VECTOR_KEY: Final = re.compile(rb'"(vectors?)"[ \t\r\n]*:[ \t\r\n]*\[')
_VECTOR_MARK: Final = f"vector {secrets.token_hex(16)}"
_NEXT_MARK: Final = f"next {secrets.token_hex(16)}"
_VECTOR_MARK_JSON: Final = orjson.dumps(_VECTOR_MARK)
_NEXT_MARK_JSON: Final = b"," + orjson.dumps(_NEXT_MARK) + b","

# orjson makes a float of an integer beyond 64 bits; with fewer digits there is none.
_LONG_INTEGER: Final = b"0" * 19
_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")


class Envelopes(msgspec.Struct, frozen=True, eq=False):
    """What was read, as columns.

    Attributes:
        ranks: of the texts that were read, ascending; the others are to be read by
            themselves.
        collection_names: that the envelopes name; None for one that names none.
        ids: of their points.
        vectors: shape (len(ranks), dim), float32, all finite.
        payloads: one JSON object per point.
    """

    ranks: list[int]
    collection_names: list[str | None]
    ids: list[PointId]
    vectors: FloatMatrix
    payloads: list[PayloadJson]


class EnvelopesReader:
    """Reads envelopes that are in order in every respect; not thread-safe."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def read(self, texts: Sequence[bytes | None]) -> Envelopes:
        """Read the texts that are of the common form.

        Args:
            texts: the values of records; None is left alone.
        """
        scanned = _scanned(texts)
        if scanned is not None:
            return scanned
        read = Envelopes([], [], [], np.empty((0, 0), np.float32), [])
        matrices: list[FloatMatrix] = []
        for portion in _portions(texts):
            fields = _Fields()
            try:
                matrix = self._read_portion(portion, texts, fields)
            except (_InDoubt, ValueError, TypeError):
                continue
            except RuntimeError:
                # After some of these errors a parser is never usable again.
                self._parser = simdjson.Parser()
                continue
            if matrices and matrix.shape[1] != matrices[0].shape[1]:
                continue
            matrices.append(matrix)
            read.ranks.extend(fields.ranks)
            read.collection_names.extend(fields.collection_names)
            read.ids.extend(fields.ids)
            read.payloads.extend(fields.payloads)
        if not matrices:
            return read
        vectors = matrices[0] if len(matrices) == 1 else np.concatenate(matrices)
        return msgspec.structs.replace(read, vectors=vectors)

    def _read_portion(
        self, portion: Sequence[int], texts: Sequence[bytes | None], fields: _Fields
    ) -> FloatMatrix:
        """Read a few texts; returns the vectors of those that `fields` then has.

        Raises:
            _InDoubt, ValueError, TypeError, RuntimeError: they are to be read by themselves.
        """
        ranks, key, vectors, rests = _cut(portion, texts)
        matrix = self._read_vectors(vectors)
        rest = b"".join(rests)
        documents = orjson.loads(b"[%b]" % rest)
        if documents[1::2] != [_NEXT_MARK] * (len(ranks) - 1) or len(documents) % 2 == 0:
            raise _InDoubt
        has_long = _LONG_INTEGER in rest.translate(_DIGITS_AS_ZERO)
        long = _with_long_integer(rests) if has_long else frozenset()
        taken = fields.take(ranks, documents[::2], key, long)
        return matrix if len(taken) == len(ranks) else matrix[taken]

    def _read_vectors(self, texts: list[bytes]) -> FloatMatrix:
        """The vectors of texts that each begin with `[` and end with the first `]`.

        The parser sees to it that arrays hold nothing but numbers. So no bracket was in a
        string, and each text is one array.
        """
        document = self._parser.parse(b"[%b]" % b",".join(texts))
        assert type(document) is simdjson.Array
        try:
            # Each begins with `[`, which the parser's types do not know.
            widths = {len(vector) for vector in cast("Iterable[simdjson.Array]", document)}
            if len(widths) != 1 or 0 in widths:
                raise _InDoubt
            doubles = np.frombuffer(document.as_buffer(of_type="d"), dtype=np.float64)
        finally:
            del document
        floats = doubles.astype(np.float32).reshape(len(texts), widths.pop())
        if not np.isfinite(floats).all():
            raise _InDoubt
        return floats


class _InDoubt(Exception):
    """The texts are not of the common form, or wrong."""


class _Fields:
    """What is left of envelopes without their vectors, as columns."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self.collection_names: list[str | None] = []
        self.ids: list[PointId] = []
        self.payloads: list[PayloadJson] = []

    def take(
        self, ranks: Sequence[int], documents: list[Any], key: str, without: frozenset[int]
    ) -> list[int]:
        """Take what is in order; returns which of the documents that are.

        Args:
            ranks: of the texts, one per document.
            documents: what came out of the parser.
            key: whose value each vector is.
            without: documents that are not to be looked at.
        """
        taken = []
        for place, document in enumerate(documents):
            if type(document) is not dict or document.get(key) != _VECTOR_MARK or place in without:
                continue
            if key == "vectors" and document.get("vector") is not None:
                continue
            # An operation, a change event, or a row that is gone.
            if "op" in document or DELETED_FIELD in document:
                continue
            point_id = document.get("id")
            if type(point_id) is not int:
                point_id = parse_uuid(point_id) if type(point_id) is str else None
                if point_id is None:
                    continue
            elif not 0 <= point_id <= POINT_ID_NUMBER_MAX:
                continue
            name = document.get("collection_name")
            payload = document.get("payload")
            if payload is not None and type(payload) is not dict:
                continue
            self.payloads.append(EMPTY_PAYLOAD if payload is None else orjson.dumps(payload))
            self.collection_names.append(name if type(name) is str else None)
            self.ids.append(point_id)
            self.ranks.append(ranks[place])
            taken.append(place)
        return taken


def _scanned(texts: Sequence[bytes | None]) -> Envelopes | None:
    """All texts, by the compiled scan; None if it is not there, or one is not for it."""
    known = [text for text in texts if text is not None]
    if scan is None or not known or len(known) < len(texts):
        return None
    columns = scan(known)
    if columns is None:
        return None
    names, ids, vectors, payloads, rewritten = columns
    try:
        for rank in rewritten:
            payloads[rank] = orjson.dumps(orjson.loads(payloads[rank] or b"{}"))
    except (ValueError, TypeError):
        return None
    point_ids = [one if isinstance(one, int) else parse_uuid(one.decode()) for one in ids]
    known_ids = [one for one in point_ids if one is not None]
    if len(known_ids) < len(point_ids):
        return None
    collection_names = [None if name is None else name.decode() for name in names]
    written = [EMPTY_PAYLOAD if payload is None else payload for payload in payloads]
    return Envelopes([*range(len(texts))], collection_names, known_ids, vectors, written)


def _portions(texts: Sequence[bytes | None]) -> Iterator[list[int]]:
    """The ranks of texts that are read together."""
    portion: list[int] = []
    bytes_count = 0
    for rank, text in enumerate(texts):
        if text is None:
            continue
        portion.append(rank)
        bytes_count += len(text)
        if bytes_count >= _TOGETHER_BYTES:
            yield portion
            portion = []
            bytes_count = 0
    if portion:
        yield portion


def _cut(
    portion: Sequence[int], texts: Sequence[bytes | None]
) -> tuple[list[int], str, list[bytes], list[bytes]]:
    """Cut the vectors out.

    Returns:
        The ranks of the texts that have one; its key; the vectors; what is left, to be
        joined: four pieces for each text, but for the last, which has three.

    Raises:
        _InDoubt: no text has a vector that can be cut out.
    """
    found = next(
        (found for rank in portion if (found := _VECTOR_KEY.search(texts[rank] or b""))), None
    )
    if found is None:
        raise _InDoubt
    key, to_bracket = found[0], len(found[0]) - 1
    ranks: list[int] = []
    vectors: list[bytes] = []
    rests: list[bytes] = []
    for rank in portion:
        text = texts[rank]
        assert text is not None
        place = text.find(key)
        begin = place + to_bracket
        end = text.find(b"]", begin) + 1
        if place >= 0 and end > 0:
            ranks.append(rank)
            vectors.append(text[begin:end])
            rests += (text[:begin], _VECTOR_MARK_JSON, text[end:], _NEXT_MARK_JSON)
    if not ranks:
        raise _InDoubt
    rests.pop()
    return ranks, found[1].decode(), vectors, rests


def _with_long_integer(rests: list[bytes]) -> frozenset[int]:
    """Which texts have, outside their vector, what may be an integer beyond 64 bits."""
    return frozenset(
        place // 4
        for place, piece in enumerate(rests)
        if place % 2 == 0 and _LONG_INTEGER in piece.translate(_DIGITS_AS_ZERO)
    )
