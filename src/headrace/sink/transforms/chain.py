"""Which transforms does a configuration name, and in which order are they applied?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from headrace.sink.errors import ConfigError, Reason, RecordError, Stage
from headrace.sink.transforms.base import (
    ConnectRecord,
    Part,
    Settings,
    Transform,
    TransformError,
)
from headrace.sink.transforms.cast import Cast
from headrace.sink.transforms.fields import (
    ExtractField,
    Flatten,
    HoistField,
    InsertField,
    MaskField,
    ReplaceField,
    ValueToKey,
)
from headrace.sink.transforms.headers import DropHeaders, HeaderFrom, InsertHeader
from headrace.sink.transforms.predicates import PREDICATE_PACKAGE, PREDICATES, Predicate
from headrace.sink.transforms.routing import Filter, RegexRouter, TimestampRouter
from headrace.sink.transforms.timestamps import TimestampConverter

TRANSFORM_PACKAGE: Final = "org.apache.kafka.connect.transforms."
TRANSFORM_PREFIXES: Final = ("transforms.", "predicates.")

_OF_A_PART: Final[dict[str, Callable[[Part, Settings], Transform]]] = {
    "InsertField": InsertField,
    "ReplaceField": ReplaceField,
    "ExtractField": ExtractField,
    "HoistField": HoistField,
    "Flatten": Flatten,
    "Cast": Cast,
    "MaskField": MaskField,
    "TimestampConverter": TimestampConverter,
    "HeaderFrom": HeaderFrom,
}
_OF_THE_RECORD: Final[dict[str, Callable[[Settings], Transform]]] = {
    "RegexRouter": RegexRouter,
    "TimestampRouter": TimestampRouter,
    "ValueToKey": ValueToKey,
    "Filter": Filter,
    "DropHeaders": DropHeaders,
    "InsertHeader": InsertHeader,
}
_COMMON: Final = ("type", "predicate", "negate")


@dataclass(frozen=True, slots=True)
class Step:
    """One transform and the records that it sees: those for which `predicate` is not `negate`."""

    class_name: str
    transform: Transform
    predicate: Predicate | None
    negate: bool


class TransformChain:
    """The transforms of a connector; equal to another one made of the same settings."""

    def __init__(self, steps: tuple[Step, ...], settings: Mapping[str, str]) -> None:
        self._steps = steps
        self._settings = dict(settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TransformChain) and self._settings == other._settings

    __hash__ = None  # type: ignore[assignment]

    def apply(self, record: ConnectRecord) -> ConnectRecord | None:
        """The record after all steps; None if one of them dropped it.

        Raises:
            RecordError: a step cannot be taken, at stage TRANSFORMATION.
        """
        for step in self._steps:
            if step.predicate is not None and step.predicate.test(record) is step.negate:
                continue
            try:
                transformed = step.transform.apply(record)
            except TransformError as error:
                raise RecordError(
                    str(error),
                    Reason.TRANSFORMATION_FAILED,
                    Stage.TRANSFORMATION,
                    step.class_name,
                ) from None
            if transformed is None:
                return None
            record = transformed
        return record


def read_transforms(raw: Mapping[str, str]) -> TransformChain | None:
    """The transforms that a configuration names; None if it names none.

    Raises:
        ConfigError: a transform, a predicate or a setting is unknown, or one is missing.
    """
    transforms = _aliases(raw, "transforms")
    aliases = _aliases(raw, "predicates")
    _check_aliases(raw, "transforms", transforms)
    _check_aliases(raw, "predicates", aliases)
    predicates = {alias: _read_predicate(raw, alias) for alias in aliases}
    steps = tuple(_read_step(raw, alias, predicates) for alias in transforms)
    if not steps:
        return None
    used = {key: text for key, text in raw.items() if key.startswith(TRANSFORM_PREFIXES)}
    return TransformChain(steps, used | {"transforms": ",".join(transforms)})


def transform_classes() -> list[str]:
    """The class names of all transforms; those of a part have one for keys, one for values."""
    of_a_part = [f"{name}${part.value}" for name in _OF_A_PART for part in Part]
    return [TRANSFORM_PACKAGE + name for name in (*of_a_part, *_OF_THE_RECORD)]


def predicate_classes() -> list[str]:
    """The class names of all predicates."""
    return [PREDICATE_PACKAGE + name for name in PREDICATES]


def _aliases(raw: Mapping[str, str], key: str) -> list[str]:
    found = [part.strip() for part in raw.get(key, "").split(",") if part.strip()]
    if len(set(found)) != len(found):
        raise ConfigError(key, "names one twice")
    return found


def _check_aliases(raw: Mapping[str, str], kind: str, aliases: list[str]) -> None:
    known = tuple(f"{kind}.{alias}." for alias in aliases)
    for key in raw:
        if key.startswith(f"{kind}.") and not key.startswith(known or ("\0",)):
            raise ConfigError(key, f"belongs to none of those named in {kind}")


def _read_predicate(raw: Mapping[str, str], alias: str) -> Predicate:
    settings = Settings(raw, f"predicates.{alias}.", ("type",))
    type_name = settings.required("type").strip()
    maker = PREDICATES.get(type_name.removeprefix(PREDICATE_PACKAGE))
    if maker is None:
        raise settings.error("type", f"'{type_name}' must be one of {', '.join(PREDICATES)}")
    predicate = maker(settings)
    settings.check_nothing_else()
    return predicate


def _read_step(raw: Mapping[str, str], alias: str, predicates: Mapping[str, Predicate]) -> Step:
    settings = Settings(raw, f"transforms.{alias}.", _COMMON)
    type_name = settings.required("type").strip()
    transform = _read_transform(settings, type_name)
    predicate: Predicate | None = None
    named = settings.text("predicate").strip()
    if named:
        predicate = predicates.get(named)
        if predicate is None:
            raise settings.error("predicate", f"'{named}' is none of those named in predicates")
    negate = settings.choice("negate", "false", ("true", "false")) == "true"
    if negate and predicate is None:
        raise settings.error("negate", "needs a predicate")
    settings.check_nothing_else()
    simple = type_name.removeprefix(TRANSFORM_PACKAGE)
    return Step(TRANSFORM_PACKAGE + simple, transform, predicate, negate)


def _read_transform(settings: Settings, type_name: str) -> Transform:
    simple, _, part = type_name.removeprefix(TRANSFORM_PACKAGE).partition("$")
    if simple in _OF_THE_RECORD and not part:
        return _OF_THE_RECORD[simple](settings)
    if simple in _OF_A_PART:
        if part not in tuple(Part):
            raise settings.error("type", f"'{type_name}' must end in $Key or $Value")
        return _OF_A_PART[simple](Part(part), settings)
    known = ", ".join([*_OF_A_PART, *_OF_THE_RECORD])
    raise settings.error("type", f"'{type_name}' is not supported: the transforms are {known}")
