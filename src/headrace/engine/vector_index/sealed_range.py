"""How is a range of rows that no longer grows searched?

A `SealedRange` covers the rows [row_begin, row_end) of one vector name. Its graph names
candidates; they are scored from the original vectors, so what an answer shows is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from headrace.engine.vector_index.cost import (
    RangePlan,
    Strategy,
    candidates_by_codes,
    plan_range,
    scanned_candidates,
    scored_anyway_max,
)
from headrace.engine.vector_index.graph import Graph, NodeKind
from headrace.engine.vector_index.settings import IndexSettings
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.distances import top_k
from headrace.engine.vectors.kernels import all_similarities
from headrace.engine.vectors.row_set import RowSet
from headrace.model.queries import DEFAULT_SEARCH_PARAMS, SearchParams
from headrace.model.vectors import Distance, FloatVector, Mask, Rows

# What is asked as `ef`, times this, is walked: then the same `ef` finds at least what it
# finds in Qdrant. 200,000 x 256 text embeddings, recall@10: Qdrant at ef 64 / 100 / 128
# 0.971 / 0.983 / 0.990; walks of 112 / 175 / 224 here about 0.976 / 0.986 / 0.990.
_WIDTH_FACTOR = 1.75

# Of product and binary codes, which are coarser, so many are if a query does not say it.
_COARSE_FACTOR = 4
_COARSE_CANDIDATES_MIN = 60

# A masked walk that met fewer than this share of the candidates it was widened for did
# not pass where the allowed rows are.
_MET_SHARE_MIN = 0.5


# The k nearest of ascending rows by the original vectors: `DenseVectors.nearest_among`.
NearestAmong = Callable[[FloatVector, Rows, int], Candidates]


class SealedRange:
    """A graph over the rows [row_begin, row_end); immutable.

    Args:
        row_begin, row_end: the rows it answers for.
        graph_rows: shape (n,): the row of each node. A node whose row is gone has the row
            of the next node, or `row_end` if none follows; but for these, they ascend.
        loose_rows: ascending rows that are always scored one by one: under cosine those of
            length zero, which have no place among the others.
        graph: its nodes are `graph_rows`; None where there are none.
    """

    def __init__(
        self,
        row_begin: int,
        row_end: int,
        graph_rows: Rows,
        loose_rows: Rows,
        graph: Graph | None,
    ) -> None:
        self.row_begin = row_begin
        self.row_end = row_end
        self.graph_rows = graph_rows
        self.loose_rows = loose_rows
        self.graph = graph
        kept: Mask = np.diff(graph_rows, append=row_end) > 0
        self._gone = None if kept.all() else ~kept
        self.is_complete = self._gone is None and len(graph_rows) == row_end - row_begin
        self._all_nodes = RowSet.all(len(graph_rows))
        self._is_quantised = graph is not None and graph.options.quantization is not None
        # Then the rows of a set are its nodes, and a few of them are scored one by one.
        self._takes_few_rows = (
            self.is_complete
            and not row_begin
            and not len(loose_rows)
            and graph is not None
            and not self._is_quantised
        )
        # What was asked of `_plan` last, and its answer.
        self._last_plan: tuple[tuple[object, ...], tuple[RangePlan, int, int]] | None = None
        # The nodes of the last set with many rows: that of all live rows, or of one filter,
        # is often asked for again.
        self._last_nodes: tuple[RowSet, RowSet] | None = None

    @property
    def is_coarse(self) -> bool:
        """Whether there is a graph over product or binary codes alone."""
        return self.graph is not None and self.graph.kind is NodeKind.QUANTISED

    @property
    def has_gone_nodes(self) -> bool:
        """Whether there are nodes whose rows are gone."""
        return self._gone is not None

    def renumbered(self, kept_rows: Rows) -> SealedRange:
        """The same graph after all rows but the given ones, ascending, were taken out.

        Row `kept_rows[i]` is row i from then on.
        """
        row_begin, row_end = np.searchsorted(kept_rows, (self.row_begin, self.row_end)).tolist()
        has_row = np.isin(self.graph_rows, kept_rows)
        if self._gone is not None:
            has_row &= ~self._gone
        node_count = len(self.graph_rows)
        next_with_row = np.where(has_row, np.arange(node_count), node_count)
        next_with_row = np.minimum.accumulate(next_with_row[::-1])[::-1]
        rows = np.append(np.searchsorted(kept_rows, self.graph_rows), row_end)
        loose_rows = np.searchsorted(kept_rows, np.intersect1d(self.loose_rows, kept_rows))
        return SealedRange(row_begin, row_end, rows[next_with_row], loose_rows, self.graph)

    @property
    def vector_count(self) -> int:
        """How many vectors are here, those of deleted and gone rows included."""
        return len(self.graph_rows) + len(self.loose_rows)

    def live_count(self, live: Mask) -> int:
        """How many of its vectors belong to live rows."""
        return self._allowed_nodes(RowSet.of_mask(live)).count + int(
            np.count_nonzero(_within(live, self.loose_rows))
        )

    def plan(
        self,
        allowed: RowSet,
        dim: int,
        k: int,
        settings: IndexSettings,
        params: SearchParams = DEFAULT_SEARCH_PARAMS,
    ) -> RangePlan:
        """How a search with these allowed rows is done; the arguments are those of `nearest`."""
        graph, nodes = self.graph, self._allowed_nodes(allowed)
        wanted = None
        if graph is not None and graph.options.quantization and not params.ignore_quantization:
            wanted = _oversampled(k, graph, params)
        return self._plan(nodes, dim, k, params.hnsw_ef, settings, wanted)[0]

    def makes_sketches(
        self, allowed: RowSet, dim: int, k: int, settings: IndexSettings, params: SearchParams
    ) -> bool:
        """Whether a search with these allowed rows is the first that wants sketches."""
        scan = None if self.graph is None else self.graph.node_scan
        if scan is None or not scan.can_sketch or scan.has_sketches:
            return False
        return self.plan(allowed, dim, k, settings, params).strategy is Strategy.SKETCHES

    def nearest(
        self,
        query: FloatVector,
        allowed: RowSet,
        k: int,
        settings: IndexSettings,
        nearest_among: NearestAmong,
        params: SearchParams = DEFAULT_SEARCH_PARAMS,
        distance: Distance = Distance.DOT,
    ) -> Candidates:
        """The k rows nearest to a query; nearly always, where the graph is walked.

        Args:
            query: shape (dim,), float32; normalised for cosine.
            allowed: of the whole collection: rows that may be returned.
            k: how many at most.
            settings: of the vector name.
            nearest_among: chooses among rows by their original vectors.
            params: `hnsw_ef` is, as in Qdrant, the width of the walk (see `_WIDTH_FACTOR`), None
                = `ef_construct`; and what is to be done with quantised vectors, if there are such.
            distance: of the vectors, by which codes are scored if nothing is rescored.
        """
        if (
            self._takes_few_rows
            and allowed.row_count == self.row_end
            and allowed.count <= scored_anyway_max(len(query))
        ):
            return nearest_among(query, allowed.rows, k)
        is_quantised = self._is_quantised
        if is_quantised and params.rescore is False and not params.ignore_quantization:
            return self._nearest_by_codes(
                query, allowed, k, settings, nearest_among, params, distance
            )
        nodes = self._allowed_nodes(allowed)
        if is_quantised:
            rows = self._quantised_candidates(query, nodes, k, settings, params)
        else:
            rows = self._candidate_nodes(query, nodes, k, params.hnsw_ef, settings, None)
            if self.row_begin or not self.is_complete:
                rows = self._rows_of(rows)
        if len(self.loose_rows):
            loose = self.loose_rows[_within(allowed.mask, self.loose_rows)]
            rows = np.union1d(rows, loose)
        return nearest_among(query, rows, k)

    def _quantised_candidates(
        self,
        query: FloatVector,
        nodes: RowSet,
        k: int,
        settings: IndexSettings,
        params: SearchParams,
    ) -> Rows:
        """Ascending rows among which the nearest are, by quantised vectors."""
        assert self.graph is not None
        if params.ignore_quantization and self.is_coarse:
            # There is no graph over anything else: each row is scored.
            return self._rows_of(nodes.rows)
        wanted = _oversampled(k, self.graph, params)
        return self._rows_of(
            self._candidate_nodes(query, nodes, k, params.hnsw_ef, settings, wanted)
        )

    def _nearest_by_codes(
        self,
        query: FloatVector,
        allowed: RowSet,
        k: int,
        settings: IndexSettings,
        nearest_among: NearestAmong,
        params: SearchParams,
        distance: Distance,
    ) -> Candidates:
        """The nearest by what their codes stand for; the original vectors are not read."""
        graph = self.graph
        assert graph is not None
        nodes = self._allowed_nodes(allowed)
        wanted = _oversampled(k, graph, params)
        found = self._candidate_nodes(query, nodes, k, params.hnsw_ef, settings, wanted)
        scored = all_similarities(query, graph.decoded(found), distance)
        best = top_k(scored, k)
        rows, scored = self._rows_of(found[best]), scored[best]
        if not len(self.loose_rows):
            return Candidates(rows, scored)
        # Vectors of length zero have no codes.
        loose = self.loose_rows[_within(allowed.mask, self.loose_rows)]
        nearest_loose = nearest_among(query, loose, k)
        rows = np.append(rows, nearest_loose.rows)
        scored = np.append(scored, nearest_loose.similarities)
        best = top_k(scored, k)
        return Candidates(rows[best], scored[best])

    def _candidate_nodes(
        self,
        query: FloatVector,
        nodes: RowSet,
        k: int,
        ef: int | None,
        settings: IndexSettings,
        wanted: int | None,
    ) -> Rows:
        """Ascending nodes among which the nearest are; `wanted`, if given, is how many."""
        graph = self.graph
        if graph is None or not nodes.count:
            return np.empty(0, dtype=np.int64)
        if nodes.count <= scored_anyway_max(len(query)):
            return nodes.rows
        node_count = len(self.graph_rows)
        plan, wanted, scanned = self._plan(nodes, len(query), k, ef, settings, wanted)
        if plan.strategy in (Strategy.CODES, Strategy.SKETCHES):
            surely = wanted if plan.strategy is Strategy.SKETCHES else 0
            found = graph.nearest_of(query, scanned, nodes, surely)
            if found is not None:
                found.sort()
                return found
        elif plan.strategy is Strategy.GRAPH:
            found = graph.search(
                query,
                wanted,
                plan.ef,
                None if nodes.count == node_count else nodes,
                settings.query_encoding,
            )
            if len(found) >= max(min(k, nodes.count), wanted * _MET_SHARE_MIN):
                found.sort()
                return found
        return nodes.rows

    def _plan(
        self,
        nodes: RowSet,
        dim: int,
        k: int,
        ef: int | None,
        settings: IndexSettings,
        wanted: int | None,
    ) -> tuple[RangePlan, int, int]:
        """What to do, and how many candidates a walk and a comparison of codes are to find.

        The latter is 0 where codes are not compared.
        """
        graph, count = self.graph, nodes.count
        scan = None if graph is None else graph.node_scan
        can_sketch = scan is not None and scan.can_sketch
        # Mostly the same is asked again: of all nodes, or of as many.
        asked, last = (count, dim, k, ef, settings, wanted, can_sketch), self._last_plan
        if last is not None and last[0] == asked:
            return last[1]
        if wanted is None:
            is_coded = graph is not None and graph.is_coded
            wanted = candidates_by_codes(k) if is_coded else k
        wanted = min(count, wanted)
        scanned = None if scan is None else scanned_candidates(k, count, wanted)
        surely = wanted if scanned is not None and can_sketch else None
        width = max(math.ceil((ef or settings.ef_construct) * _WIDTH_FACTOR), wanted)
        plan = plan_range(
            count, len(self.graph_rows), dim, width, settings, scanned is not None, surely
        )
        planned = (plan, wanted, scanned or 0)
        self._last_plan = (asked, planned)
        return planned

    def _allowed_nodes(self, allowed: RowSet) -> RowSet:
        """Which nodes are rows that may be returned."""
        node_count = len(self.graph_rows)
        if self.is_complete:
            if allowed.count == allowed.row_count >= self.row_end:
                return self._all_nodes
            if allowed.row_count == node_count and not self.row_begin:
                return allowed
        if not allowed.is_listed:
            return self._nodes_of_mask(allowed)
        begin, end = allowed.rows.searchsorted((self.row_begin, self.row_end)).tolist()
        rows = allowed.rows[begin:end]
        if self.is_complete:
            return RowSet.of_rows(rows - self.row_begin, node_count)
        if not node_count:
            return RowSet.none(0)
        # Of the nodes with one row, the last is the one that is not gone.
        listed = np.searchsorted(self.graph_rows, rows, side="right") - 1
        listed = listed[self.graph_rows[listed] == rows]
        return RowSet.of_rows(listed, node_count)

    def _nodes_of_mask(self, allowed: RowSet) -> RowSet:
        last = self._last_nodes
        if last is not None and last[0] is allowed:
            return last[1]
        if self.is_complete:
            nodes = RowSet.of_mask(allowed.mask[self.row_begin : self.row_end])
        else:
            mask = _within(allowed.mask, self.graph_rows)
            if self._gone is not None:
                mask[self._gone] = False
            nodes = RowSet.of_mask(mask)
        self._last_nodes = (allowed, nodes)
        return nodes

    def _rows_of(self, nodes: Rows) -> Rows:
        if self.is_complete:
            return nodes + self.row_begin if self.row_begin else nodes
        rows: Rows = self.graph_rows[nodes]
        return rows


def _oversampled(k: int, graph: Graph, params: SearchParams) -> int:
    """How many candidates by quantised vectors are considered."""
    if params.oversampling is not None:
        return math.ceil(k * params.oversampling)
    if graph.kind is NodeKind.QUANTISED and params.rescore is not False:
        return _COARSE_FACTOR * k + _COARSE_CANDIDATES_MIN
    return candidates_by_codes(k)


def _within(mask: Mask, rows: Rows) -> Mask:
    """Which of the ascending rows a mask, perhaps an older and shorter one, allows."""
    allowed = np.zeros(len(rows), dtype=np.bool_)
    known = int(np.searchsorted(rows, len(mask)))
    allowed[:known] = mask[rows[:known]]
    return allowed
