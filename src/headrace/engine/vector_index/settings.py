"""Which of Qdrant's options shape a vector index, and what do they mean here?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from headrace.model.collection_config import CollectionConfig, VectorParams

# Qdrant's defaults, and its automatic choice of building threads: at most eight.
_M = 16
_EF_CONSTRUCT = 100
_INDEXING_THRESHOLD_KB = 10_000
_DELETED_SHARE_MAX = 0.2
_BUILD_THREADS_MAX = 8


class QuantizationKind(StrEnum):
    """The kinds of quantised vectors."""

    SCALAR = "scalar"
    PRODUCT = "product"
    BINARY = "binary"


class BinaryEncoding(StrEnum):
    """How many bits binary quantization takes of a component."""

    ONE_BIT = "one_bit"
    TWO_BITS = "two_bits"
    ONE_AND_HALF_BITS = "one_and_half_bits"


class QueryEncoding(StrEnum):
    """What a query becomes before it is compared with binary codes; by default nothing."""

    DEFAULT = "default"
    BINARY = "binary"
    SCALAR4BITS = "scalar4bits"
    SCALAR8BITS = "scalar8bits"


class Quantization(msgspec.Struct, frozen=True, omit_defaults=True):
    """The quantised vectors that a graph holds.

    Attributes:
        kind: see `QuantizationKind`.
        quantile: of scalar ones: the share of a component's values that its steps cover.
        components_per_code: of product ones: components that become one byte.
        encoding: of binary ones.
    """

    kind: QuantizationKind
    quantile: float = 1.0
    components_per_code: int = 1
    encoding: BinaryEncoding = BinaryEncoding.ONE_BIT

    @property
    def outside_share(self) -> float:
        """The share of values that is left out at each end."""
        return (1 - self.quantile) / 2


class Placement(StrEnum):
    """Where a graph that a checkpoint holds is: in memory, or mapped."""

    PINNED = "pinned"
    CACHED = "cached"
    COLD = "cold"


class GraphOptions(msgspec.Struct, frozen=True):
    """What a graph was made with: one made with others is made anew.

    Attributes:
        m: links of a node on the upper layers.
        ef_construct: as set; candidates while linking are more.
        quantization: the codes of its nodes, if they were asked for.
    """

    m: int
    ef_construct: int
    quantization: Quantization | None = None


class IndexSettings(msgspec.Struct, frozen=True):
    """The index options of one vector name.

    Attributes:
        m: links a node has on the upper layers (twice as many on the lowest); 0 = no graph.
        ef_construct: candidates kept while a node is linked; also the width of a search
            that names none.
        full_scan_kb: rows that a filter leaves are scored one by one up to this size of
            their vectors; None = whatever is estimated to be cheaper.
        rows_min: this many rows without a graph get one; None = never.
        deleted_share_max: a graph with a larger share of dead nodes is made anew.
        build_threads: threads that link nodes.
        quantization: the quantised vectors that graphs hold, if any.
        query_encoding: of queries that are compared with binary codes.
        placement: of graphs, their codes with them.
    """

    m: int = _M
    ef_construct: int = _EF_CONSTRUCT
    full_scan_kb: int | None = None
    rows_min: int | None = 20_000
    deleted_share_max: float = _DELETED_SHARE_MAX
    build_threads: int = 1
    quantization: Quantization | None = None
    query_encoding: QueryEncoding = QueryEncoding.DEFAULT
    placement: Placement = Placement.CACHED

    @property
    def graph_options(self) -> GraphOptions:
        """What graphs are to be made with."""
        return GraphOptions(self.m, self.ef_construct, self.quantization)

    @classmethod
    def from_config(cls, params: VectorParams, config: CollectionConfig) -> IndexSettings:
        """The settings of one dense vector; its own `hnsw_config` goes before the collection's."""
        hnsw = _set(config.hnsw_config) | _set(params.hnsw_config)
        optimizers = _set(config.optimizers_config)
        m = int(hnsw.get("m", _M))
        # FAISS cannot link with one link a node: its layer probabilities divide by log(m).
        m = max(m, 2) if m else 0
        # As in Qdrant, 0 turns the building of graphs off.
        threshold_kb = int(optimizers.get("indexing_threshold", _INDEXING_THRESHOLD_KB))
        rows_min = max(1, threshold_kb * 1024 // (4 * params.size)) if m and threshold_kb else None
        threads = int(hnsw.get("max_indexing_threads", 0))
        kind, quantized = _quantization_of(params, config)
        return cls(
            m=m,
            ef_construct=int(hnsw.get("ef_construct", _EF_CONSTRUCT)),
            full_scan_kb=hnsw.get("full_scan_threshold"),
            rows_min=rows_min,
            deleted_share_max=float(optimizers.get("deleted_threshold", _DELETED_SHARE_MAX)),
            build_threads=threads or min(os.cpu_count() or 1, _BUILD_THREADS_MAX),
            quantization=None if kind is None else _quantization(kind, quantized),
            query_encoding=QueryEncoding(quantized.get("query_encoding", QueryEncoding.DEFAULT)),
            placement=_placement(hnsw, quantized, params.is_cold and kind is not None),
        )


def _quantization_of(
    params: VectorParams, config: CollectionConfig
) -> tuple[QuantizationKind | None, dict[str, Any]]:
    """The kind and the options of quantised vectors; the vector's own go first."""
    chosen = params.quantization_config or config.quantization_config
    if not chosen:
        return None, {}
    ((kind, options),) = chosen.items()
    return QuantizationKind(kind), _set(options)


def _quantization(kind: QuantizationKind, options: Mapping[str, Any]) -> Quantization:
    match kind:
        case QuantizationKind.SCALAR:
            return Quantization(kind, quantile=float(options.get("quantile", 1.0)))
        case QuantizationKind.PRODUCT:
            # A float32 component has four bytes, and a code one.
            ratio = int(options["compression"].removeprefix("x"))
            return Quantization(kind, components_per_code=ratio // 4)
        case QuantizationKind.BINARY:
            encoding = BinaryEncoding(options.get("encoding", BinaryEncoding.ONE_BIT))
            return Quantization(kind, encoding=encoding)


def _placement(
    hnsw: Mapping[str, Any], quantized: Mapping[str, Any], vectors_are_cold: bool
) -> Placement:
    """Links and codes are one file, which is kept as the more demanding of the two wants it."""
    codes = quantized.get("memory")
    if codes is None and quantized.get("always_ram") is not None:
        codes = Placement.PINNED if quantized["always_ram"] else None
    links = hnsw.get("memory") or (Placement.COLD if hnsw.get("on_disk") else None)
    if codes is None and vectors_are_cold:
        codes = Placement.COLD
    asked = [Placement(one) for one in (codes, links) if one is not None]
    for placement in (Placement.PINNED, Placement.CACHED, Placement.COLD):
        if placement in asked:
            return placement
    return Placement.CACHED


def _set(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that were given a value: null means "the default"."""
    return {name: value for name, value in (options or {}).items() if value is not None}
