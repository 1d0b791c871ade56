"""How are the payloads of a thousand rows kept?

A list while rows are added to it or changed. A full chunk is packed: all its payloads are one
piece of memory, and from the next checkpoint on a stretch of a mapped file. That takes no
object a payload, and goes back to the system as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from headrace.model.operations import PayloadJson
from headrace.model.vectors import Rows

CHUNK_ROWS = 1024

PayloadChunk = Sequence[PayloadJson]


class UncompiledPackedChunk(Sequence[PayloadJson]):
    """Payloads one behind the other, always the same. An item is made when it is asked for.

    Args:
        bounds: shape (payloads + 1,), int64: where each payload begins, and the last one ends.
        payloads: what the bounds count in.
        file: the content of the mapped file that the payloads are a piece of, if they are.
    """

    __slots__ = ("_place",)

    def __init__(self, bounds: Rows, payloads: memoryview, file: memoryview | None = None) -> None:
        # Replaced as a whole: readers may be at it.
        self._place = (bounds, payloads, file)

    @property
    def file(self) -> memoryview | None:
        """The content of the mapped file that the payloads are in."""
        return self._place[2]

    def __len__(self) -> int:
        return len(self._place[0]) - 1

    def bytes_max(self) -> int:
        """The size of the largest payload."""
        return int(np.diff(self._place[0]).max(initial=0))

    def move_to(self, copy: UncompiledPackedChunk) -> None:
        """Give the memory of the payloads back; from now on they lie where those of a copy do.

        Readers may be at it.
        """
        assert len(copy) == len(self)
        self._place = copy._place

    @overload
    def __getitem__(self, place: int) -> PayloadJson: ...
    @overload
    def __getitem__(self, place: slice) -> list[PayloadJson]: ...
    def __getitem__(self, place: int | slice) -> PayloadJson | list[PayloadJson]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        bounds, payloads, _ = self._place
        return bytes(payloads[bounds.item(place) : bounds.item(place + 1)])


try:
    from headrace.engine.payload.packed_chunk import PackedChunk as PackedChunk
except ImportError:  # where the package was built without a C compiler
    PackedChunk = UncompiledPackedChunk  # type: ignore[assignment, misc]


def packed(payloads: Sequence[PayloadJson]) -> PackedChunk:
    """A copy of these payloads."""
    bounds = np.zeros(len(payloads) + 1, dtype=np.int64)
    np.cumsum([len(payload) for payload in payloads], out=bounds[1:])
    return PackedChunk(bounds, memoryview(b"".join(payloads)))
