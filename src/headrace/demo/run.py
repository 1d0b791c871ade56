"""What happens in `headrace demo`? The main job, from an empty directory to checked answers.

A broker, the store with REST and gRPC, and the sink run in this process; the records of a
real data set go in through the broker, and come out of filtered searches through the
official client. The demo checks its own figures and fails if one is wrong.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from qdrant_client import QdrantClient
from rich.console import Console

from headrace.demo.broker import CONSUMER_SETTINGS, PRODUCER_SETTINGS, TansuBroker
from headrace.demo.dataset import load_airports
from headrace.demo.embedding import TextEmbedding, WordWeights
from headrace.demo.formats import PAYLOAD_INDEXES, MessageFormat, message_formats, text_of
from headrace.demo.hints import print_hints
from headrace.demo.progress import ProgressView
from headrace.demo.report import print_dead_letters, print_search
from headrace.demo.searches import SEARCHES, QueryEncoder, run_search
from headrace.demo.stream import BAD_RECORDS, DemoStream
from headrace.demo.topics import DemoTopics, KafkaUnavailable
from headrace.demo.verify import DemoFailed, check_dead_letters, check_points, check_search
from headrace.demo.watch import watch_until_searchable
from headrace.server.options import ServeOptions
from headrace.server.run import Serving, serve_in_thread
from headrace.sink.config import ConnectorConfig
from headrace.sink.connector import Connector
from headrace.sink.target import EmbeddedTarget

EXIT_OK = 0
EXIT_FAILED = 2
# What a shell reports for a program that SIGINT ended: 128 + 2.
EXIT_INTERRUPTED = 130

_REQUEST_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 10.0
_DEAD_LETTERS_TIMEOUT_S = 30.0
_WIDTH_WITHOUT_TERMINAL = 120


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How the demo runs.

    Attributes:
        bootstrap_servers: the user's own Kafka; None starts an embedded broker.
        keep: leave everything serving afterwards, until Ctrl-C.
        data: the data directory; None takes a new one, removed at the end unless `keep`.
        http_port, grpc_port: where the store answers; 0 takes free ports.
        broker_port: where the embedded broker listens; 0 takes a free port.
    """

    bootstrap_servers: str | None = None
    keep: bool = False
    data: Path | None = None
    http_port: int = 0
    grpc_port: int = 0
    broker_port: int = 0


def run_demo(options: DemoOptions) -> int:
    """Run the demo; the last line on stdout sums it up, if it succeeds.

    To be called from the main thread: the embedded broker ends with the thread that
    started it.

    Returns:
        The exit code: 0; 2 if a figure is wrong or the stream stands still; 130 after
        Ctrl-C or SIGTERM, which stop it cleanly (0 if everything was done and kept).

    Raises:
        HeadraceError: something could not be started; the text says what to do.
    """
    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    console = Console(width=width, highlight=False)
    is_done = False
    with _interrupts() as interrupted:
        try:
            with ExitStack() as stack:
                demo = _Demo(options, console, stack, interrupted)
                summary = demo.run()
                if options.keep:
                    demo.print_hints()
                print(summary, flush=True)
                is_done = True
                if options.keep:
                    threading.Event().wait()
        except KeyboardInterrupt:
            return EXIT_OK if is_done else EXIT_INTERRUPTED
        except DemoFailed as failure:
            print(f"demo: failed: {failure.message}", file=sys.stderr)
            return EXIT_FAILED
    return EXIT_OK


class _Demo:
    """One run: what it needs is started as it is made, and stopped by the stack.

    Raises:
        HeadraceError: something could not be started.
    """

    def __init__(
        self,
        options: DemoOptions,
        console: Console,
        stack: ExitStack,
        interrupted: threading.Event,
    ) -> None:
        self._interrupted = interrupted
        self._started_at = time.monotonic()
        self._options = options
        self._console = console
        self._stack = stack
        airports = load_airports()
        embedding = TextEmbedding()
        weights = WordWeights([text_of(one) for one in airports])
        self._formats = message_formats(airports, embedding, weights)
        self._stream = DemoStream(airports, self._formats)
        self._encoder = QueryEncoder(embedding, weights)
        console.print(f"{len(airports):,} airports, embedded in {len(self._formats)} formats")

        # Named unlike any other run: neither a Kafka that keeps its topics nor a data
        # directory that keeps its offsets may take this run for an earlier one.
        self._name = f"headrace-demo-{uuid.uuid4().hex[:8]}"
        self._bootstrap_servers = options.bootstrap_servers or self._start_broker()
        self._topics = DemoTopics(self._bootstrap_servers, self._name)
        self._serving = self._start_server()
        self._client = QdrantClient(
            url=self._serving.rest_url, timeout=_REQUEST_TIMEOUT_S, check_compatibility=False
        )
        stack.callback(self._client.close)

    def run(self) -> str:
        """The whole demo; returns the line that sums it up.

        Raises:
            DemoFailed: a figure is wrong, or the stream stands still.
        """
        for one in self._formats:
            self._make_collection(one)
        self._make_topics()
        connector = self._start_sink()
        records = self._produce_and_watch(connector)
        points = self._check_points()
        self._search()
        dead_letters = self._check_dead_letters()
        seconds = time.monotonic() - self._started_at
        return (
            f"demo: records={records} points={points} dead_letters={dead_letters} "
            f"searches={len(SEARCHES)} seconds={seconds:.1f}"
        )

    def print_hints(self) -> None:
        """Where everything is, and what to try."""
        print_hints(
            self._console,
            self._serving,
            self._bootstrap_servers,
            self._topics,
            is_broker_embedded=self._options.bootstrap_servers is None,
        )

    # What is started

    def _start_broker(self) -> str:
        broker = self._stack.enter_context(TansuBroker.start(self._options.broker_port))
        self._console.print(f"embedded broker on {broker.bootstrap_servers}")
        return broker.bootstrap_servers

    def _start_server(self) -> Serving:
        data = self._options.data
        if data is None and self._options.keep:
            data = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
        elif data is None:
            data = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-demo-"))
            )
        options = ServeOptions(
            data, http_port=self._options.http_port, grpc_port=self._options.grpc_port
        )
        serving = self._stack.enter_context(serve_in_thread(options))
        self._console.print(serving.line(), soft_wrap=True)
        return serving

    def _make_collection(self, one: MessageFormat) -> None:
        # A directory that was given may hold the collections of an earlier demo.
        self._client.delete_collection(one.collection_name)
        self._client.create_collection(
            one.collection_name,
            vectors_config=one.vectors_config,
            sparse_vectors_config=one.sparse_vectors_config,
        )
        for payload_path, schema in PAYLOAD_INDEXES.items():
            self._client.create_payload_index(one.collection_name, payload_path, schema)
        self._console.print(f"collection {one.collection_name}: {one.title}")

    def _make_topics(self) -> None:
        self._topics.create()
        self._console.print(f"topic {self._topics.airports}")
        if self._options.bootstrap_servers is not None and not self._options.keep:
            self._stack.callback(self._delete_topics)

    def _delete_topics(self) -> None:
        try:
            self._topics.delete(f"connect-{self._name}")
        except KafkaUnavailable as error:
            print(f"demo: warning: {error.message}", file=sys.stderr)

    def _start_sink(self) -> Connector:
        settings = {
            "name": self._name,
            "bootstrap.servers": self._bootstrap_servers,
            "topics": self._topics.airports,
            "key.converter": "json",
            "value.converter": "json",
            "errors.tolerance": "all",
            "errors.deadletterqueue.topic.name": self._topics.dead_letters,
            "errors.deadletterqueue.context.headers.enable": "true",
        }
        if self._options.bootstrap_servers is None:
            settings |= {
                f"consumer.override.{name}": value for name, value in CONSUMER_SETTINGS.items()
            }
        connector = Connector(
            ConnectorConfig.from_mapping(settings), EmbeddedTarget(self._serving.service)
        )
        connector.start()
        self._stack.callback(connector.stop, _STOP_TIMEOUT_S)
        return connector

    # What is run and checked

    def _produce_and_watch(self, connector: Connector) -> int:
        must_stop = threading.Event()
        points_total = sum(len(self._stream.expected_payloads(one)) for one in self._formats)
        with ThreadPoolExecutor(1, "headrace-demo-producer") as executor:
            producing = executor.submit(
                self._topics.produce, self._stream, PRODUCER_SETTINGS, must_stop.is_set
            )
            try:
                with ProgressView(self._console) as view:
                    watch_until_searchable(
                        view,
                        connector,
                        producing,
                        count_points=self._count_points,
                        records_total=len(self._stream),
                        points_total=points_total,
                        dead_letters_total=len(BAD_RECORDS),
                    )
            finally:
                must_stop.set()
        return producing.result()

    def _count_points(self) -> int:
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        return sum(self._client.count(one.collection_name).count for one in self._formats)

    def _check_points(self) -> int:
        for one in self._formats:
            expected = self._stream.expected_payloads(one)
            check_points(self._client, one.collection_name, expected)
        return self._count_points()

    def _search(self) -> None:
        expected = {
            one.collection_name: self._stream.expected_payloads(one) for one in self._formats
        }
        for number, search in enumerate(SEARCHES, start=1):
            result = run_search(self._client, self._encoder, search)
            points = expected[search.collection_name]
            print_search(self._console, number, result, len(points))
            check_search(result, points)

    def _check_dead_letters(self) -> int:
        letters = self._topics.read_dead_letters(len(BAD_RECORDS), _DEAD_LETTERS_TIMEOUT_S)
        print_dead_letters(self._console, letters)
        check_dead_letters(letters)
        return len(letters)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM unwind the stack, so that everything is stopped.

    The exception may be raised where nothing can pass it on, such as in a destructor; so
    the event that is given says too that one came.
    """
    interrupted = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
