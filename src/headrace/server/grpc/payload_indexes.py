"""How does a payload index cross the wire, on its way in and out?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
from headrace.model.operations import CreatePayloadIndex
from headrace.server.errors import not_supported
from headrace.server.grpc.config_json import config_json, write_config_into
from headrace.server.grpc.rules import broken_rule, read_as_json, refuse_other_fields
from headrace.server.rest.payload_indexes import parse_create_index
from headrace.service.service import PayloadIndexInfo

_PARAMS_SUFFIX = "_index_params"


def read_create_index(message: qdrant.CreateFieldIndexCollection) -> CreatePayloadIndex:
    """A new payload index.

    Raises:
        MalformedInput, InvalidBody: a value in it is wrong.
        BadRequest: something is not supported.
    """
    refuse_other_fields(message, "field_name", "field_type", "field_index_params")
    if not message.field_name:
        raise broken_rule("field_name", 'value "" invalid, must be at least 1 characters')
    if not message.HasField("field_type"):
        raise MalformedInput("field type is missing")
    data_type = _read_field_type(message.field_type)
    form = message.field_index_params.WhichOneof("index_params")
    schema: Any = data_type
    if form is not None:
        if form != data_type + _PARAMS_SUFFIX:
            raise MalformedInput(
                f"field_type ({data_type}) and field_index_params ({form}) do not match"
            )
        schema = {"type": data_type, **_options_json(message.field_index_params)}
    operation = read_as_json(
        parse_create_index,
        {"field_name": message.field_name, "field_schema": schema},
        {"field_schema": f"field_index_params.{form}"},
    )
    if form is not None:
        _refuse_unread(schema, operation.schema.params or {})
    return operation


def payload_index_message(info: PayloadIndexInfo) -> qdrant.PayloadSchemaInfo:
    """A payload index as the info of its collection shows it."""
    data_type = info.schema.data_type.value
    message = qdrant.PayloadSchemaInfo(
        data_type=qdrant.PayloadSchemaType.Value(data_type.capitalize()), points=info.points
    )
    if info.schema.params is not None:
        params = getattr(message.params, data_type + _PARAMS_SUFFIX)
        params.SetInParent()
        _write_options_into(info.schema.params, params)
    return message


def _read_field_type(number: qdrant.FieldType.ValueType) -> str:
    if number not in qdrant.FieldType.values():
        raise MalformedInput(f"{number} is not a FieldType")
    return qdrant.FieldType.Name(number).removeprefix("FieldType").lower()


def _options_json(message: qdrant.PayloadIndexParams) -> dict[str, Any]:
    """The options of an index as REST takes them."""
    options: dict[str, Any] = config_json(message)
    if "prefix" in options:
        options["prefix"] = True
    if "stemmer" in options:
        options["stemmer"] = _stemmer_json(message.text_index_params.stemmer)
    return options


def _stemmer_json(message: qdrant.StemmingAlgorithm) -> dict[str, Any]:
    match message.WhichOneof("stemming_params"):
        case "snowball":
            return {"type": "snowball", "language": message.snowball.language}
        case "disabled":
            return {"type": "none"}
        case _:
            raise MalformedInput("Stemming algorithm is missing")


def _refuse_unread(sent: Mapping[str, Any], read: Mapping[str, Any]) -> None:
    """Refuse what REST's reader leaves out, as it does with members that it does not know."""
    for name in sent.keys() - read.keys():
        raise not_supported(f"`{name}` of a payload index")


def _write_options_into(options: Mapping[str, Any], params: Any) -> None:
    rest = {name: value for name, value in options.items() if name != "type"}
    if rest.pop("prefix", False):
        params.prefix.SetInParent()
    stopwords = rest.pop("stopwords", None)
    if isinstance(stopwords, str):
        params.stopwords.languages.append(stopwords)
    elif stopwords is not None:
        params.stopwords.languages.extend(stopwords.get("languages", ()))
        params.stopwords.custom.extend(stopwords.get("custom", ()))
    stemmer = rest.pop("stemmer", None)
    if stemmer is not None and stemmer["type"] == "snowball":
        params.stemmer.snowball.language = stemmer["language"]
    elif stemmer is not None:
        params.stemmer.disabled.SetInParent()
    write_config_into(rest, params)
