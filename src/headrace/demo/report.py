"""How are the demo's results shown? As tables of rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.demo.searches import SearchResult
from headrace.demo.topics import DeadLetter

_VALUE_BYTES_SHOWN = 72


def print_search(console: Console, number: int, result: SearchResult, points: int) -> None:
    """One search: what it looked for, how many points its filter let through, the best."""
    search = result.search
    where = search.collection_name + (f" / {search.vector_name}" if search.vector_name else "")
    console.print()
    console.print(Text(f"{number}. {search.title}", style="bold"))
    console.print(
        Text(
            f"{where} · filter: {search.filter_text} ({result.passing:,} of {points:,} points pass)"
        )
    )
    table = Table()
    table.add_column("score", justify="right")
    columns = list(dict.fromkeys(("iata", "name", "city", "state", search.shown_field)))
    for column in columns:
        table.add_column(column, overflow="fold")
    for hit in result.hits:
        payload = hit.payload or {}
        table.add_row(f"{hit.score:.3f}", *(Text(_shown(payload[name])) for name in columns))
    console.print(table)


def print_dead_letters(console: Console, letters: Sequence[DeadLetter]) -> None:
    """What was refused, and why, as the dead letter topic has it."""
    console.print()
    console.print(Text("Dead letters", style="bold"))
    table = Table()
    table.add_column("partition/offset")
    table.add_column("stage")
    table.add_column("reason", overflow="fold")
    table.add_column("value", overflow="fold")
    for letter in letters:
        beginning = letter.value[:_VALUE_BYTES_SHOWN].decode(errors="replace")
        cut = "…" if len(letter.value) > _VALUE_BYTES_SHOWN else ""
        table.add_row(
            Text(letter.source), Text(letter.stage), Text(letter.reason), Text(beginning + cut)
        )
    console.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {one:.3f}" for name, one in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)
