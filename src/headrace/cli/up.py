"""`headrace up`: the server and its connectors in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.cli.options import (
    DEFAULT_CONNECT_PORT,
    DEFAULT_DATA,
    DEFAULT_PROGRESS_INTERVAL_S,
    AltApiKeyOption,
    ApiKeyOption,
    ConfigOption,
    ConnectOption,
    ConnectorsOption,
    ConnectPortOption,
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
    ProgressIntervalOption,
    ReadOnlyApiKeyOption,
    SnapshotUrlsOption,
    StopTimeoutOption,
    TlsCertOption,
    TlsKeyOption,
    TransientColumnsOption,
    WorkerConfigOption,
    auth_options,
    cors_origins,
    tls_files,
)
from headrace.cli.serve import run_until_stopped
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
    from collections.abc import Sequence

    from headrace.server.run import Companion
    from headrace.service.service import Service


def up(
    connector: ConnectorsOption = None,
    config: ConfigOption = None,
    data: DataOption = DEFAULT_DATA,
    host: HostOption = DEFAULT_HOST,
    http_port: HttpPortOption = DEFAULT_HTTP_PORT,
    grpc: GrpcOption = True,
    grpc_port: GrpcPortOption = DEFAULT_GRPC_PORT,
    stop_timeout_s: StopTimeoutOption = DEFAULT_STOP_TIMEOUT_S,
    connect: ConnectOption = True,
    connect_port: ConnectPortOption = DEFAULT_CONNECT_PORT,
    worker_config: WorkerConfigOption = None,
    progress_interval_s: ProgressIntervalOption = DEFAULT_PROGRESS_INTERVAL_S,
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
    """Serve, and stream Kafka topics into the same store, in one process.

    A connector without qdrant.grpc.url and qdrant.rest.url writes into this process's
    store, exactly once; with one of them, into that server. A connector that fails is
    logged; the server and the other connectors go on. Kafka Connect's REST API adds and
    manages more, which are kept in the data directory.
    """
    from headrace.cli.connectors import load_connectors, load_worker_defaults
    from headrace.cli.worker import RunningWorker, connect_address, connect_shared
    from headrace.sink.worker.store import ConnectorStore
    from headrace.sink.worker.worker import Worker

    configure_logging(log_level, log_format)
    defaults = load_worker_defaults(worker_config)
    from_files = load_connectors(connector or [], defaults.settings)

    def make_companions(service: Service) -> Sequence[Companion]:
        store = ConnectorStore(service.directory)
        worker = Worker(
            store,
            service,
            defaults.settings,
            from_files=from_files,
            shared=connect_shared(defaults),
        )
        address = connect_address(defaults, connect_port) if connect else None
        return [RunningWorker(worker, address, progress_interval_s, defaults.sharing)]

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
    run_until_stopped(options, make_companions)
