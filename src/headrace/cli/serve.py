"""`headrace serve`: the store behind REST and gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.cli.failures import EXIT_FAILED_START, EXIT_UNEXPECTED, CommandFailed
from headrace.cli.options import (
    DEFAULT_DATA,
    AltApiKeyOption,
    ApiKeyOption,
    ConfigOption,
    CorsOriginsOption,
    DataOption,
    EmbeddingModelsOption,
    GrpcOption,
    GrpcPortOption,
    HostOption,
    HttpPortOption,
    JwtRbacOption,
    LogFormatOption,
    LogLevelOption,
    ReadOnlyApiKeyOption,
    SnapshotUrlsOption,
    StopTimeoutOption,
    TlsCertOption,
    TlsKeyOption,
    TransientColumnsOption,
    auth_options,
    cors_origins,
    tls_files,
)
from headrace.model.errors import HeadraceError
from headrace.model.snapshots import SnapshotUrls
from headrace.server.logs import LogFormat, LogLevel, configure_logging
from headrace.server.options import (
    DEFAULT_GRPC_PORT,
    DEFAULT_HOST,
    DEFAULT_HTTP_PORT,
    DEFAULT_STOP_TIMEOUT_S,
    DEFAULT_TRANSIENT_COLUMNS_MB,
    ServeOptions,
)

if TYPE_CHECKING:
    from headrace.server.run import CompanionFactory, Serving


def serve(
    config: ConfigOption = None,
    data: DataOption = DEFAULT_DATA,
    host: HostOption = DEFAULT_HOST,
    http_port: HttpPortOption = DEFAULT_HTTP_PORT,
    grpc: GrpcOption = True,
    grpc_port: GrpcPortOption = DEFAULT_GRPC_PORT,
    stop_timeout_s: StopTimeoutOption = DEFAULT_STOP_TIMEOUT_S,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
    api_key: ApiKeyOption = None,
    alt_api_key: AltApiKeyOption = None,
    read_only_api_key: ReadOnlyApiKeyOption = None,
    jwt_rbac: JwtRbacOption = False,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    snapshot_urls: SnapshotUrlsOption = SnapshotUrls.OFF,
    embedding_model: EmbeddingModelsOption = None,
    cors_origin: CorsOriginsOption = None,
    transient_columns_mb: TransientColumnsOption = DEFAULT_TRANSIENT_COLUMNS_MB,
) -> None:
    """Serve the data directory over REST and gRPC until SIGTERM or Ctrl-C.

    Once both answer, one line on stdout says where, such as
    "serving: REST http://127.0.0.1:6333 gRPC 127.0.0.1:6334 data headrace-data".
    """
    # Here and in the other commands: the fronts are imported only by who runs them, since
    # `--help`, `--version` and shell completion must answer at once.
    from headrace.server.run import no_companions

    configure_logging(log_level, log_format)
    options = ServeOptions(
        data,
        host,
        http_port,
        grpc_port if grpc else None,
        stop_timeout_s,
        auth_options(api_key, alt_api_key, read_only_api_key, jwt_rbac),
        tls_files(tls_cert, tls_key),
        snapshot_urls,
        tuple(embedding_model or ()),
        cors_origins(cors_origin),
        transient_columns_mb,
    )
    run_until_stopped(options, no_companions)


def run_until_stopped(options: ServeOptions, make_companions: CompanionFactory) -> None:
    """Run the server as this process's job.

    Raises:
        CommandFailed: it could not start (3), or failed later (2).
    """
    from headrace.server.run import run

    exit_code = EXIT_FAILED_START

    def on_ready(serving: Serving) -> None:
        nonlocal exit_code
        exit_code = EXIT_UNEXPECTED
        print(serving.line(), flush=True)

    try:
        run(options, on_ready, make_companions)
    except HeadraceError as error:
        raise CommandFailed(error.message, exit_code) from error
