"""What is told of a snapshot, and from where may one come?"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class SnapshotDescription(msgspec.Struct, frozen=True):
    """A stored snapshot, with the members of Qdrant's `SnapshotDescription`.

    Attributes:
        name: of its file.
        creation_time: UTC, such as `2026-05-01T12:00:00`.
        size: in bytes.
        checksum: SHA-256 of the file, hexadecimal; None if it was put there by hand.
    """

    name: str
    creation_time: str
    size: int
    checksum: str | None


class SnapshotUrls(StrEnum):
    """From which URLs snapshots may be fetched.

    Attributes:
        OFF: from none.
        PUBLIC: only from addresses of the public internet.
        ANY: also from this machine and private networks.
    """

    OFF = "off"
    PUBLIC = "public"
    ANY = "any"
