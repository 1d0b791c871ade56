"""What may be asked of quantised vectors?"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Any

from headrace.model.collection_changes import QUANTIZATION_DISABLED
from headrace.server.errors import not_supported
from headrace.server.rest.body import Node
from headrace.server.rest.members import ReadValue, read_members, read_memory


class _ScalarType(StrEnum):
    INT8 = "int8"


class _Compression(StrEnum):
    X4 = "x4"
    X8 = "x8"
    X16 = "x16"
    X32 = "x32"
    X64 = "x64"


class _Encoding(StrEnum):
    ONE_BIT = "one_bit"
    TWO_BITS = "two_bits"
    ONE_AND_HALF_BITS = "one_and_half_bits"


class _QueryEncoding(StrEnum):
    DEFAULT = "default"
    BINARY = "binary"
    SCALAR4BITS = "scalar4bits"
    SCALAR8BITS = "scalar8bits"


def read_quantization(node: Node | None) -> dict[str, Any] | None:
    """`quantization_config`: its kind, and the options of that.

    Raises:
        FormatError: it is none.
        BadRequest: it is of a kind that is not supported.
    """
    if node is None:
        return None
    if isinstance(node.value, dict):
        if "turbo" in node.value:
            raise not_supported("the quantization `turbo`")
        for kind, members in _KINDS.items():
            if node.has(kind):
                options = node.require(kind)
                for name in _REQUIRED.get(kind, ()):
                    options.require(name)
                return {kind: read_members(options, members)}
    raise node.format_error("data did not match any variant of untagged enum QuantizationConfig")


def read_quantization_change(node: Node | None) -> dict[str, Any] | str | None:
    """As `read_quantization`, or "Disabled". Raises as that."""
    if node is not None and node.value == QUANTIZATION_DISABLED:
        return QUANTIZATION_DISABLED
    return read_quantization(node)


def _one_of(values: type[StrEnum]) -> ReadValue:
    return lambda node: node.one_of(values).value


_PLACEMENT: dict[str, ReadValue] = {"always_ram": Node.boolean, "memory": read_memory}

_KINDS: dict[str, dict[str, ReadValue]] = {
    "scalar": {
        "type": _one_of(_ScalarType),
        "quantile": partial(Node.number, minimum=0.5, maximum=1.0),
        **_PLACEMENT,
    },
    "product": {"compression": _one_of(_Compression), **_PLACEMENT},
    "binary": {
        **_PLACEMENT,
        "encoding": _one_of(_Encoding),
        "query_encoding": _one_of(_QueryEncoding),
    },
}

_REQUIRED = {"scalar": ("type",), "product": ("compression",)}
