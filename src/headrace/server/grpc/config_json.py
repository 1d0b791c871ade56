"""How do configuration messages and the JSON of REST correspond?

The same configurations come over both protocols. So a message is turned into the JSON
that REST takes, and read by the same reader, and a collection is shown through the JSON
that REST shows: what is accepted, refused and defaulted is decided once.

Fields have the same names in both, and enumerations the same values but for case; a zero
value that means "not said" is left out. A message that has a map as its only field is
that map in JSON, and one whose fields are all alternatives is the one that is set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import Message
from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
from headrace.server.grpc.payload import read_object

# A field's descriptor: of one class or another, as protobuf is built, with equal members.
_Field = Any

# Enumeration values that say nothing.
_UNSAID = frozenset(
    {"Default", "MemoryUnknown", "UnknownDistance", "Unknown", "UnknownQuantization"}
)

# Alternatives that stand under their names in JSON too.
_NAMED_UNIONS = (qdrant.QuantizationConfig, qdrant.QuantizationConfigDiff)
_RENAMED = {"turboquant": "turbo"}

_SPELLINGS = {
    "MaxSim": "max_sim",
    "OneBit": "one_bit",
    "TwoBits": "two_bits",
    "OneAndHalfBits": "one_and_half_bits",
}
_SPELLED_ALIKE = frozenset({"Distance"})


def config_json(message: Message) -> Any:
    """The fields of a message that are set, as JSON.

    Raises:
        MalformedInput: an enumeration has a value that the protocol does not know, or
            a number is not finite.
    """
    if isinstance(message, qdrant.Disabled):
        return "Disabled"
    fields = {field.name: _field_json(field, value) for field, value in _set_fields(message)}
    if isinstance(message, _NAMED_UNIONS):
        disabled = fields.pop("disabled", None)
        return disabled or {_RENAMED.get(name, name): value for name, value in fields.items()}
    if isinstance(message, qdrant.BinaryQuantizationQueryEncoding):
        return fields.get("setting")
    if _map_field(message) is not None or _is_union(message):
        return next(iter(fields.values()), {})
    return {name: value for name, value in fields.items() if value is not None}


def write_config_into(json: Mapping[str, Any], message: Message) -> None:
    """Set the fields of a message from JSON; null leaves a field unset.

    The JSON is our own: a member that the message lacks is a fault of ours. Messages of
    alternatives are for the caller to choose from.
    """
    only_map = _map_field(message)
    if only_map is not None:
        entries = getattr(message, only_map.name)
        for name, value in json.items():
            write_config_into(value, entries[name])
        return
    for name, value in json.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            nested = getattr(message, name)
            nested.SetInParent()
            write_config_into(value, nested)
            continue
        field = message.DESCRIPTOR.fields_by_name[name]
        if name == "query_encoding":
            write_config_into({"setting": value}, getattr(message, name))
            continue
        setattr(message, name, value if field.enum_type is None else _enum_number(field, value))


def _set_fields(message: Message) -> Iterator[tuple[_Field, Any]]:
    """The fields that are set. An enumeration that is always there is, at zero, not listed."""
    yield from message.ListFields()
    for field in message.DESCRIPTOR.fields:
        if field.enum_type is not None and not field.has_presence:
            yield field, getattr(message, field.name)


def _field_json(field: _Field, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if isinstance(next(iter(value.values())), qdrant.Value):
            return read_object(value)
        return {name: config_json(entry) for name, entry in value.items()}
    if isinstance(value, Message):
        return config_json(value)
    if field.enum_type is not None:
        return _enum_json(field, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise MalformedInput(f"`{field.name}` is not a finite number")  # JSON has none
    return value if isinstance(value, (bool, int, float, str)) else list(value)


def _enum_json(field: _Field, number: int) -> str | None:
    value = field.enum_type.values_by_number.get(number)
    if value is None:
        raise MalformedInput(f"{number} is not a value of `{field.name}`")
    return None if value.name in _UNSAID else _spelling(field, value.name)


def _enum_number(field: _Field, spelling: str) -> int:
    return next(
        int(value.number)
        for value in field.enum_type.values
        if _spelling(field, value.name) == spelling
    )


def _spelling(field: _Field, name: str) -> str:
    if field.enum_type.name in _SPELLED_ALIKE:
        return name
    return _SPELLINGS.get(name, name.lower())


def _map_field(message: Message) -> _Field | None:
    """The only field of a message, if that is a map."""
    if len(message.DESCRIPTOR.fields) != 1:
        return None
    field = message.DESCRIPTOR.fields[0]
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    return field if is_map else None


def _is_union(message: Message) -> bool:
    """Whether all fields of a message are alternatives to each other."""
    fields = message.DESCRIPTOR.fields
    oneofs = message.DESCRIPTOR.oneofs
    return len(oneofs) == 1 and 1 < len(fields) == len(oneofs[0].fields)
