"""HTTP that no client should send: bodies, targets and framing, all broken on purpose."""

from __future__ import annotations

import gzip
import json
import random
import socket
from typing import Any, NamedTuple

RECEIVE_TIMEOUT_S = 10.0


class Raw(NamedTuple):
    """One request whose framing is right.

    Attributes:
        target: path and query, percent-encoded or not.
    """

    method: str
    target: str
    content: bytes
    headers: dict[str, str]


def odd_body(body: Any, chance: random.Random) -> tuple[bytes, dict[str, str]]:
    """A body that is no JSON, or hardly, and its headers."""
    text = json.dumps(body).encode()
    kind = {"content-type": "application/json"}
    match chance.randrange(12):
        case 0:
            return chance.randbytes(chance.randrange(1, 2_000)), kind
        case 1:
            return text[: chance.randrange(len(text))], kind
        case 2:
            opening = chance.choice([b"[", b'{"filter":{"must":', b'{"prefetch":'])
            return opening * chance.choice([100, 200, 10_000, 100_000]), kind
        case 3:
            depth = chance.choice([100, 127, 128, 129, 1_000, 50_000])
            return b'{"payload":' + b"[" * depth + b"]" * depth + b"}", kind
        case 4:
            digits = chance.choice([b"1" * 5_000, b"1e400", b"-1e999999", b"0." + b"0" * 9_000])
            return b'{"limit":' + digits + b',"points":[' + digits + b"]}", kind
        case 5:
            return text, kind | {"content-encoding": chance.choice(["gzip", "br", "x", "deflate"])}
        case 6:
            packed = bytearray(gzip.compress(text))
            packed[chance.randrange(len(packed))] ^= 0xFF
            cut = chance.randrange(1, len(packed))
            return bytes(packed[:cut]), kind | {"content-encoding": "gzip"}
        case 7:
            others = ["text/plain", "application/x-protobuf", "", "application/json; charset=x"]
            return text, {"content-type": chance.choice(others)}
        case 8:
            return text.decode().encode(chance.choice(["utf-16", "utf-32", "utf-8-sig"])), kind
        case 9:
            literal = chance.choice([b"NaN", b"Infinity", b"'a'", b"undefined", b"0x10", b"01"])
            return b'{"limit":' + literal + b"}", kind
        case 10:
            surrogate = chance.choice([b'"\\ud800"', b'"\xed\xa0\x80"', b'"\\u0000"', b'"\xff"'])
            return b'{"key":' + surrogate + b',"points":[' + surrogate + b"]}", kind
        case _:
            return text + chance.choice([text, b"{}", b"\x00", b",", b"\n//"]), kind


def odd_target(path: str, chance: random.Random) -> str:
    """A path and query that are nearly those of a route."""
    match chance.randrange(4):
        case 0:
            pieces = path.split("/")
            odd = ["%ff", "%00", "%2e%2e", "..", "", "a" * 3_000, "%f0%9f%98%80", "%", "a%2fb", "~"]
            pieces[chance.randrange(1, len(pieces))] = chance.choice(odd)
            return "/".join(pieces)
        case 1:
            names = ["wait", "ordering", "timeout", "consistency", "with", "details_level", "x"]
            values = ["", "-1", "true", "yes", "9" * 40, "%ff", "1.5", "strong", "0", "a" * 2_000]
            chosen = [f"{chance.choice(names)}={chance.choice(values)}" for _ in range(3)]
            return f"{path}?{'&'.join(chosen)}"
        case 2:
            return path + chance.choice(["?", "?&&==", "?%", "?a=%zz", "//", "/%20", "?wait"])
        case _:
            return path + "?" + "&".join(["timeout=1"] * chance.choice([2, 500]))


def odd_framing(path: str, chance: random.Random) -> bytes:
    """Bytes for a connection of their own that are not quite HTTP."""
    host = b"Host: localhost\r\n"
    start = b"POST " + path.encode() + b" HTTP/1.1\r\n" + host
    match chance.randrange(12):
        case 0:
            return chance.randbytes(chance.randrange(1, 4_000))
        case 1:
            return start + b"Content-Length: 1000\r\n\r\n{}"
        case 2:
            return (
                start
                + b"Content-Length: "
                + chance.choice([b"-1", b"x", b"9" * 30])
                + b"\r\n\r\n{}"
            )
        case 3:
            return start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"
        case 4:
            return start + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n"
        case 5:
            both = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
            return start + both + b"2\r\n{}\r\n0\r\n\r\n"
        case 6:
            return start + b"X: " + b"a" * chance.choice([10_000, 200_000]) + b"\r\n\r\n"
        case 7:
            return b"".join([start, *(b"X-%d: a\r\n" % n for n in range(2_000)), b"\r\n"])
        case 8:
            return chance.choice([b"FOO", b"get", b"\x00", b""]) + start[4:] + b"\r\n"
        case 9:
            return start.replace(b"HTTP/1.1", chance.choice([b"HTTP/9.9", b"HTTP", b"", b"\xff"]))
        case 10:
            return start[: chance.randrange(1, len(start))]
        case _:
            return start + b"Content-Length: 2\r\n\r\n{}" + chance.randbytes(200)


def statuses_of(host: str, port: int, sent: bytes) -> list[int]:
    """The statuses that a connection answers until one of both sides has had enough."""
    with socket.create_connection((host, port), RECEIVE_TIMEOUT_S) as connection:
        received = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                received += piece
        except (ConnectionError, BrokenPipeError):
            pass
    lines = [line for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split()[1]) for line in lines]
