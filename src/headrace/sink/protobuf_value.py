"""What value does a Protobuf message stand for, when its schema comes from a registry?

The registry gives a schema as a file descriptor; message indexes before the bytes say which
of its messages it is. Integers stay exact, which Protobuf's own JSON would write as text.
Source of the framing: Confluent's wire format.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from headrace.sink.connect_value import ConnectValue

_WELL_KNOWN: Final = (
    any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2,
    wrappers_pb2,
)  # fmt: skip
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_VARINT_BYTES_MAX: Final = 10
_INDEXES_MAX: Final = 100


def protobuf_reader(
    file_text: str, references: Sequence[tuple[str, str]]
) -> Callable[[bytes], ConnectValue]:
    """What reads the messages of a schema, message indexes first.

    Args:
        file_text: the file descriptor, in base64.
        references: the names and descriptors of the files that it imports, innermost first.

    Raises:
        Exception: the descriptors are none, or do not fit together.
    """
    pool = DescriptorPool()
    for module in _WELL_KNOWN:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for name, text in references:
        _add(pool, name, text)
    file_name = "schema.proto"
    _add(pool, file_name, file_text)
    messages = list(pool.FindFileByName(file_name).message_types_by_name.values())

    def read(data: bytes) -> ConnectValue:
        indexes, byte_offset = _read_indexes(data)
        candidates = messages
        descriptor: Descriptor | None = None
        for position in indexes:
            if not 0 <= position < len(candidates):
                raise ValueError(f"the schema has no message {indexes}")
            descriptor = candidates[position]
            candidates = list(descriptor.nested_types)
        assert descriptor is not None
        message = GetMessageClass(descriptor)()
        message.ParseFromString(data[byte_offset:])
        return _value(message)

    return read


def _add(pool: DescriptorPool, name: str, text: str) -> None:
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text))
    file.name = name
    pool.AddSerializedFile(file.SerializeToString())


def _read_indexes(data: bytes) -> tuple[list[int], int]:
    """The path to a message within its file, and where the message begins; 0 is the first."""
    count, byte_offset = _read_varint(data, 0)
    if count == 0:
        return [0], byte_offset
    if not 0 < count <= _INDEXES_MAX:
        raise ValueError(f"{count} message indexes")
    indexes = []
    for _ in range(count):
        position, byte_offset = _read_varint(data, byte_offset)
        indexes.append(position)
    return indexes, byte_offset


def _read_varint(data: bytes, byte_offset: int) -> tuple[int, int]:
    """A zigzag varint, and where the bytes go on."""
    number = 0
    for rank, byte in enumerate(data[byte_offset : byte_offset + _VARINT_BYTES_MAX]):
        number |= (byte & 0x7F) << (7 * rank)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), byte_offset + rank + 1
    raise ValueError("the message indexes are cut off")


def _value(message: Message) -> ConnectValue:
    special = _SPECIAL.get(message.DESCRIPTOR.full_name)
    if special is not None:
        return special(message)
    fields = cast(Sequence[FieldDescriptor], message.DESCRIPTOR.fields)
    return {field.name: _field(message, field) for field in fields}


def _field(message: Message, field: FieldDescriptor) -> ConnectValue:
    """A field; null if it is not set and can tell, else its default."""
    content: Any = getattr(message, field.name)
    entry = field.message_type
    if field.is_repeated and entry is not None and entry.GetOptions().map_entry:
        of_value = entry.fields_by_name["value"]
        return {_key_text(name): _single(content[name], of_value) for name in content}
    if field.is_repeated:
        return [_single(item, field) for item in content]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _single(content, field)


def _single(content: Any, field: FieldDescriptor) -> ConnectValue:
    if field.message_type is not None:
        return _value(content)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(content)
        return cast(ConnectValue, content if named is None else named.name)
    return cast(ConnectValue, content)


def _key_text(name: object) -> str:
    return str(name).lower() if isinstance(name, bool) else str(name)


def _timestamp(message: Any) -> ConnectValue:
    # Python's moments have microseconds; what is finer is cut, as Java cuts at milliseconds.
    shift = datetime.timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    return _EPOCH + shift


def _json_value(message: Any) -> ConnectValue:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    content = getattr(message, kind)
    return _value(content) if kind in {"struct_value", "list_value"} else content


def _struct(message: Any) -> ConnectValue:
    return {name: _json_value(item) for name, item in message.fields.items()}


def _list_value(message: Any) -> ConnectValue:
    return [_json_value(item) for item in message.values]


def _wrapped(message: Any) -> ConnectValue:
    return cast(ConnectValue, message.value)


_SPECIAL: Final[dict[str, Callable[[Any], ConnectValue]]] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _json_value,
    "google.protobuf.ListValue": _list_value,
    **{
        f"google.protobuf.{kind}Value": _wrapped
        for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String",
                     "Bytes")
    },
}  # fmt: skip
