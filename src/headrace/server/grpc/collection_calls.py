"""What do the calls about collections do?

Of a cluster there is one node, which holds one shard of each collection, number 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.aliases import AliasDescription
from headrace.model.errors import BadRequest
from headrace.server.auth import Access, Need
from headrace.server.grpc.aliases import read_alias_actions
from headrace.server.grpc.calls import Method, same_for_all
from headrace.server.grpc.collections import (
    collection_info_message,
    read_collection_change,
    read_collection_config,
)
from headrace.server.grpc.rules import check_collection_name, check_new_collection_name
from headrace.server.node import Node
from headrace.service.service import Service


def collection_methods(service: Service, node: Node) -> Mapping[str, Method]:
    """The methods of `qdrant.Collections`, by name."""
    calls = _CollectionCalls(service, node)
    return {
        "Get": same_for_all(calls.get, Need.READ_EXTRAS),
        "List": Method(calls.list, Need.IDENTITY),
        "Create": same_for_all(calls.create, Need.MANAGE),
        "Update": same_for_all(calls.update, Need.MANAGE),
        "Delete": same_for_all(calls.delete, Need.MANAGE),
        "CollectionExists": same_for_all(calls.exists, Need.READ),
        "UpdateAliases": same_for_all(calls.update_aliases, Need.MANAGE),
        "ListAliases": Method(calls.list_aliases, Need.IDENTITY),
        "ListCollectionAliases": Method(calls.list_collection_aliases, Need.READ_EXTRAS),
        "CollectionClusterInfo": same_for_all(calls.cluster_info, Need.READ_EXTRAS),
        "ListShardKeys": same_for_all(calls.list_shard_keys, Need.READ_EXTRAS),
        "UpdateCollectionClusterSetup": same_for_all(calls.refuse_distributed, Need.MANAGE),
        "CreateShardKey": same_for_all(calls.refuse_distributed, Need.MANAGE),
        "DeleteShardKey": same_for_all(calls.refuse_distributed, Need.MANAGE),
    }


class _CollectionCalls:
    def __init__(self, service: Service, node: Node) -> None:
        self._service = service
        self._node = node

    def get(self, request: qdrant.GetCollectionInfoRequest) -> qdrant.GetCollectionInfoResponse:
        name = check_collection_name(request.collection_name)
        info = self._service.collection_info(name)
        return qdrant.GetCollectionInfoResponse(result=collection_info_message(info))

    def list(
        self, request: qdrant.ListCollectionsRequest, access: Access
    ) -> qdrant.ListCollectionsResponse:
        """Those that the caller may see."""
        return qdrant.ListCollectionsResponse(
            collections=[
                qdrant.CollectionDescription(name=name)
                for name in self._service.collection_names()
                if access.sees(name)
            ]
        )

    def create(self, request: qdrant.CreateCollection) -> qdrant.CollectionOperationResponse:
        name = check_new_collection_name(request.collection_name)
        self._service.create_collection(name, read_collection_config(request))
        return qdrant.CollectionOperationResponse(result=True)

    def update(self, request: qdrant.UpdateCollection) -> qdrant.CollectionOperationResponse:
        name = check_collection_name(request.collection_name)
        self._service.change_collection(name, read_collection_change(request))
        return qdrant.CollectionOperationResponse(result=True)

    def delete(self, request: qdrant.DeleteCollection) -> qdrant.CollectionOperationResponse:
        name = check_collection_name(request.collection_name)
        deleted = self._service.delete_collection(name)
        self._node.requests_log.forget_collection(name)
        return qdrant.CollectionOperationResponse(result=deleted)

    def exists(self, request: qdrant.CollectionExistsRequest) -> qdrant.CollectionExistsResponse:
        name = check_collection_name(request.collection_name)
        return qdrant.CollectionExistsResponse(
            result=qdrant.CollectionExists(exists=self._service.collection_exists(name))
        )

    def update_aliases(self, request: qdrant.ChangeAliases) -> qdrant.CollectionOperationResponse:
        """All actions or none."""
        self._service.change_aliases(read_alias_actions(request))
        return qdrant.CollectionOperationResponse(result=True)

    def list_aliases(
        self, request: qdrant.ListAliasesRequest, access: Access
    ) -> qdrant.ListAliasesResponse:
        """Of the collections that the caller may see."""
        return _aliases_message(self._service.aliases(), access)

    def list_collection_aliases(
        self, request: qdrant.ListCollectionAliasesRequest, access: Access
    ) -> qdrant.ListAliasesResponse:
        """None if there is no such collection."""
        name = check_collection_name(request.collection_name)
        return _aliases_message(self._service.aliases(name), access)

    def cluster_info(
        self, request: qdrant.CollectionClusterInfoRequest
    ) -> qdrant.CollectionClusterInfoResponse:
        name = check_collection_name(request.collection_name)
        local = qdrant.LocalShardInfo(
            points_count=self._service.points_count(name), state=qdrant.ReplicaState.Active
        )
        return qdrant.CollectionClusterInfoResponse(shard_count=1, local_shards=[local])

    def list_shard_keys(self, request: qdrant.ListShardKeysRequest) -> qdrant.ListShardKeysResponse:
        """No collection has shard keys."""
        self._service.points_count(check_collection_name(request.collection_name))
        return qdrant.ListShardKeysResponse()

    def refuse_distributed(self, request: Any) -> Any:
        """Calls that move or make shards.

        Raises:
            BadRequest: always, if there is such a collection.
        """
        self._service.points_count(check_collection_name(request.collection_name))
        raise BadRequest("Distributed mode disabled")


def _aliases_message(aliases: list[AliasDescription], access: Access) -> qdrant.ListAliasesResponse:
    return qdrant.ListAliasesResponse(
        aliases=[
            qdrant.AliasDescription(
                alias_name=alias.alias_name, collection_name=alias.collection_name
            )
            for alias in aliases
            if access.sees(alias.collection_name)
        ]
    )
