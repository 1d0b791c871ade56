"""How do several requests travel to a target at once, with the records of each point in order?

A batch is split by collection and point into pieces, one for each lane. A lane is a thread
that writes its pieces one after the other and waits, by itself, for a target that takes
nothing now. Meanwhile the task goes on polling, so a slow target never costs it its group.
A batch counts once all its pieces are written, and only after those before it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.model.operations import SourcePartition
from headrace.sink.batch import Batch, Entry
from headrace.sink.config import RetryLimits
from headrace.sink.dead_letters import Interrupted
from headrace.sink.entries import UpsertColumns, kafka_records_of
from headrace.sink.partition_locks import stripe_of
from headrace.sink.progress import TaskCounters
from headrace.sink.retry import retry

logger = logging.getLogger(__name__)

# One that is written, and one that is read and decoded meanwhile.
_BATCHES_IN_HAND_MAX: Final = 2


class _Doing(Enum):
    NOTHING = "nothing"
    WRITING = "writing"
    WAITING = "waiting for the target"


@dataclass(slots=True, eq=False)
class _Piece:
    """What one lane writes of a batch, once those in `after` are written."""

    batch: Batch
    number: int
    after: tuple[_Piece, ...]
    timestamps_ms: NDArray[np.int64]
    is_written: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    pieces: deque[_Piece] = field(default_factory=deque)
    last: _Piece | None = None
    doing: _Doing = _Doing.NOTHING

    @property
    def is_ready(self) -> bool:
        """Whether it has a piece that may be written now."""
        return bool(self.pieces) and all(one.is_written for one in self.pieces[0].after)


class Lanes:
    """The batches that a task has in hand, on their way to the target.

    All methods but the lanes' own are for the task's thread.

    Args:
        name: of the task, for the log and the threads.
        count: how many lanes.
        write: writes a batch; called again with the same one after an error of the class
            TARGET.
        retry: how a target that takes nothing now is tried again.
        counters: the task's.
        is_interrupted: whether the task is to stop.
    """

    def __init__(
        self,
        name: str,
        count: int,
        write: Callable[[Batch], None],
        retry: RetryLimits,
        counters: TaskCounters,
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._name = name
        self._write = write
        self._retry = retry
        self._counters = counters
        self._is_interrupted = is_interrupted
        self._changed = threading.Condition()
        # In the order of submission; one that is written has no pieces and no entries.
        self._in_hand: deque[tuple[Batch, list[_Piece]]] = deque()
        self._lanes = [_Lane() for _ in range(count)]
        self._barrier: _Piece | None = None
        self._submitted = 0
        self._failure: Exception | None = None
        self._failed_number: int | None = None
        self._is_closing = False
        self._threads = [
            threading.Thread(
                target=self._run, args=(lane,), name=f"{name}, lane {rank}", daemon=True
            )
            for rank, lane in enumerate(self._lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be read now."""
        with self._changed:
            return self._is_full()

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until more may be read, or somebody must act; False if it is not so yet."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._failure is not None or not self._is_full(), timeout_s
            )

    def submit(self, batch: Batch) -> None:
        """Have a decoded batch written. It is not to be touched any more, but by `drop`."""
        with self._changed:
            self._submitted += 1
            pieces = self._whole(batch) if _has_shared_records(batch) else self._split(batch)
            self._in_hand.append((batch, pieces))
            self._changed.notify_all()

    def take_written(self) -> list[dict[SourcePartition, int]]:
        """The first offsets after those batches that are written now, oldest first."""
        written = []
        with self._changed:
            while self._in_hand and not self._in_hand[0][1]:
                batch, _ = self._in_hand.popleft()
                written.append(batch.next_offsets)
            if written:
                self._changed.notify_all()
        return written

    def check(self) -> None:
        """Raise what a lane ended with, if one did.

        Raises:
            TaskFailed, Exception: somebody must act.
        """
        if self._failure is not None:
            raise self._failure

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is written, or the target takes nothing; False if not all is."""
        with self._changed:
            self._changed.wait_for(self._is_at_rest, timeout_s)
            return not any(pieces for _, pieces in self._in_hand)

    def drop(self, partitions: Collection[SourcePartition]) -> None:
        """Forget the records of partitions that somebody else reads now.

        A request that is under way is not called back.
        """
        with self._changed:
            for batch, pieces in self._in_hand:
                for partition in partitions:
                    batch.next_offsets.pop(partition, None)
                for piece in pieces:
                    piece.batch.lose(partitions)

    def first_entries(self, collection_name: str) -> Sequence[Entry]:
        """The oldest records in hand that go into a collection; for any thread."""
        with self._changed:
            in_hand = [batch for batch, _ in self._in_hand]
        return next(
            (
                batch.entries[collection_name]
                for batch in in_hand
                if collection_name in batch.entries
            ),
            [],
        )

    def close(self) -> None:
        """Finish what can be written without waiting, give up the rest; returns when it is so."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # How a batch is split, with the lock held

    def _split(self, batch: Batch) -> list[_Piece]:
        """A piece for each lane that gets anything; what is refused goes by the first."""
        count = len(self._lanes)
        if count == 1:
            return [self._add(0, batch.share(batch.entries, with_rest=True), self._after_barrier())]
        shares: list[dict[str, list[Entry]]] = [{} for _ in range(count)]
        for name, entries in batch.entries.items():
            for entry in entries:
                lane = stripe_of(name, entry.change.point_id) % count
                shares[lane].setdefault(name, []).append(entry)
        return [
            self._add(rank, batch.share(share, with_rest=rank == 0), self._after_barrier())
            for rank, share in enumerate(shares)
            if share or rank == 0
        ]

    def _whole(self, batch: Batch) -> list[_Piece]:
        """One piece, between all that is before it and all that comes after it.

        A record that changes several points is refused as a whole, so one lane has it all.
        """
        before = tuple(one.last for one in self._lanes if one.last and not one.last.is_written)
        piece = self._add(0, batch.share(batch.entries, with_rest=True), before)
        self._barrier = piece
        return [piece]

    def _after_barrier(self) -> tuple[_Piece, ...]:
        if self._barrier is not None and self._barrier.is_written:
            self._barrier = None
        return () if self._barrier is None else (self._barrier,)

    def _add(self, rank: int, share: Batch, after: tuple[_Piece, ...]) -> _Piece:
        piece = _Piece(share, self._submitted, after, _timestamps_ms(share))
        lane = self._lanes[rank]
        lane.pieces.append(piece)
        lane.last = piece
        return piece

    # What lanes do

    def _run(self, lane: _Lane) -> None:
        while (piece := self._next(lane)) is not None:
            try:
                self._write_until_durable(lane, piece)
            except Interrupted:
                logger.info("%s gave up a batch, which it reads again later", self._name)
                self._end(lane, piece, None)
            except Exception as error:
                self._end(lane, piece, error)
            else:
                self._note_written(lane, piece)

    def _next(self, lane: _Lane) -> _Piece | None:
        """The lane's next piece; None if there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: lane.is_ready or self._gives_up(lane))
            if not lane.is_ready or self._is_beyond_failure(lane.pieces[0]):
                lane.pieces.clear()
                self._changed.notify_all()
                return None
            lane.doing = _Doing.WRITING
            return lane.pieces[0]

    def _gives_up(self, lane: _Lane) -> bool:
        """Whether a lane that is not ready never will be."""
        if not self._is_closing and self._failure is None:
            return False
        if not lane.pieces or self._is_beyond_failure(lane.pieces[0]):
            return True
        return not any(one.doing is not _Doing.NOTHING or one.is_ready for one in self._lanes)

    def _is_beyond_failure(self, piece: _Piece) -> bool:
        return self._failed_number is not None and piece.number > self._failed_number

    def _write_until_durable(self, lane: _Lane, piece: _Piece) -> None:
        def write() -> None:
            started_s = time.monotonic()
            self._write(piece.batch)
            self._counters.note_write(time.monotonic() - started_s, piece.timestamps_ms)

        def wait(wait_s: float) -> None:
            self._wait_for_target(lane, wait_s)

        what = "the target takes nothing"
        retry(write, wait, self._retry, self._counters, self._name, what)

    def _wait_for_target(self, lane: _Lane, wait_s: float) -> None:
        with self._changed:
            lane.doing = _Doing.WAITING
            self._changed.notify_all()
            if self._changed.wait_for(self._must_end, wait_s):
                raise Interrupted
            lane.doing = _Doing.WRITING

    def _must_end(self) -> bool:
        return self._is_closing or self._failure is not None or self._is_interrupted()

    def _note_written(self, lane: _Lane, piece: _Piece) -> None:
        with self._changed:
            piece.is_written = True
            # Those before it would be kept by it, and by them those before them, and so on.
            piece.after = ()
            self._let_go_of_written()
            lane.doing = _Doing.NOTHING
            lane.pieces.popleft()
            if lane.last is piece:
                lane.last = None
            self._changed.notify_all()

    def _let_go_of_written(self) -> None:
        """Keep of written batches only how far they reach.

        Behind one that a lane is stuck with there may be any number of them.
        """
        kept: deque[tuple[Batch, list[_Piece]]] = deque()
        is_behind = False
        for batch, pieces in self._in_hand:
            if not all(one.is_written for one in pieces):
                is_behind = True
                kept.append((batch, pieces))
            elif is_behind and not kept[-1][1]:
                kept[-1][0].next_offsets.update(batch.next_offsets)
            else:
                kept.append((Batch(next_offsets=batch.next_offsets), []))
        self._in_hand = kept

    def _end(self, lane: _Lane, piece: _Piece, failure: Exception | None) -> None:
        """The lane goes no further, and neither does what comes after this batch."""
        with self._changed:
            lane.doing = _Doing.NOTHING
            if failure is not None and self._failure is None:
                self._failure = failure
            if self._failed_number is None or piece.number < self._failed_number:
                self._failed_number = piece.number
            lane.pieces.clear()
            self._changed.notify_all()

    # Looked at with the lock held

    def _is_full(self) -> bool:
        is_waiting = any(one.doing is _Doing.WAITING for one in self._lanes)
        unwritten = [batch for batch, pieces in self._in_hand if pieces]
        return is_waiting or len(unwritten) >= _BATCHES_IN_HAND_MAX

    def _is_at_rest(self) -> bool:
        if any(one.doing is _Doing.WRITING for one in self._lanes):
            return False
        idle = [one for one in self._lanes if one.doing is _Doing.NOTHING]
        return self._failure is not None or not any(one.is_ready for one in idle)


def _has_shared_records(batch: Batch) -> bool:
    """Whether a record changes several points."""
    seen: set[int] = set()
    for entries in batch.entries.values():
        if isinstance(entries, UpsertColumns):
            continue
        for entry in entries:
            if id(entry.kafka_record) in seen:
                return True
            seen.add(id(entry.kafka_record))
    return False


def _timestamps_ms(batch: Batch) -> NDArray[np.int64]:
    """The timestamps of the good records, for their freshness once they are written."""
    found = [
        kafka_record.timestamp_ms
        for entries in batch.entries.values()
        for kafka_record in kafka_records_of(entries)
        if kafka_record.timestamp_ms is not None
    ]
    return np.array(found, np.int64)
