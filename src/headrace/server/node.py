"""What do the fronts of one process share, besides the store?"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1
from uuid import uuid4

from headrace import __version__
from headrace.server.auth import Authenticator
from headrace.server.requests_log import RequestsLog

# The version of Qdrant whose API is spoken: clients compare it with their own.
QDRANT_API_VERSION = "1.19.0"

# Clients recognise the server by it.
TITLE = "qdrant - vector search engine"

# As long as a commit's hash, which clients expect, and one for each release.
BUILD_ID = sha1(f"headrace {__version__}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Node:
    """One process that serves.

    Attributes:
        authenticator: tells callers apart.
        requests_log: what was answered so far.
        id: tells this life of the process from others.
        started_at: in UTC.
    """

    authenticator: Authenticator = field(default_factory=Authenticator)
    requests_log: RequestsLog = field(default_factory=RequestsLog)
    id: str = field(default_factory=lambda: str(uuid4()))
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
