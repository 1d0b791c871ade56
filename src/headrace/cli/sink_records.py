"""`headrace sink dry-run` and `headrace sink dead-letters`: records looked at from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.failures import EXIT_UNEXPECTED, CommandFailed
from headrace.cli.options import EmbeddingModelsOption, WorkerConfigOption
from headrace.server.logs import LogLevel, configure_logging

if TYPE_CHECKING:
    from headrace.sink.config import ConnectorConfig
    from headrace.sink.target import Target
    from headrace.sink.worker.dead_letter_topic import DeadLetter

_SHOWN_MAX = 20
_SHOWN_BYTES_MAX = 120

ConnectorArgument = Annotated[
    Path, typer.Argument(metavar="CONNECTOR", help="A connector file, .properties or .json.")
]

dead_letter_commands = typer.Typer(
    name="dead-letters",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at a connector's dead letters, and send them back.",
    epilog="Example: headrace sink dead-letters list airports.properties",
)


def dry_run(
    connector: ConnectorArgument,
    records: Annotated[
        int, typer.Option("--records", min=1, max=1_000_000, help="How many records at most.")
    ] = 1_000,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The data directory whose collections are asked, for a connector that names no "
            "server; nobody else may have it open.",
        ),
    ] = None,
    worker_config: WorkerConfigOption = None,
    embedding_model: EmbeddingModelsOption = None,
) -> None:
    """Show what a connector would write, and what it would refuse; nothing is committed.

    Reads on where the connector would, without joining its consumer group. The target is
    asked what its collections admit, and is not written to. A connector that names no
    server is checked against the store in --data; without it, records are decoded only.
    """
    from headrace.cli.connectors import load_connector, register_models
    from headrace.sink.worker import dry_run as runs

    configure_logging(LogLevel.WARNING)  # which tells keys that are ignored
    register_models(embedding_model or [])
    config = load_connector(connector, worker_config)
    with _target(config, data) as target:
        result = runs.dry_run(config, target, records)
    print(f"records read: {result.records_read}")
    for name, would in sorted(result.collections.items()):
        there = "" if would.is_there is not False else " (the collection is not there)"
        print(
            f"would write into {name}: {would.upserts} upserts, {would.updates} updates, "
            f"{would.deletes} deletes{there}"
        )
    print(f"would refuse: {len(result.refused)}")
    for one in result.refused[:_SHOWN_MAX]:
        print(f"  {one.topic}-{one.partition} offset {one.kafka_offset}: {one.reason}")
    if len(result.refused) > _SHOWN_MAX:
        print(f"  and {len(result.refused) - _SHOWN_MAX} more")
    if target is None:
        print("no collection was asked: give --data to check vectors too")


@dead_letter_commands.callback()
def dead_letters() -> None:
    """Look at a connector's dead letters, and send them back."""


@dead_letter_commands.command(
    "list", epilog="Example: headrace sink dead-letters list airports.properties --limit 20"
)
def list_dead_letters(
    connector: ConnectorArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
    new: Annotated[
        bool, typer.Option("--new", help="Leave out those that were replayed before.")
    ] = False,
    worker_config: WorkerConfigOption = None,
) -> None:
    """Show the records of a connector's dead-letter topic: where from, why, and what."""
    from headrace.cli.connectors import load_connector
    from headrace.sink.worker.dead_letter_topic import DeadLetterTopic

    configure_logging(LogLevel.ERROR)
    topic = DeadLetterTopic(load_connector(connector, worker_config))
    try:
        found = list(islice(topic.read(new), limit))
    finally:
        topic.close()
    for one in found:
        print(_line(one))
    print(f"dead letters: {len(found)}")


@dead_letter_commands.command(
    epilog="Example: headrace sink dead-letters replay airports.properties"
)
def replay(connector: ConnectorArgument, worker_config: WorkerConfigOption = None) -> None:
    """Produce the dead letters that were not replayed yet to the topics that they came from.

    What was replayed is remembered in Kafka, under the group `headrace-replay-NAME`.
    Records without context headers go to the connector's topic, if it has only one.
    """
    from headrace.cli.connectors import load_connector
    from headrace.sink.worker.dead_letter_topic import DeadLetterTopic

    configure_logging(LogLevel.ERROR)
    topic = DeadLetterTopic(load_connector(connector, worker_config))
    try:
        replayed, homeless = topic.replay()
    finally:
        topic.close()
    print(f"replayed: {replayed}")
    if homeless:
        raise CommandFailed(
            f"{len(homeless)} records say not where they came from: set "
            "errors.deadletterqueue.context.headers.enable=true, and produce these by hand",
            EXIT_UNEXPECTED,
        )


@contextmanager
def _target(config: ConnectorConfig, data: Path | None) -> Iterator[Target | None]:
    from headrace.service.service import Service
    from headrace.sink.target import EmbeddedTarget, QdrantTarget

    if not config.is_embedded:
        target = QdrantTarget(config)
        try:
            yield target
        finally:
            target.close()
    elif data is None:
        yield None
    else:
        if not data.is_dir():
            raise CommandFailed(f"{data} is no data directory", EXIT_UNEXPECTED)
        service = Service.open(data)
        try:
            yield EmbeddedTarget(service)
        finally:
            service.close()


def _line(letter: DeadLetter) -> str:
    context = letter.context
    where = "origin unknown"
    if "topic" in context:
        numbers = f"{context.get('partition', '?')} offset {context.get('offset', '?')}"
        where = f"{context['topic']}-{numbers}"
    why = context.get("exception.message", "no context headers")
    place = f"{letter.partition}:{letter.kafka_offset}"
    return f"{place} from {where}: {why}: {_text(letter.kafka_value)}"


def _text(value: bytes | None) -> str:
    if value is None:
        return "no value"
    text = value.decode("utf-8", "backslashreplace")
    return text if len(text) <= _SHOWN_BYTES_MAX else f"{text[:_SHOWN_BYTES_MAX]}…"
