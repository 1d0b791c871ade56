"""A process that puts records on a topic at a steady rate, each with the time at which it did.

`python -m benchmarks.paced_producer BOOTSTRAP_SERVERS TOPIC FILE RECORDS_PER_S` sends the lines
of a file and prints a line when it begins.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

# In a record's value: the time, in microseconds since 1970, takes the place of the zero.
TIME_PLACE = b'"sent_us":0'

_TICK_S = 0.005
# With one time.
_AT_ONCE_MAX = 1000
_LINGER_MS = 5
_FLUSH_S = 30.0


def send(producer: Producer, topic: str, lines: list[bytes], records_per_s: float) -> None:
    """Say that it begins, and send the lines in ticks.

    What a tick is late is made up for in the next one.
    """
    halves = [line.split(TIME_PLACE) for line in lines]
    print("sending", flush=True)
    name = TIME_PLACE[:-1]
    began = time.monotonic()
    sent = 0
    while sent < len(halves):
        due = min(len(halves), sent + _AT_ONCE_MAX)
        if not math.isinf(records_per_s):
            due = min(due, int((time.monotonic() - began) * records_per_s) + 1)
        now = b"%d" % (time.time_ns() // 1000)
        for head, tail in halves[sent:due]:
            _produce(producer, topic, head + name + now + tail)
        sent = due
        producer.poll(0)
        if not math.isinf(records_per_s):
            time.sleep(_TICK_S)


def _produce(producer: Producer, topic: str, value: bytes) -> None:
    """Put a record behind those that wait; one whose time has come is late if there is no room."""
    deadline = time.monotonic() + _FLUSH_S
    while time.monotonic() < deadline:
        try:
            producer.produce(topic, value, partition=0)
        except BufferError:
            producer.poll(_TICK_S)
        else:
            return
    raise SystemExit("the broker takes no records")


def main(bootstrap_servers: str, topic: str, file: str, records_per_s: str) -> None:
    """Send all and wait until the broker has them."""
    lines = Path(file).read_bytes().splitlines()
    settings = {"bootstrap.servers": bootstrap_servers, "linger.ms": _LINGER_MS}
    producer = Producer({**settings, "queue.buffering.max.kbytes": 2**20})
    send(producer, topic, lines, float(records_per_s))
    if producer.flush(_FLUSH_S):
        raise SystemExit("the broker did not take all records")


if __name__ == "__main__":
    main(*sys.argv[1:])
