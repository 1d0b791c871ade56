"""Where is what served? Imports nothing heavy, so that a command line can read it at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from headrace.model.snapshots import SnapshotUrls

DEFAULT_HOST = "127.0.0.1"
DEFAULT_HTTP_PORT = 6333
DEFAULT_GRPC_PORT = 6334
DEFAULT_STOP_TIMEOUT_S = 10.0
DEFAULT_TRANSIENT_COLUMNS_MB = 256


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """The keys that callers may show; an empty one is none.

    Attributes:
        api_key, alt_api_key: allow everything, and sign tokens.
        read_only_api_key: allows every read.
        jwt_rbac: whether JSON Web Tokens are taken, signed with one of the former.
    """

    api_key: str | None = field(default=None, repr=False)
    alt_api_key: str | None = field(default=None, repr=False)
    read_only_api_key: str | None = field(default=None, repr=False)
    jwt_rbac: bool = False


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The certificate that both fronts show, and its key, as PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How one server process serves.

    Attributes:
        data: the data directory; made if it is not there.
        host: the address of both fronts.
        http_port: the REST port; 0 takes a free one.
        grpc_port: the gRPC port; 0 takes a free one, None leaves gRPC out.
        stop_timeout_s: how long requests and batches in hand may take once told to stop.
        auth: the keys that callers must show; without any, everyone may do everything.
        tls: what both fronts encrypt with; None leaves them plain.
        snapshot_urls: from which URLs snapshots may be restored.
        embedding_models: the operator's own functions that embed texts; see
            `register_from_setting`.
        cors_origins: the web origins whose pages may call REST; `*` is all, none is none.
        transient_columns_mb: how much memory the columns of fields without a payload index
            may take, in MiB, over all collections.
    """

    data: Path
    host: str = DEFAULT_HOST
    http_port: int = DEFAULT_HTTP_PORT
    grpc_port: int | None = DEFAULT_GRPC_PORT
    stop_timeout_s: float = DEFAULT_STOP_TIMEOUT_S
    auth: AuthOptions = AuthOptions()
    tls: TlsFiles | None = None
    snapshot_urls: SnapshotUrls = SnapshotUrls.OFF
    embedding_models: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    transient_columns_mb: int = DEFAULT_TRANSIENT_COLUMNS_MB
