"""How does one watch the stream run? Live where there is a terminal, else line by line."""

from __future__ import annotations

import time
from types import TracebackType

import msgspec
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

_LINE_INTERVAL_S = 1.0


class Figures(msgspec.Struct, frozen=True):
    """Where the stream is now.

    Attributes:
        records: how many records the sink has taken.
        records_total: how many there will be.
        points: how many points are searchable.
        dead_letters: how many records were refused.
        lag: how many records are in the topic and not yet durable; None while not known.
        records_per_s: the rate since the first record.
    """

    records: int
    records_total: int
    points: int
    dead_letters: int
    lag: int | None
    records_per_s: float

    @property
    def lag_text(self) -> str:
        """The lag, or a dash."""
        return "-" if self.lag is None else f"{self.lag:,}"

    def line(self) -> str:
        """All figures in one line."""
        return (
            f"records in {self.records:,} of {self.records_total:,} | "
            f"points searchable {self.points:,} | {self.records_per_s:,.0f} records/s | "
            f"lag {self.lag_text} | dead letters {self.dead_letters:,}"
        )


class ProgressView:
    """Shows figures as they change; a context manager that leaves the last ones standing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=10) if console.is_terminal else None
        self._shown: Figures | None = None
        self._next_line_at = 0.0

    def show(self, figures: Figures) -> None:
        """Show these figures; without a terminal, one line a second at most."""
        if self._live is not None:
            self._live.update(_panel(figures))
        elif time.monotonic() >= self._next_line_at:
            self._print_line(figures)

    def finish(self, figures: Figures) -> None:
        """Show the last figures, whenever the ones before them were shown."""
        if self._live is not None:
            self._live.update(_panel(figures), refresh=True)
        elif figures != self._shown:
            self._print_line(figures)

    def __enter__(self) -> ProgressView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _print_line(self, figures: Figures) -> None:
        self._console.print(figures.line(), highlight=False, soft_wrap=True)
        self._shown = figures
        self._next_line_at = time.monotonic() + _LINE_INTERVAL_S


def _panel(figures: Figures) -> Table:
    table = Table.grid(padding=(0, 2))
    for name in ("records in", "points searchable", "records/s", "lag", "dead letters"):
        table.add_column(name, justify="right")
    table.add_row(
        ProgressBar(total=figures.records_total, completed=figures.records, width=24),
        *("[dim]points searchable", "[dim]records/s", "[dim]lag", "[dim]dead letters"),
    )
    table.add_row(
        f"{figures.records:,} of {figures.records_total:,} records",
        f"[bold green]{figures.points:,}",
        f"[bold]{figures.records_per_s:,.0f}",
        f"[bold]{figures.lag_text}",
        f"[bold red]{figures.dead_letters:,}" if figures.dead_letters else "0",
    )
    return table
