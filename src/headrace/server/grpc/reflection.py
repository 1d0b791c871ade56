"""How do callers ask which services there are?

The library speaks v1alpha. Version 1 has the same messages under another service's name,
so both are answered by the same code, as with Qdrant. Only callers that are known are
answered, though what they learn is no secret.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from headrace.model.errors import HeadraceError
from headrace.server.errors import wire_status
from headrace.server.grpc.calls import caller_access
from headrace.server.node import Node

REFLECTION_SERVICES = (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")

_Context = grpc.aio.ServicerContext[Any, Any]


def reflection_handlers(
    service_names: Iterable[str], node: Node
) -> tuple[grpc.GenericRpcHandler, ...]:
    """The handlers of both versions of reflection.

    Args:
        service_names: full names of the services that are told of, besides reflection.
        node: what all fronts of this process share.
    """
    names = (*service_names, *REFLECTION_SERVICES)
    servicer = reflection.aio.ReflectionServicer(names)

    async def answer(
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: _Context
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        try:
            caller_access(node, context.invocation_metadata() or ())
        except HeadraceError as error:
            await context.abort(wire_status(error).grpc, error.message)
        async for response in servicer.ServerReflectionInfo(requests, context):
            yield response

    behaviour = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": behaviour})
        for name in REFLECTION_SERVICES
    )
