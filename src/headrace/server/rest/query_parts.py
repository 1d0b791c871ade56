"""Which members do the bodies of several reads share, and how is each read?"""

from __future__ import annotations

from headrace.model.errors import BadRequest
from headrace.model.queries import Idf, LookupFrom, SearchParams
from headrace.model.vectors import DEFAULT_VECTOR_NAME
from headrace.server.rest.body import Node
from headrace.server.rest.filters import read_filter
from headrace.server.rest.points import read_shard_key

# More than any collection holds; beyond it a limit can only be a mistake or an attack.
LIMIT_MAX = 2**32 - 1

LIMIT_DEFAULT = 10


def read_using(body: Node) -> str:
    """`using`: the name of a vector. Raises FormatError."""
    node = body.get("using")
    return DEFAULT_VECTOR_NAME if node is None else node.text()


def read_threshold(body: Node) -> float | None:
    """`score_threshold`. Raises FormatError."""
    node = body.get("score_threshold")
    return None if node is None else node.number()


def read_lookup_from(body: Node) -> LookupFrom | None:
    """`lookup_from`: where example ids are looked up.

    Raises:
        FormatError: it has the wrong type.
        BadRequest: it names a shard key: no collection has shards to choose from.
    """
    node = body.get("lookup_from")
    if node is None:
        return None
    vector = node.get("vector")
    shard_key = read_shard_key(node)
    if shard_key is not None:
        raise BadRequest(f"Shard key {shard_key} not found")
    return LookupFrom(node.require("collection").text(), None if vector is None else vector.text())


def read_params(body: Node) -> SearchParams:
    """`params`: how to search. What is said of ACORN is checked, and hints at nothing here.

    Raises:
        FormatError: one has the wrong type.
    """
    node = body.get("params")
    if node is None:
        return SearchParams()
    hnsw_ef, idf = node.get("hnsw_ef"), node.get("idf")
    ignore, rescore, oversampling = False, None, None
    quantization = node.get("quantization")
    if quantization is not None:
        ignore = read_boolean(quantization, "ignore")
        rescore = _read_optional_boolean(quantization, "rescore")
        oversampling = _read_number(quantization, "oversampling", minimum=1.0)
    acorn = node.get("acorn")
    if acorn is not None:
        read_boolean(acorn, "enable")
        _read_number(acorn, "max_selectivity", minimum=0.0, maximum=1.0)
    return SearchParams(
        hnsw_ef=None if hnsw_ef is None else hnsw_ef.unsigned(minimum=1),
        exact=read_boolean(node, "exact"),
        indexed_only=read_boolean(node, "indexed_only"),
        ignore_quantization=ignore,
        rescore=rescore,
        oversampling=oversampling,
        idf=None if idf is None else _read_idf(idf),
    )


def _read_idf(node: Node) -> Idf:
    if node.value == "global":
        return Idf()
    if not isinstance(node.value, dict) or "corpus" not in node.value:
        raise node.format_error("data did not match any variant of untagged enum IdfParams")
    return Idf(read_filter(node.require("corpus")))


def read_limit(body: Node) -> int:
    """`limit`, of 1 or more. Raises FormatError, BadRequest."""
    return read_count_of(body, "limit", LIMIT_DEFAULT, minimum=1)


def read_required_limit(body: Node) -> int:
    """`limit`, by its old name `top` too, which the older routes want. Raises as `read_limit`."""
    return _bounded(body.require("limit", "top"), "limit", minimum=1)


def read_count_of(body: Node, name: str, default: int, minimum: int) -> int:
    """A number of things. Raises FormatError, BadRequest."""
    node = body.get(name)
    return default if node is None else _bounded(node, name, minimum)


def read_boolean(node: Node, name: str) -> bool:
    """A member that is false unless given, and may not be null. Raises FormatError."""
    return node.has(name) and node.require(name).boolean()


def _bounded(node: Node, name: str, minimum: int) -> int:
    value = node.unsigned(minimum=minimum)
    if value > LIMIT_MAX:
        raise BadRequest(f"`{name}` is {value}, the maximum is {LIMIT_MAX}")
    return value


def _read_optional_boolean(node: Node, name: str) -> bool | None:
    child = node.get(name)
    return None if child is None else child.boolean()


def _read_number(
    node: Node, name: str, minimum: float, maximum: float | None = None
) -> float | None:
    child = node.get(name)
    return None if child is None else child.number(minimum, maximum)
