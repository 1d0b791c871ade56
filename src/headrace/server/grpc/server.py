"""How is the gRPC server put together?

The services of Qdrant's protocol, `grpc.health.v1`, and reflection, so that `grpcurl` and
health probes work as they do with Qdrant.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from qdrant_client import grpc as qdrant
from qdrant_client.grpc import (
    collections_service_pb2,
    points_service_pb2,
    qdrant_pb2,
    snapshots_service_pb2,
)

from headrace.server.auth import Need
from headrace.server.grpc.calls import Calls, Method, same_for_all
from headrace.server.grpc.collection_calls import collection_methods
from headrace.server.grpc.point_calls import point_methods
from headrace.server.grpc.reflection import reflection_handlers
from headrace.server.grpc.snapshot_calls import snapshot_methods
from headrace.server.node import BUILD_ID, QDRANT_API_VERSION, TITLE, Node
from headrace.service.service import Service

# Qdrant's own front has no bound, so that one request may take all memory. This holds
# 10,000 points of 1,536 floats; clients send far smaller batches.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024

# Clients ask every ten seconds or more whether an idle connection is alive; Qdrant's front
# lets them. The library's own front ends a connection that asks more than once in five
# minutes, or in two hours without a call. Who asks ten times a second wants something else.
PING_INTERVAL_MS_MIN = 100

# Writers spend most of their time waiting for a sync that they share: the more wait, the
# more share one.
THREADS_MAX = 32


async def create_grpc_server(service: Service, node: Node | None = None) -> grpc.aio.Server:
    """The gRPC front of a store.

    The caller binds it (`add_insecure_port` or `add_secure_port`; a port that another
    process holds is refused, not shared), starts it, and stops it before the service is
    closed. Requests may be compressed.

    Args:
        service: the opened store; the caller closes it.
        node: what all fronts of this process share; None for a front by itself, which lets
            everyone in.
    """
    node = node or Node()
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS_MIN),
        )
    )
    executor = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="headrace-grpc")
    calls = Calls(executor, THREADS_MAX, service, node)
    services = _services(service, node)
    names = [descriptor.full_name for descriptor in services]
    server.add_generic_rpc_handlers(
        (
            *(calls.handler(descriptor, methods) for descriptor, methods in services.items()),
            *reflection_handlers((*names, health.SERVICE_NAME), node),
        )
    )
    probes = health.aio.HealthServicer()
    for name in names:
        await probes.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(probes, server)
    return server


def _services(
    service: Service, node: Node | None = None
) -> Mapping[ServiceDescriptor, Mapping[str, Method]]:
    """The methods, by service."""
    return {
        points_service_pb2.DESCRIPTOR.services_by_name["Points"]: point_methods(service),
        collections_service_pb2.DESCRIPTOR.services_by_name["Collections"]: (
            collection_methods(service, node or Node())
        ),
        snapshots_service_pb2.DESCRIPTOR.services_by_name["Snapshots"]: snapshot_methods(service),
        qdrant_pb2.DESCRIPTOR.services_by_name["Qdrant"]: {
            "HealthCheck": same_for_all(_health_check, Need.NOTHING)
        },
    }


def _health_check(request: qdrant.HealthCheckRequest) -> qdrant.HealthCheckReply:
    return qdrant.HealthCheckReply(title=TITLE, version=QDRANT_API_VERSION, commit=BUILD_ID)
