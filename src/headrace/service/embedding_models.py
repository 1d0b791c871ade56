"""How does an operator's own function become a model that clients can name?

A setting says where the function is: in a module that Python can import, or in a file. It
runs in this process, on the threads of the requests; nothing is sent anywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from headrace.model.errors import ErrorCode, HeadraceError
from headrace.model.vectors import SparseVector, Vector
from headrace.service.inference import Embed, EmbedBatch, register_model

logger = logging.getLogger(__name__)

_FILE_SUFFIX = ".py"


class BadEmbeddingModel(HeadraceError):
    """A setting that names no function that could be a model."""

    code = ErrorCode.BAD_INPUT


class EmbeddingFailed(HeadraceError):
    """An operator's function raised, or gave what is no vector; the log says more."""

    prefix = "Service internal error: "


def register_from_setting(setting: str) -> str:
    """Let clients name the model that a setting describes; returns its name.

    Args:
        setting: `NAME=MODULE:FUNCTION` or `NAME=FILE.py:FUNCTION`. The function takes a
            text, the options that came with it (a mapping) and whether it is a query, and
            gives a list or array of floats, a list of such, or `{"indices", "values"}`.
            Several threads may call it at once. If it has an attribute `batch`, that is the
            same for many: a list of texts in, as many vectors out.

    Raises:
        BadEmbeddingModel: there is no such function.
    """
    name, _, target = setting.partition("=")
    where, _, attribute = target.rpartition(":")
    if not (name and where and attribute):
        raise BadEmbeddingModel(
            f"`{setting}` names no embedding model: it must be NAME=MODULE:FUNCTION or "
            "NAME=FILE.py:FUNCTION"
        )
    try:
        module = _file_module(Path(where)) if where.endswith(_FILE_SUFFIX) else _module(where)
    except Exception as error:  # whatever the operator's code raises while it is imported
        raise BadEmbeddingModel(
            f"The embedding model `{name}` cannot be imported from {where}: "
            f"{type(error).__name__}: {error}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise BadEmbeddingModel(
            f"The embedding model `{name}`: {where} has no function `{attribute}`"
        )
    batch = getattr(function, "batch", None)
    register_model(
        name, guarded(name, function), guarded_batch(name, batch) if callable(batch) else None
    )
    return name


def guarded(name: str, function: Callable[[str, Mapping[str, Any], bool], Any]) -> Embed:
    """The function with its result checked, and its errors told as the operator's own.

    Args:
        name: of the model.
        function: as in `register_from_setting`.
    """

    def embed(text: str, options: Mapping[str, Any], as_query: bool) -> Vector:
        try:
            return _as_vector(function(text, options, as_query))
        except HeadraceError:
            raise
        except Exception as error:
            logger.exception("the embedding model %s failed", name)
            raise EmbeddingFailed(
                f"the embedding model `{name}` failed, see the server's log"
            ) from error

    return embed


def guarded_batch(
    name: str, function: Callable[[Sequence[str], Mapping[str, Any], bool], Any]
) -> EmbedBatch:
    """As `guarded`, for a function that takes many texts."""

    def embed_batch(
        texts: Sequence[str], options: Mapping[str, Any], as_query: bool
    ) -> list[Vector]:
        try:
            found = [_as_vector(one) for one in function(list(texts), options, as_query)]
            if len(found) != len(texts):
                raise TypeError(f"{len(found)} vectors were given for {len(texts)} texts")
        except HeadraceError:
            raise
        except Exception as error:
            logger.exception("the embedding model %s failed", name)
            raise EmbeddingFailed(
                f"the embedding model `{name}` failed, see the server's log"
            ) from error
        return found

    return embed_batch


def _module(name: str) -> ModuleType:
    # A command's own folder is not on the path, as it is for `python -m`.
    if "" not in sys.path:
        sys.path.append("")
    return importlib.import_module(name)


def _file_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"headrace_model_{path.stem}", path)
    assert spec is not None, "a file that ends with .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _as_vector(found: Any) -> Vector:
    """What a function gave, as a vector.

    Raises:
        ValueError: it is none.
    """
    if isinstance(found, SparseVector):
        return found
    if isinstance(found, Mapping):
        indices = np.array(found["indices"], dtype=np.uint32)
        values = np.array(found["values"], dtype=np.float32)
        if indices.ndim != 1 or indices.shape != values.shape:
            raise ValueError("`indices` and `values` must be of the same length")
        if len(np.unique(indices)) != len(indices):
            raise ValueError("`indices` must be unique")
        return SparseVector(indices, values)
    vector = np.array(found, dtype=np.float32)
    if vector.ndim not in (1, 2) or not vector.size:
        raise ValueError(f"an array of shape {vector.shape} is no vector")
    if not np.isfinite(vector).all():
        raise ValueError("a component is not a finite number")
    return vector
