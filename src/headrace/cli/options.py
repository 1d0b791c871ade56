"""Which options do several commands share? Each is declared once, with all its names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.settings import ENVIRONMENT_PREFIX, BadSettingsFile, read_settings
from headrace.model.snapshots import SnapshotUrls
from headrace.server.logs import LogFormat, LogLevel
from headrace.server.options import AuthOptions, TlsFiles

# What a browser sends as `Origin`: without a path, not even `/`, and in lower case.
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")


def _take_settings_file(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        try:
            context.default_map = read_settings(path)
        except BadSettingsFile as error:
            raise typer.BadParameter(error.message) from error
    return path


def environment_variable(setting: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + setting.upper()


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar=environment_variable("config"),
        is_eager=True,  # it gives the other options their defaults
        callback=_take_settings_file,
        help="A TOML file with settings; flags and environment variables win over it.",
    ),
]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar=environment_variable("data"),
        help="The data directory; made if it is not there.",
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        "--host",
        envvar=environment_variable("host"),
        help="The address to listen on; beyond loopback, set an API key.",
    ),
]
HttpPortOption = Annotated[
    int,
    typer.Option(
        "--http-port",
        min=0,
        max=65535,
        envvar=environment_variable("http_port"),
        help="The port of the REST API; 0 takes a free one.",
    ),
]
GrpcOption = Annotated[
    bool,
    typer.Option(
        "--grpc/--no-grpc",
        envvar=environment_variable("grpc"),
        help="Whether to serve gRPC at all.",
    ),
]
GrpcPortOption = Annotated[
    int,
    typer.Option(
        "--grpc-port",
        min=0,
        max=65535,
        envvar=environment_variable("grpc_port"),
        help="The port of the gRPC API; 0 takes a free one.",
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar=environment_variable("api_key"),
        help="The key that callers must show to do anything; better set by its environment "
        "variable than here, where other users of the machine see it.",
    ),
]
AltApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--alt-api-key",
        metavar="KEY",
        envvar=environment_variable("alt_api_key"),
        help="A second such key, for while keys are exchanged.",
    ),
]
ReadOnlyApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--read-only-api-key",
        metavar="KEY",
        envvar=environment_variable("read_only_api_key"),
        help="A key that allows to read alone.",
    ),
]
JwtRbacOption = Annotated[
    bool,
    typer.Option(
        "--jwt-rbac/--no-jwt-rbac",
        envvar=environment_variable("jwt_rbac"),
        help="Whether to take JSON Web Tokens with rights, signed with the API key.",
    ),
]
SnapshotUrlsOption = Annotated[
    SnapshotUrls,
    typer.Option(
        "--snapshot-urls",
        envvar=environment_variable("snapshot_urls"),
        help="From which URLs clients may have snapshots restored: `off`, only `public` "
        "addresses, or `any`, this machine and private networks too.",
    ),
]
EmbeddingModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding-model",
        metavar="NAME=MODULE:FUNCTION",
        envvar=environment_variable("embedding_model"),
        help="A function of your own that embeds the texts for which clients name this model; "
        "MODULE may be a FILE.py. Give it once for each model (in the environment variable, "
        "several are separated by spaces).",
    ),
]
CorsOriginsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        metavar="ORIGIN",
        envvar=environment_variable("cors_origin"),
        help="A web origin whose pages may call the REST API, such as https://app.example; `*` "
        "is every origin. Give it once for each (in the environment variable, several are "
        "separated by spaces). None may by default.",
    ),
]
TransientColumnsOption = Annotated[
    int,
    typer.Option(
        "--transient-columns-mb",
        min=0,
        envvar=environment_variable("transient_columns_mb"),
        help="How much memory the columns may take, in MiB, that filters on fields without "
        "a payload index leave behind.",
    ),
]
TlsCertOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        envvar=environment_variable("tls_cert"),
        help="The certificate that both fronts show, as PEM; needs --tls-key.",
    ),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-key",
        metavar="FILE",
        envvar=environment_variable("tls_key"),
        help="The private key of the certificate, as PEM.",
    ),
]
StopTimeoutOption = Annotated[
    float,
    typer.Option(
        "--stop-timeout-s",
        min=0,
        metavar="SECONDS",
        envvar=environment_variable("stop_timeout_s"),
        help="How long requests and batches in hand may take once told to stop.",
    ),
]
ProgressIntervalOption = Annotated[
    float,
    typer.Option(
        "--progress-interval-s",
        min=0,
        metavar="SECONDS",
        envvar=environment_variable("progress_interval_s"),
        help="How often a connector's progress line appears; 0 turns it off.",
    ),
]
ConnectorsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--connector",
        metavar="FILE",
        envvar=environment_variable("connector"),
        help="A connector file, .properties or .json; give it once for each connector "
        "(in the environment variable, several are separated by ':').",
    ),
]
ConnectOption = Annotated[
    bool,
    typer.Option(
        "--connect/--no-connect",
        envvar=environment_variable("connect"),
        help="Whether to serve the REST API that manages connectors.",
    ),
]
ConnectPortOption = Annotated[
    int,
    typer.Option(
        "--connect-port",
        min=0,
        max=65535,
        envvar=environment_variable("connect_port"),
        help="The port of the REST API that manages connectors; 0 takes a free one.",
    ),
]
WorkerConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--worker-config",
        metavar="FILE",
        envvar=environment_variable("worker_config"),
        help="A worker's .properties file, as Kafka Connect has it: what it says of brokers, "
        "converters and clients holds for each connector that does not say it itself.",
    ),
]
LogLevelOption = Annotated[
    LogLevel,
    typer.Option(
        "--log-level",
        envvar=environment_variable("log_level"),
        help="How much is logged, to stderr.",
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar=environment_variable("log_format"),
        help="How it is logged: lines of `text` to read, or of `json` to collect.",
    ),
]

DEFAULT_CONNECT_PORT = 8083
DEFAULT_DATA = Path("headrace-data")
DEFAULT_PROGRESS_INTERVAL_S = 10.0


def auth_options(
    api_key: str | None,
    alt_api_key: str | None,
    read_only_api_key: str | None,
    jwt_rbac: bool,
) -> AuthOptions:
    """The keys that were given.

    Raises:
        typer.BadParameter: tokens are to be taken, and there is no key to sign them with.
    """
    if jwt_rbac and not (api_key or alt_api_key):
        raise typer.BadParameter("--jwt-rbac needs --api-key, which signs the tokens")
    return AuthOptions(api_key, alt_api_key, read_only_api_key, jwt_rbac)


def cors_origins(given: list[str] | None) -> tuple[str, ...]:
    """The web origins that were given, each as browsers write it.

    Raises:
        typer.BadParameter: one is none, so that no page would ever be let in by it.
    """
    for origin in given or ():
        if not _ORIGIN.fullmatch(origin):
            raise typer.BadParameter(
                f"--cors-origin: {origin!r} is no web origin, which is `*`, or a scheme, a host "
                "in lower case and perhaps a port, and no path: https://app.example"
            )
    return tuple(given or ())


def tls_files(cert: Path | None, key: Path | None) -> TlsFiles | None:
    """The certificate and its key, if they were given.

    Raises:
        typer.BadParameter: one was given without the other.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise typer.BadParameter("--tls-cert and --tls-key go together")
    return TlsFiles(cert, key)
