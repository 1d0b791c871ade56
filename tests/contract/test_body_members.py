"""Every member of every JSON body is read, or refused by name.

A member is read if a body with a good value is taken, and refused once the value is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest

from headrace.model.errors import BadRequest, HeadraceError
from headrace.server.rest.aggregations import parse_facet, parse_matrix
from headrace.server.rest.aliases import parse_alias_actions
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.collection_changes import (
    parse_create_vector_name,
    parse_update_collection,
)
from headrace.server.rest.collections import parse_create_collection
from headrace.server.rest.groups import parse_query_groups
from headrace.server.rest.handlers.quotas import _read_config
from headrace.server.rest.handlers.snapshots import _read_recovery
from headrace.server.rest.payload_indexes import parse_create_index
from headrace.server.rest.queries import (
    parse_count,
    parse_query,
    parse_query_batch,
    parse_retrieve,
    parse_scroll,
)
from headrace.server.rest.writes import (
    parse_batch,
    parse_clear_payload,
    parse_delete_payload,
    parse_delete_points,
    parse_delete_vectors,
    parse_overwrite_payload,
    parse_set_payload,
    parse_update_vectors,
    parse_upsert,
)
from tests.contract.body_members import Operation, members, operations_with_body

COLLECTION = "/collections/{collection_name}"
POINTS = f"{COLLECTION}/points"

Parse = Callable[[bytes], object]


def read_by(reader: Callable[[Node], object]) -> Parse:
    return partial(read_body, reader=reader)


PARSERS: dict[Operation, Parse] = {
    Operation(method, path): parse
    for method, path, parse in (
        ("PUT", "/quotas", read_by(_read_config)),
        ("POST", "/collections/aliases", parse_alias_actions),
        ("PUT", COLLECTION, parse_create_collection),
        ("PATCH", COLLECTION, parse_update_collection),
        ("PUT", f"{COLLECTION}/index", parse_create_index),
        ("PUT", f"{COLLECTION}/vectors/{{vector_name}}", partial(parse_create_vector_name, "v")),
        ("PUT", f"{COLLECTION}/snapshots/recover", read_by(_read_recovery)),
        ("PUT", f"{COLLECTION}/shards/{{shard_id}}/snapshots/recover", read_by(_read_recovery)),
        ("POST", POINTS, parse_retrieve),
        ("PUT", POINTS, parse_upsert),
        ("POST", f"{POINTS}/delete", parse_delete_points),
        ("PUT", f"{POINTS}/vectors", parse_update_vectors),
        ("POST", f"{POINTS}/vectors/delete", parse_delete_vectors),
        ("POST", f"{POINTS}/payload", parse_set_payload),
        ("PUT", f"{POINTS}/payload", parse_overwrite_payload),
        ("POST", f"{POINTS}/payload/delete", parse_delete_payload),
        ("POST", f"{POINTS}/payload/clear", parse_clear_payload),
        ("POST", f"{POINTS}/batch", parse_batch),
        ("POST", f"{POINTS}/scroll", parse_scroll),
        ("POST", f"{POINTS}/count", parse_count),
        ("POST", f"{COLLECTION}/facet", parse_facet),
        ("POST", f"{POINTS}/query", parse_query),
        ("POST", f"{POINTS}/query/batch", parse_query_batch),
        ("POST", f"{POINTS}/query/groups", parse_query_groups),
        ("POST", f"{POINTS}/search/matrix/pairs", parse_matrix),
        ("POST", f"{POINTS}/search/matrix/offsets", parse_matrix),
    )
}
# One node refuses these, whatever is in their bodies.
REFUSED_OPERATIONS = {
    Operation("PUT", f"{COLLECTION}/shards"),
    Operation("POST", f"{COLLECTION}/shards/delete"),
    Operation("POST", f"{COLLECTION}/cluster"),
}
# What the refusal of a member, or of what it is in, says of it.
REFUSALS = {
    "CollectionParamsDiff.read_fan_out_factor": "read_fan_out_factor",
    "CollectionParamsDiff.read_fan_out_delay_ms": "read_fan_out_delay_ms",
    "Image": "(`image`",
    "InferenceObject": "(`object`",
    "LookupLocation.shard_key": "Shard key n not found",
    "TurboQuantization": "`turbo`",
    "TurboQuantQuantizationConfig": "`turbo`",
}
# No member takes all of these.
WRONG_VALUES: tuple[Any, ...] = ([[]], {"": [[]]}, -1.5)


def test_every_operation_with_a_body_is_tried_or_refused_whole() -> None:
    assert {*operations_with_body()} == {*PARSERS} | REFUSED_OPERATIONS


@pytest.mark.parametrize("operation", PARSERS, ids=" ".join)
def test_every_member_of_a_body_is_read_or_refused_by_name(
    operation: Operation,
) -> None:
    parse = PARSERS[operation]
    unread = set()
    for member in members(operations_with_body()[operation]):
        name = f"{member.component}.{member.name}"
        refused = refusal(parse, member.body(member.good))
        if refused is not None:
            said = REFUSALS.get(name, REFUSALS.get(member.component))
            assert said is not None, (name, refused, member.body(member.good))
            assert isinstance(refused, BadRequest)
            assert said in refused.message
        elif all(refusal(parse, member.body(wrong)) is None for wrong in WRONG_VALUES):
            unread.add(name)
    assert unread == set()


def test_what_is_documented_as_refused_is_refused_somewhere() -> None:
    reached = {
        said
        for operation, parse in PARSERS.items()
        for member in members(operations_with_body()[operation])
        for said in (f"{member.component}.{member.name}", member.component)
        if said in REFUSALS and refusal(parse, member.body(member.good)) is not None
    }
    assert reached == {*REFUSALS}


def refusal(parse: Parse, body: Any) -> HeadraceError | None:
    try:
        parse(orjson.dumps(body))
    except HeadraceError as error:
        return error
    return None
