"""What can be asked of the parts of a run?

A question is a condition that is ready to be asked of any run: it knows which parts it
needs, and answers with a find.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from headrace.engine.payload_index.build import Part
from headrace.engine.payload_index.elements import Elements, SomeElement
from headrace.engine.payload_index.found import ByMask, ByTest, Exactly, Found
from headrace.engine.payload_index.part_key import POINTS, PartKey, PartKind, Space
from headrace.engine.payload_index.run import Run
from headrace.engine.vectors.row_set import RowSet
from headrace.model.filters import Condition, Slice
from headrace.model.ids import PointId
from headrace.model.vectors import Mask, Rows


class PointsReader(Protocol):
    """What is asked of the points of a view, beside their payload columns."""

    def rows_of_ids(self, ids: Sequence[PointId]) -> RowSet:
        """The rows of those ids that the view shows."""

    def rows_with_vector(self, name: str) -> RowSet:
        """The rows that have a vector of this name."""

    def rows_in_slice(self, wanted: Slice) -> RowSet:
        """The rows whose ids fall into a slice."""

    def evaluate(self, condition: Condition, rows: Rows) -> Mask:
        """Which of these rows satisfy a condition, by their payloads; slow."""


class Ground(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a question is asked of: one run, as one view sees it."""

    run: Run
    parts: Mapping[PartKey, Part]
    points: PointsReader

    def row_count(self, space: Space) -> int:
        """How many rows, or elements, a space has."""
        if space == POINTS:
            return self.run.row_count
        elements = self.parts[PartKey(space[:-1], space[-1], PartKind.ELEMENTS)]
        assert isinstance(elements, Elements)
        return len(elements)


class Question(Protocol):
    """A condition that is ready to be asked of any run."""

    @property
    def keys(self) -> Collection[PartKey]:
        """The parts that it needs, each once."""

    def find(self, ground: Ground) -> Found:
        """What satisfies it."""


class PartQuestion(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A question to one part.

    Attributes:
        key: of the part.
        ask: finds the rows in the part.
    """

    key: PartKey
    ask: Callable[[Any], Found]

    @property
    def keys(self) -> Collection[PartKey]:
        """See `Question`."""
        return (self.key,)

    def find(self, ground: Ground) -> Found:
        """See `Question`."""
        return self.ask(ground.parts[self.key])


class PointsQuestion:
    """A question to the points of a view.

    Args:
        ask: finds the rows of the view.
    """

    __slots__ = ("_ask",)

    keys: Collection[PartKey] = ()

    def __init__(self, ask: Callable[[PointsReader], RowSet]) -> None:
        self._ask = ask

    def find(self, ground: Ground) -> Found:
        """See `Question`."""
        answer = self._ask(ground.points)
        if not answer.is_listed:
            return ByMask(ground.run.inner_mask(answer.mask))
        rows = ground.run.inner_rows(answer.rows)
        return Exactly(RowSet.of_rows(rows, ground.run.row_count))


class PayloadQuestion:
    """A condition on points that no part answers.

    Args:
        condition: what the payloads are evaluated by.
    """

    __slots__ = ("_condition",)

    keys: Collection[PartKey] = ()

    def __init__(self, condition: Condition) -> None:
        self._condition = condition

    def find(self, ground: Ground) -> Found:
        """See `Question`."""
        return ByTest(
            ground.run.row_count,
            lambda rows: ground.points.evaluate(self._condition, ground.run.outer_rows(rows)),
        )


class Everything:
    """Every row or element of a space."""

    __slots__ = ("_space",)

    keys: Collection[PartKey] = ()

    def __init__(self, space: Space) -> None:
        self._space = space

    def find(self, ground: Ground) -> Found:
        """See `Question`."""
        return Exactly(RowSet.all(ground.row_count(self._space)))


class Nothing:
    """No row or element of a space."""

    __slots__ = ("_space",)

    keys: Collection[PartKey] = ()

    def __init__(self, space: Space) -> None:
        self._space = space

    def find(self, ground: Ground) -> Found:
        """See `Question`."""
        return Exactly(RowSet.none(ground.row_count(self._space)))


class Combined:
    """Several questions, combined.

    Args:
        questions: about one space.
        combine: makes one find of theirs, given how many rows the space has.
        space: that they are about.
    """

    __slots__ = ("_combine", "_questions", "_space")

    def __init__(
        self,
        questions: Sequence[Question],
        combine: Callable[[Sequence[Found], int], Found],
        space: Space,
    ) -> None:
        self._questions = questions
        self._combine = combine
        self._space = space

    @property
    def keys(self) -> Collection[PartKey]:
        """See `Question`."""
        return {key for question in self._questions for key in question.keys}

    def find(self, ground: Ground) -> Found:
        """See `Question`."""
        found = [question.find(ground) for question in self._questions]
        return self._combine(found, ground.row_count(self._space))


class SomeElementQuestion:
    """A question to the elements of an array.

    Args:
        elements: the part that has them.
        question: what one of them must satisfy.
    """

    __slots__ = ("_elements", "_question")

    def __init__(self, elements: PartKey, question: Question) -> None:
        self._elements = elements
        self._question = question

    @property
    def keys(self) -> Collection[PartKey]:
        """See `Question`."""
        return {self._elements, *self._question.keys}

    def find(self, ground: Ground) -> Found:
        """See `Question`."""
        elements = ground.parts[self._elements]
        assert isinstance(elements, Elements)
        return SomeElement(elements, self._question.find(ground))
