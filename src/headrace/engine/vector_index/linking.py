"""How is a whole graph over 8-bit codes linked at once, instead of node by node?

Linking node by node walks the graph for each node, from one end of memory to the other.
Here all nodes are cut into small groups around random pivots, within which every node is
compared with every other while the group is in the processor's cache; then again around
other pivots, a dozen times by default. What is near to a node's nearest is mostly near to it as
well, so these are compared too. Of its nearest a node links to those in different
directions, and to those that link to it, as many as there is room for. The upper layers,
each over a random part of the nodes of the one below, are linked in the same way.

The same codes make the same graph, however many threads there are. For the quality and the
time of it see `docs/benchmarks.md`; the idea of groups around random pivots is that of
HCNNG (Munoz et al., 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.engine.vector_index.builder import NoMoreThreads
from headrace.engine.vector_index.byte_links import (
    EMPTY,
    append_links,
    choose_links,
    compare_all,
    compare_neighbours,
    join_links,
    linked_from,
    nearest_pivots,
    pooled_nodes,
    reach,
    reach_back,
)

Codes = NDArray[np.uint8]
Nodes = NDArray[np.int32]
Links = NDArray[np.int32]

# Nodes of a group at most: their codes stay in the second cache. With half as many, a graph of
# text (200,000 x 256) needs a walk of width 97 for the recall that this one has with 80.
_GROUP_MAX = 1600

# So many parts a set of nodes is cut into at once; nearer pivots make better groups.
_PIVOTS = 16

# If nearly all nodes have the same nearest pivot, they are cut anyhow.
_LOPSIDED_SHARE = 0.9

# For this many candidates of a node there is one more way to group them.
_CANDIDATES_PER_GROUPING = 6.4
_GROUPINGS_MIN, _GROUPINGS_MAX = 4, 24

# What is known of the nearest takes no more memory than this, while it is not less than is
# linked to: so much for each of a million nodes, or fewer candidates.
_POOL_BYTES = 640_000_000

# So many of a node's nearest, and of those to whom it is near, are asked who is near to them.
_ASKED = 10

# A candidate is left out if another is nearer to it than this makes up for, of squared
# distances. On the lowest layer more links in one direction find more of real text; above it
# a walk has only one candidate, and needs all directions.
_SLACK_LOWEST = 1.2
_SLACK_UPPER = 1.0

# No more than so many of the nodes that link to one are considered, for each of its links.
_LINKING_FACTOR = 2

# Nodes of a layer for each on the layer above. HNSW has m, where it grows node by node and the
# first nodes keep links to what was nearest then; here only these layers lead far.
_LAYER_RATIO = 4

# What is far away is linked to by the nodes that are on the layer above as well, by as large
# a part of their links as they have room for at most: to their neighbours there.
_FAR_SHARE = 0.25

# Nodes that are reached, among which a near one is looked for where a node knows none.
_LANDMARKS = 64

_NODES_PER_TASK = 4096
_SEED = 20240601


class Layers(NamedTuple):
    """The links of all nodes, in FAISS's order.

    Attributes:
        links: of node i from begins[i] on: of the lowest layer, then of the upper ones.
        begins: shape (nodes + 1,).
        layers: shape (nodes,): how many layers a node is in.
        entry: a node of the top layer.
    """

    links: Nodes
    begins: NDArray[np.uint64]
    layers: NDArray[np.int32]
    entry: int


def link_all(
    codes: Codes,
    m: int,
    candidates: int,
    layer_begins: NDArray[np.int32],
    threads: Callable[[], int],
    check: Callable[[], None],
    report: Callable[[float], None],
) -> Layers:
    """Link all nodes.

    Args:
        codes: shape (n, code_dim), n >= 1.
        m: links of a node on each upper layer; twice as many on the lowest.
        candidates: how many of a node's nearest are considered.
        layer_begins: where the links of a layer begin among those of a node; one longer
            than there may be layers.
        threads: how many work at a time; asked before each part of the work.
        check: called before each part of the work; what it raises ends the work.
        report: is told which part of the work is done.

    Raises:
        NoMoreThreads: Python ends meanwhile.
    """
    count = len(codes)
    rng = np.random.default_rng(_SEED)
    heights = -np.log(1 - rng.random(count)) / math.log(_LAYER_RATIO)
    layers = np.minimum(heights.astype(np.int32), len(layer_begins) - 2) + np.int32(1)
    begins = np.zeros(count + 1, dtype=np.uint64)
    np.cumsum(layer_begins[layers], out=begins[1:])
    links = np.full(int(begins[-1]), -1, dtype=np.int32)
    top = int(layers.max())
    entry = int(layers.argmax())
    with ThreadPoolExecutor(thread_name_prefix="vector-index-linking") as pool:
        running: set[Future[None]] = set()

        def run(task: Callable[..., None], arguments: Iterable[tuple[object, ...]]) -> None:
            # Making the arguments may run tasks as well.
            own = []
            for of_one in arguments:
                check()
                while len(running) >= threads():
                    done = wait(running, return_when=FIRST_COMPLETED).done
                    running.difference_update(done)
                    for future in done:
                        future.result()
                own.append(_submitted(pool, task, of_one))
                running.add(own[-1])
            for future in own:
                future.result()
            running.difference_update(own)

        nodes_above, links_above = np.empty(0, dtype=np.int32), np.empty((0, m), dtype=np.int32)
        for layer in reversed(range(top)):
            nodes = np.flatnonzero(layers > layer).astype(np.int32)
            width = m if layer else 2 * m
            linked = _Layer(
                codes[nodes] if layer else codes,
                run,
                check,
                rng,
                max(candidates, width),
                width,
                _silent if layer else report,
            ).link(
                _SLACK_UPPER if layer else _SLACK_LOWEST,
                int(np.searchsorted(nodes, entry)),
                np.searchsorted(nodes, nodes_above).astype(np.int32),
                np.where(links_above < 0, -1, np.searchsorted(nodes, links_above)).astype(np.int32),
            )
            nodes_above, links_above = nodes, np.where(linked < 0, -1, nodes[linked])
            places = begins[nodes].astype(np.int64) + int(layer_begins[layer])
            for column in range(width):
                links[places + column] = links_above[:, column]
    return Layers(links, begins, layers, entry)


def _submitted(
    pool: ThreadPoolExecutor, task: Callable[..., None], arguments: tuple[object, ...]
) -> Future[None]:
    try:
        return pool.submit(task, *arguments)
    except RuntimeError as error:
        # At its end Python closes all pools, before it ends threads; a system that is short of
        # threads is a failure, after which the next write asks again.
        if "shutdown" not in str(error):
            raise
        raise NoMoreThreads(str(error)) from error


def _silent(done: float) -> None:
    """Upper layers are a small part of the work."""


Run = Callable[[Callable[..., None], Iterable[tuple[object, ...]]], None]


class _Layer:
    """One layer while it is linked; its nodes are counted from 0 on.

    Args:
        codes: shape (n, code_dim), of its nodes.
        run: calls a function with each of some arguments, some at a time.
        check: see `link_all`.
        rng: where pivots come from.
        candidates: how many of a node's nearest are considered; fewer if there are very many
            nodes.
        degree: how many links a node has at most.
        report: is told which part of the work is done.
    """

    def __init__(
        self,
        codes: Codes,
        run: Run,
        check: Callable[[], None],
        rng: np.random.Generator,
        candidates: int,
        degree: int,
        report: Callable[[float], None],
    ) -> None:
        self._codes = codes
        self._count = len(codes)
        self._degree = degree
        self._run = run
        self._check = check
        self._rng = rng
        self._report = report
        affordable = max(degree, _POOL_BYTES // (8 * self._count))
        size = max(1, min(candidates, affordable, self._count - 1))
        self._groupings = 1
        if self._count > _GROUP_MAX:
            wanted = math.ceil(size / _CANDIDATES_PER_GROUPING)
            self._groupings = min(max(_GROUPINGS_MIN, wanted), _GROUPINGS_MAX)
        self._pools = np.full((self._count, size), EMPTY, dtype=np.uint64)

    def link(self, slack: float, root: int, nodes_above: Nodes, links_above: Links) -> Links:
        """The links of all nodes, shape (n, degree), filled up with -1.

        Args:
            slack: see `choose_links`.
            root: every node can be reached from it.
            nodes_above: those that are on the layer above as well.
            links_above: shape (len(nodes_above), w): their links there.
        """
        for grouping in range(self._groupings):
            # While groups are compared, the next ones are made.
            self._run(compare_all, ((self._codes, group, self._pools) for group in self._groups()))
            self._report(0.7 * (grouping + 1) / self._groupings)
        if self._groupings > 1:
            self._ask_neighbours()
        self._report(0.8)
        chosen = np.empty((self._count, self._degree), dtype=np.int32)
        self._run(
            choose_links,
            ((self._codes, self._pools, slack, chosen, *part) for part in self._parts()),
        )
        append_links(chosen, nodes_above, links_above, int(self._degree * _FAR_SHARE))
        self._report(0.9)
        links = self._joined(chosen, slack)
        self._connect(links, root)
        self._report(1.0)
        return links

    def _groups(self) -> Iterator[Nodes]:
        """The nodes in groups, mostly of such that are near to each other."""
        waiting = [self._rng.permutation(self._count).astype(np.int32)]
        while waiting:
            nodes = waiting.pop()
            if len(nodes) <= _GROUP_MAX:
                yield nodes
                continue
            pivots = min(_PIVOTS, 2 * len(nodes) // _GROUP_MAX)
            # Nodes are in random order: within a part of one pivot too.
            nearest = self._nearest_pivots(nodes, nodes[:pivots].copy())
            sizes = np.bincount(nearest, minlength=pivots)
            if sizes.max() > _LOPSIDED_SHARE * len(nodes):
                waiting += np.array_split(nodes, -(-len(nodes) // _GROUP_MAX))
                continue
            # As bytes they are sorted by their digits.
            ordered = nodes[np.argsort(nearest.astype(np.uint8), kind="stable")]
            waiting += [part for part in np.split(ordered, np.cumsum(sizes)[:-1]) if len(part)]

    def _nearest_pivots(self, nodes: Nodes, pivots: Nodes) -> Nodes:
        nearest = np.empty(len(nodes), dtype=np.int32)
        parts = [slice(*part) for part in _parts(len(nodes))]
        self._run(
            nearest_pivots,
            ((self._codes, nodes[part], pivots, nearest[part]) for part in parts),
        )
        return nearest

    def _ask_neighbours(self) -> None:
        """Compare each node with what is near to its nearest, and to whom it is near."""
        asked = min(_ASKED, self._pools.shape[1])
        near = np.full((self._count, 2 * asked), -1, dtype=np.int32)
        nearest = np.empty((self._count, asked), dtype=np.int32)
        pooled_nodes(self._pools, nearest)
        near[:, :asked] = nearest
        begins, linking = self._linked_from(nearest)
        sizes = np.minimum(np.diff(begins[:-1]), asked)
        for place in range(asked):
            has_one = np.flatnonzero(sizes > place)
            near[has_one, asked + place] = linking[begins[has_one] + place]

        def compare(begin: int, end: int) -> None:
            seen = np.full(self._count, -1, dtype=np.int32)
            compare_neighbours(self._codes, near, self._pools, begin, end, seen)

        # Few parts, since each has to mark what it has seen.
        self._run(compare, _parts(self._count, max(_NODES_PER_TASK, self._count // 16)))

    def _joined(self, chosen: Links, slack: float) -> Links:
        begins, linking = self._linked_from(chosen)
        degree = chosen.shape[1]
        links = np.empty_like(chosen)
        most = _LINKING_FACTOR * degree
        self._run(
            join_links,
            (
                (self._codes, chosen, begins, linking, most, slack, links, *part)
                for part in self._parts()
            ),
        )
        return links

    def _linked_from(self, links: Links) -> tuple[NDArray[np.int64], Nodes]:
        begins = np.zeros(self._count + 2, dtype=np.int64)
        linking = np.empty(links.size, dtype=np.int32)
        linked_from(links, begins, linking)
        return begins, linking

    def _connect(self, links: Links, root: int) -> None:
        """Add links until every node is reached from `root`, and it from every node; in place.

        Clusters that lie apart, and nodes of which there are many copies, know only each other.
        """
        queue = np.empty(self._count, dtype=np.int32)
        reached = self._only(root, queue)
        if reach(links, queue, 1, reached) < self._count:
            landmarks = self._landmarks(reached, links)
            for node in self._checked(np.flatnonzero(reached == 0)):
                if reached[node]:
                    continue
                known = self._pooled(node)
                known = known[(reached[known] == 1) & (links[known, -1] < 0)]
                if not len(known):
                    landmarks = landmarks[links[landmarks, -1] < 0]
                    if not len(landmarks):
                        landmarks = self._landmarks(reached, links)
                    known = self._nearest(node, landmarks)
                if not len(known):
                    break
                _add_link(links, known[0], node)
                queue[0], reached[node] = node, 1
                reach(links, queue, 1, reached)
        reached = self._only(root, queue)
        begins, linking = self._linked_from(links)
        if reach_back(begins, linking, queue, 1, reached) < self._count:
            landmarks = self._landmarks(reached, links)
            for node in self._checked(np.flatnonzero((reached == 0) & (links[:, -1] < 0))):
                if not reached[node] and len(landmarks):
                    _add_link(links, node, self._nearest(node, landmarks)[0])
                    queue[0], reached[node] = node, 1
                    reach_back(begins, linking, queue, 1, reached)

    def _checked(self, nodes: NDArray[np.int64]) -> Iterator[int]:
        """The nodes one by one: of all alike there may be very many."""
        for begin, end in _parts(len(nodes)):
            self._check()
            yield from nodes[begin:end].tolist()

    def _only(self, root: int, queue: Nodes) -> NDArray[np.uint8]:
        """What is reached at first; the queue begins with it."""
        reached = np.zeros(self._count, dtype=np.uint8)
        queue[0], reached[root] = root, 1
        return reached

    def _landmarks(self, reached: NDArray[np.uint8], links: Links) -> Nodes:
        """Some nodes that are reached and have room for a link."""
        nodes = np.flatnonzero((reached == 1) & (links[:, -1] < 0)).astype(np.int32)
        if len(nodes) <= _LANDMARKS:
            return nodes
        some: Nodes = self._rng.choice(nodes, _LANDMARKS, replace=False)
        return some

    def _pooled(self, node: int) -> Nodes:
        """The nearest nodes that are known, nearest first."""
        pooled: Links = np.empty((1, self._pools.shape[1]), dtype=np.int32)
        pooled_nodes(self._pools[node : node + 1], pooled)
        known: Nodes = pooled[pooled >= 0]
        return known

    def _nearest(self, node: int, others: Nodes) -> Nodes:
        """The nearest of some nodes, if there are any."""
        if not len(others):
            return others
        place = np.empty(1, dtype=np.int32)
        nearest_pivots(self._codes, np.array([node], dtype=np.int32), others, place)
        nearest: Nodes = others[place]
        return nearest

    def _parts(self) -> Iterator[tuple[int, int]]:
        return _parts(self._count)


def _add_link(links: Links, source: int | np.int32, target: int | np.int32) -> None:
    links[source, np.argmax(links[source] < 0)] = target


def _parts(count: int, step: int = _NODES_PER_TASK) -> Iterator[tuple[int, int]]:
    return ((begin, min(begin + step, count)) for begin in range(0, count, step))
