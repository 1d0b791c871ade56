"""What may be asked of a payload index?"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from headrace.engine.filter.stop_words import STOP_WORD_LANGUAGES
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.operations import CreatePayloadIndex
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.members import ReadValue, read_members, read_memory


class _Tokenizer(StrEnum):
    PREFIX = "prefix"
    WHITESPACE = "whitespace"
    WORD = "word"
    MULTILINGUAL = "multilingual"


class _StemmerType(StrEnum):
    SNOWBALL = "snowball"
    NONE = "none"


# Languages that Snowball stems; the engine refuses the one that it has no stemmer of.
_STEMMER_LANGUAGES = frozenset(
    """
    arabic armenian danish dutch english finnish french german greek hungarian italian
    norwegian portuguese romanian russian spanish swedish tamil turkish
    """.split()  # noqa: SIM905
)


def parse_create_index(body: bytes) -> CreatePayloadIndex:
    """PUT /collections/{collection_name}/index. Raises FormatError, InvalidBody."""
    return read_body(body, _read_create_index)


def _read_create_index(body: Node) -> CreatePayloadIndex:
    key = body.require("field_name").payload_path()
    schema = body.get("field_schema", "field_type")
    if schema is None:
        raise body.format_error("missing field `field_schema`")
    return CreatePayloadIndex(key, _read_schema(schema))


def _read_schema(node: Node) -> PayloadFieldSchema:
    """The name of a type, or an object of its `type` and options."""
    if isinstance(node.value, str):
        return PayloadFieldSchema(node.one_of(PayloadFieldType))
    data_type = node.require("type").one_of(PayloadFieldType)
    options = read_members(node, INDEX_OPTIONS[data_type])
    if options.get("lookup") is False and options.get("range") is False:
        node.broken("the 'lookup' and 'range' capabilities can't be both disabled")
    return PayloadFieldSchema(data_type, {"type": data_type.value, **options})


def _read_stopwords(node: Node) -> Any:
    """A language, or an object of `languages` and `custom` words."""
    if isinstance(node.value, str):
        return _read_language(node, STOP_WORD_LANGUAGES)
    return read_members(node, {"languages": _read_languages, "custom": _read_texts})


def _read_languages(node: Node) -> list[str]:
    return [_read_language(element, STOP_WORD_LANGUAGES) for element in node.elements()]


def _read_texts(node: Node) -> list[str]:
    return [element.text() for element in node.elements()]


def _read_language(node: Node, known: frozenset[str]) -> str:
    language = node.text()
    if language not in known:
        expected = ", ".join(f"`{one}`" for one in sorted(known))
        raise node.format_error(f"unknown variant `{language}`, expected one of {expected}")
    return language


def _read_stemmer(node: Node) -> dict[str, Any]:
    stemmer_type = node.require("type").one_of(_StemmerType)
    if stemmer_type is _StemmerType.NONE:
        return {"type": stemmer_type.value}
    language = _read_language(node.require("language"), _STEMMER_LANGUAGES)
    return {"type": stemmer_type.value, "language": language}


_COMMON_OPTIONS: dict[str, ReadValue] = {
    "on_disk": Node.boolean,
    "memory": read_memory,
    "enable_hnsw": Node.boolean,
}

_PRINCIPAL: dict[str, ReadValue] = {"is_principal": Node.boolean}
_TENANT: dict[str, ReadValue] = {"is_tenant": Node.boolean}

# What may stand beside `type`, by type, and how it is read.
INDEX_OPTIONS: Mapping[PayloadFieldType, dict[str, ReadValue]] = {
    PayloadFieldType.KEYWORD: {**_COMMON_OPTIONS, **_TENANT, "prefix": Node.boolean},
    PayloadFieldType.INTEGER: {
        **_COMMON_OPTIONS,
        **_PRINCIPAL,
        "lookup": Node.boolean,
        "range": Node.boolean,
    },
    PayloadFieldType.FLOAT: _COMMON_OPTIONS | _PRINCIPAL,
    PayloadFieldType.BOOL: _COMMON_OPTIONS,
    PayloadFieldType.GEO: _COMMON_OPTIONS,
    PayloadFieldType.DATETIME: _COMMON_OPTIONS | _PRINCIPAL,
    PayloadFieldType.UUID: _COMMON_OPTIONS | _TENANT,
    PayloadFieldType.TEXT: {
        **_COMMON_OPTIONS,
        "tokenizer": lambda node: node.one_of(_Tokenizer).value,
        "min_token_len": Node.unsigned,
        "max_token_len": Node.unsigned,
        "lowercase": Node.boolean,
        "ascii_folding": Node.boolean,
        "phrase_matching": Node.boolean,
        "stopwords": _read_stopwords,
        "stemmer": _read_stemmer,
    },
}
