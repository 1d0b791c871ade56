"""How do points get into a Qdrant server elsewhere?

Over gRPC or REST, through qdrant-client's connections, with `wait=true`: a write has been
applied when it returns. The server keeps no Kafka offsets, so writes may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from google.protobuf.message import Message
from grpc import RpcError, StatusCode
from qdrant_client import QdrantClient, grpc, models

from headrace.model.collection_config import (
    CollectionConfig,
    MultiVectorConfig,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import AlreadyExists, HeadraceError
from headrace.model.ids import PointId
from headrace.model.operations import SourceOffset, SourcePartition
from headrace.model.points import PointStruct
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Distance
from headrace.sink.changes import WritableChange, runs
from headrace.sink.config import ConnectorConfig
from headrace.sink.errors import ConfigError, RequestTooLarge
from headrace.sink.json_value import JsonValue
from headrace.sink.partition_locks import PartitionLocks
from headrace.sink.qdrant_errors import translated_errors
from headrace.sink.qdrant_wire import (
    grpc_id,
    grpc_operation,
    grpc_payload,
    grpc_point,
    rest_operation,
    rest_point,
)
from headrace.sink.refusals import find_refusals

GRPC_PORT = 6334
# The limit of a message where a server sets none itself.
_GRPC_BYTES_MAX_LEAST = 4 * 2**20


class _Transport(Protocol):
    """How a write goes over the wire; raises the client's own errors."""

    client: QdrantClient

    def refusal(self, point: PointStruct) -> HeadraceError | None:
        """Why a point cannot go over this wire unchanged, or None."""
        ...

    def upsert(self, collection_name: str, points: Sequence[PointStruct]) -> None:
        """Put points, and wait until they are applied."""
        ...

    def delete(self, collection_name: str, ids: Sequence[PointId]) -> None:
        """Delete points, and wait until that is applied."""
        ...

    def apply(self, collection_name: str, runs: Sequence[Sequence[WritableChange]]) -> None:
        """Do one operation for each run, in order, and wait until they are applied."""
        ...


class QdrantTarget:
    """A Qdrant server elsewhere: at least once.

    Args:
        config: names the server by `qdrant.grpc.url` or `qdrant.rest.url`.

    Raises:
        ConfigError: it names none, or a placeholder cannot be filled in.
    """

    def __init__(self, config: ConnectorConfig) -> None:
        self._transport = _open_transport(config)
        self._locks = PartitionLocks()

    @property
    def keeps_positions(self) -> bool:
        """The server does not; Kafka's committed offsets count."""
        return False

    def hold(self, partitions: Collection[SourcePartition]) -> AbstractContextManager[object]:
        """See `Target`; what another process writes cannot be held."""
        return self._locks.hold(partitions)

    def positions(self, source: str) -> Mapping[SourcePartition, int]:
        """See `Target`."""
        return {}

    def save_positions(self, positions: Sequence[SourceOffset]) -> None:
        """See `Target`; there is nothing to keep them in."""

    def taken(self, collection_name: str) -> Mapping[SourcePartition, int]:
        """See `Target`."""
        return {}

    def refusals(
        self, collection_name: str, points: Sequence[PointStruct]
    ) -> list[HeadraceError | None]:
        """See `Target`; asks the server for the collection's configuration."""
        with translated_errors():
            info = self._transport.client.get_collection(collection_name)
        by_config = find_refusals(points, _collection_config(info.config.params))
        return [
            error or self._transport.refusal(point)
            for point, error in zip(points, by_config, strict=True)
        ]

    def write(
        self,
        collection_name: str,
        points: Sequence[PointStruct],
        deleted_ids: Sequence[PointId],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """See `Target`; two requests, each applied when it returns."""
        with translated_errors():
            if points:
                self._transport.upsert(collection_name, points)
            if deleted_ids:
                self._transport.delete(collection_name, deleted_ids)

    def apply(
        self,
        collection_name: str,
        changes: Sequence[WritableChange],
        source_offsets: Sequence[SourceOffset],
    ) -> None:
        """See `Target`; one request, whose operations the server takes in order."""
        with translated_errors():
            self._transport.apply(collection_name, list(runs(changes)))

    def stored_values(
        self, collection_name: str, ids: Sequence[PointId], payload_key: str | None
    ) -> dict[PointId, JsonValue]:
        """See `Target`."""
        if not ids:
            return {}
        with translated_errors():
            found = self._transport.client.retrieve(
                collection_name,
                [str(one) if isinstance(one, UUID) else one for one in ids],
                with_payload=payload_key is not None,
                with_vectors=False,
            )
        return {
            UUID(one.id) if isinstance(one.id, str) else one.id: (one.payload or {}).get(
                payload_key or ""
            )
            for one in found
        }

    def create_collection(self, name: str, config: CollectionConfig) -> None:
        """See `Target`."""
        vectors = {key: _vector_params(params) for key, params in config.vectors.items()}
        sparse = {
            key: models.SparseVectorParams(
                index=None if params.index is None else models.SparseIndexParams(on_disk=True),
                modifier=None if params.modifier is None else models.Modifier(params.modifier),
            )
            for key, params in config.sparse_vectors.items()
        }
        only_default = list(vectors) == [DEFAULT_VECTOR_NAME]
        try:
            with translated_errors():
                self._transport.client.create_collection(
                    name,
                    vectors_config=vectors[DEFAULT_VECTOR_NAME] if only_default else vectors,
                    sparse_vectors_config=sparse or None,
                )
        except AlreadyExists:
            return

    def close(self) -> None:
        """Close the connections."""
        self._transport.client.close()


class _GrpcTransport:
    """gRPC, as qdrant-kafka uses it.

    Args:
        url: `http://host:port`, or `https` for TLS.
        api_key: sent with each request, if given.
        timeout_s: of one request.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._timeout_s = timeout_s
        self.client = QdrantClient(
            host=parts.hostname,
            grpc_port=parts.port or GRPC_PORT,
            prefer_grpc=True,
            https=parts.scheme == "https",
            api_key=api_key,
            check_compatibility=False,
            # gRPC would wait up to two minutes between attempts to connect again.
            grpc_options={
                "grpc.initial_reconnect_backoff_ms": 100,
                "grpc.max_reconnect_backoff_ms": 2_000,
            },
        )

    def refusal(self, point: PointStruct) -> HeadraceError | None:
        """A payload that protobuf would change, or that the server could not decode."""
        try:
            grpc_payload(point)
        except HeadraceError as error:
            return error
        return None

    def upsert(self, collection_name: str, points: Sequence[PointStruct]) -> None:
        """See `_Transport`."""
        request = grpc.UpsertPoints(
            collection_name=collection_name, wait=True, points=[grpc_point(one) for one in points]
        )
        self._send(self.client.grpc_points.Upsert, request)

    def delete(self, collection_name: str, ids: Sequence[PointId]) -> None:
        """See `_Transport`."""
        selected = grpc.PointsIdsList(ids=[grpc_id(one) for one in ids])
        request = grpc.DeletePoints(
            collection_name=collection_name,
            wait=True,
            points=grpc.PointsSelector(points=selected),
        )
        self._send(self.client.grpc_points.Delete, request)

    def apply(self, collection_name: str, runs: Sequence[Sequence[WritableChange]]) -> None:
        """See `_Transport`."""
        request = grpc.UpdateBatchPoints(
            collection_name=collection_name,
            wait=True,
            operations=[grpc_operation(run) for run in runs],
        )
        self._send(self.client.grpc_points.UpdateBatch, request)

    def _send(self, call: Callable[..., object], request: Message) -> None:
        try:
            call(request, timeout=self._timeout_s)
        except RpcError as error:
            # One code for two cases: too many requests, which says when to come again, and
            # one that is too large, of which no server complains below gRPC's own limit.
            is_exhausted = error.code() is StatusCode.RESOURCE_EXHAUSTED
            if is_exhausted and request.ByteSize() > _GRPC_BYTES_MAX_LEAST:
                raise RequestTooLarge(str(error.details())) from None
            raise


class _RestTransport:
    """REST: a payload travels byte for byte.

    Args:
        url: `http://host:port`, or `https` for TLS.
        api_key: sent with each request, if given.
        timeout_s: of one request.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        parts = urlsplit(url)
        self.client = QdrantClient(
            url=url,
            port=parts.port or (443 if parts.scheme == "https" else 6333),
            api_key=api_key,
            check_compatibility=False,
            timeout=max(1, round(timeout_s)),
        )

    def refusal(self, point: PointStruct) -> HeadraceError | None:
        """JSON holds every point."""
        return None

    def upsert(self, collection_name: str, points: Sequence[PointStruct]) -> None:
        """See `_Transport`."""
        body = {"points": [rest_point(point) for point in points]}
        self._send("PUT", "/collections/{collection_name}/points", collection_name, body)

    def delete(self, collection_name: str, ids: Sequence[PointId]) -> None:
        """See `_Transport`."""
        url = "/collections/{collection_name}/points/delete"
        self._send("POST", url, collection_name, {"points": list(ids)})

    def apply(self, collection_name: str, runs: Sequence[Sequence[WritableChange]]) -> None:
        """See `_Transport`."""
        body = {"operations": [rest_operation(run) for run in runs]}
        self._send("POST", "/collections/{collection_name}/points/batch", collection_name, body)

    def _send(self, method: str, url: str, collection_name: str, body: object) -> None:
        self.client.http.client.request(
            type_=dict,
            method=method,
            url=url,
            path_params={"collection_name": collection_name},
            params={"wait": "true"},
            headers={"Content-Type": "application/json"},
            content=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
            timeout=self._timeout_s,
        )


def _open_transport(config: ConnectorConfig) -> _Transport:
    timeout_s = config.request_timeout_ms / 1000
    api_key = config.resolved("qdrant.api.key") or None
    grpc_url = config.resolved("qdrant.grpc.url")
    if grpc_url is not None:
        return _GrpcTransport(grpc_url, api_key, timeout_s)
    rest_url = config.resolved("qdrant.rest.url")
    if rest_url is not None:
        return _RestTransport(rest_url, api_key, timeout_s)
    raise ConfigError("qdrant.grpc.url", "this or qdrant.rest.url is required for a server")


def _collection_config(params: models.CollectionParams) -> CollectionConfig:
    """The part of a server's configuration that decides which vectors fit."""
    vectors = params.vectors or {}
    if isinstance(vectors, models.VectorParams):
        vectors = {DEFAULT_VECTOR_NAME: vectors}
    return CollectionConfig(
        vectors={
            name: VectorParams(
                size=one.size,
                distance=Distance(one.distance.value),
                multivector_config=None if one.multivector_config is None else MultiVectorConfig(),
            )
            for name, one in vectors.items()
        },
        sparse_vectors={name: SparseVectorParams() for name in params.sparse_vectors or {}},
    )


def _vector_params(params: VectorParams) -> models.VectorParams:
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    return models.VectorParams(
        size=params.size,
        distance=models.Distance(params.distance.value),
        on_disk=params.on_disk,
        multivector_config=multi if params.is_multi else None,
    )
