from headrace.model.vectors import Rows

class SortedIntegers:
    def __init__(self, values: Rows) -> None: ...
    def within(
        self, gt: float | None, gte: float | None, lt: float | None, lte: float | None
    ) -> tuple[int, int]: ...
