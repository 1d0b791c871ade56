"""Is it cheaper to walk the graph, or to score the allowed rows one by one?

The number of allowed rows is exact, so this is a comparison of sums. The constants
were fitted on one thread of an AMD EPYC with AVX-512, on 100,000 x 128 clustered synthetic
vectors and 200,000 x 256 text embeddings; only their ratios matter.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import lru_cache

import msgspec

from headrace.engine.vector_index.settings import IndexSettings

# Scoring a row that a filter left: 30 ns with 128 components, 60 ns with 256, where each filter
# leaves other rows, as most do; half of it for the same rows again. So a thousand rows of 128
# components took 34 us, and 44 us by their codes, which were ahead from 2,000 rows on.
_ROW_NS = 3.0
_ROW_COMPONENT_NS = 0.22

# Scoring its code instead: 25 ns with 128 components, 45 ns with 256; then the best ones'
# vectors.
_CODE_NS = 4.0
_CODE_COMPONENT_NS = 0.16
_CODES_NS = 10_000.0

# Comparing its sketch: 8 to 10 ns with 128 components, 11 to 13 ns with 256; and for each node
# that is surely to be found, the codes of ten.
_SKETCH_NS = 5.0
_SKETCH_COMPONENT_NS = 0.03
_SKETCHED_CODES = 10

# Walking: 30 us, and for each candidate of the width 1 us with 128 components and 1.5 us
# with 256, where a node has 16 links.
_WALK_NS = 30_000.0
_WALK_COMPONENT_NS = 6.5
_WALK_LINKS = 16

# The walk meets allowed rows in proportion to their share, so it has to be wider as they
# thin out. For 0.99 of the ten nearest took, with all nodes, a half, a fifth, a tenth and a
# twentieth of them, on 200,000 x 256 text embeddings 226, 226, 450, 650 and 830; on
# 100,000 x 128 clustered vectors 24, 32, 48, 70 and 120.
_WIDENING_EXPONENT = 0.5


# How many candidates by codes are scored from the floats: k and half as many more, at least
# this many more: on text embeddings, 15 candidates of ten find what 200 do.
_MORE_CANDIDATES_MIN = 10

# Where all codes are compared, so many of the best are scored from the floats: that takes a
# few microseconds, and finds what is within the error of the codes. With more than the most of
# them, or among not many more, all are scored from the floats instead.
_SCANNED_FACTOR = 4
_SCANNED_MORE = 40
_SCANNED_MAX = 2048


class Strategy(StrEnum):
    """How a range is searched."""

    GRAPH = "graph"
    CODES = "codes"
    SKETCHES = "sketches"
    EXACT = "exact"


class RangePlan(msgspec.Struct, frozen=True):
    """How one range is searched, and why.

    Attributes:
        strategy: see `Strategy`.
        cardinality: allowed rows of the range that are in the graph; exact.
        share: of the nodes that are allowed.
        ef: the width of the walk.
        is_below_threshold: whether `full_scan_threshold` decided.
    """

    strategy: Strategy
    cardinality: int
    share: float
    ef: int
    is_below_threshold: bool = False

    @property
    def reason(self) -> str:
        """In words, for `explain`."""
        if self.strategy is Strategy.GRAPH:
            return f"{self.share:.3f} of the nodes are allowed"
        if self.is_below_threshold:
            return "below full_scan_threshold"
        if self.strategy in (Strategy.CODES, Strategy.SKETCHES):
            return f"fewer {self.strategy} than a walk would compare codes"
        return "fewer rows than a walk would visit"


@lru_cache(maxsize=64)
def scored_anyway_max(dim: int) -> int:
    """Up to how many allowed rows are scored by `plan_range`, whatever else there is."""
    return math.ceil(min(_WALK_NS, _CODES_NS) / (_ROW_NS + _ROW_COMPONENT_NS * dim)) - 1


def plan_range(
    cardinality: int,
    node_count: int,
    dim: int,
    ef: int,
    settings: IndexSettings,
    can_scan_codes: bool = False,
    surely: int | None = None,
) -> RangePlan:
    """Choose between the graph, the codes or sketches of the rows, and the rows themselves.

    Args:
        cardinality: allowed nodes.
        node_count: all nodes.
        dim: components of a vector.
        ef: the width that would be walked if all rows were allowed.
        settings: of the vector name.
        can_scan_codes: whether codes are compared faster than vectors.
        surely: how many of the nearest by codes sketches have to leave; None if there can be
            none.
    """
    nodes = max(1, node_count)
    share = cardinality / nodes
    ef = math.ceil(ef / max(share, 1 / nodes) ** _WIDENING_EXPONENT)
    if settings.full_scan_kb is not None and cardinality * dim * 4 <= settings.full_scan_kb * 1024:
        return RangePlan(Strategy.EXACT, cardinality, share, ef, is_below_threshold=True)
    # Of what costs the same the first is chosen.
    strategy, least_ns = Strategy.EXACT, (_ROW_NS + _ROW_COMPONENT_NS * dim) * cardinality
    if can_scan_codes:
        code_ns = _CODE_NS + _CODE_COMPONENT_NS * dim
        ns = _CODES_NS + code_ns * cardinality
        if ns < least_ns:
            strategy, least_ns = Strategy.CODES, ns
        if surely is not None:
            ns = _CODES_NS + code_ns * _SKETCHED_CODES * surely
            ns += (_SKETCH_NS + _SKETCH_COMPONENT_NS * dim) * cardinality
            if ns < least_ns:
                strategy, least_ns = Strategy.SKETCHES, ns
    if _WALK_NS + ef * _WALK_COMPONENT_NS * dim * settings.m / _WALK_LINKS < least_ns:
        strategy = Strategy.GRAPH
    return RangePlan(strategy, cardinality, share, ef)


def candidates_by_codes(k: int) -> int:
    """How many of the nearest by their codes are scored, among which the k nearest are."""
    return k + max(k // 2, _MORE_CANDIDATES_MIN)


def scanned_candidates(k: int, count: int, least: int = 0) -> int | None:
    """How many of the best by their codes are scored; None if it is better to score all.

    Args:
        k: how many are wanted in the end.
        count: how many codes there are.
        least: no fewer than this.
    """
    scanned = max(least, _SCANNED_FACTOR * k + _SCANNED_MORE)
    return scanned if scanned <= min(_SCANNED_MAX, count // _SCANNED_FACTOR) else None
