"""How does an operator's function become a model, and what if it is none, or fails?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.model.errors import WrongInput
from headrace.model.vectors import SparseVector
from headrace.service.embedding_models import (
    BadEmbeddingModel,
    EmbeddingFailed,
    guarded,
    register_from_setting,
)
from headrace.service.inference import embed_text

SOURCE = """
def lengths(text, options, as_query):
    return [len(text), options.get("x", 0), float(as_query)]

limit = 3
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "own_model.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_function_of_a_file_is_named_by_clients(source: Path) -> None:
    assert register_from_setting(f"own/Lengths={source}:lengths") == "own/Lengths"
    vector = embed_text("abc", "own/lengths", {"x": 7}, as_query=True)
    assert isinstance(vector, np.ndarray)
    assert vector.dtype == np.float32
    assert vector.tolist() == [3.0, 7.0, 1.0]


def test_a_function_of_a_module_in_the_working_directory_is_found(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    register_from_setting("own/by-module=own_model:lengths")
    assert embed_text("ab", "own/by-module").tolist() == [2.0, 0.0, 0.0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("lengths", "must be NAME=MODULE:FUNCTION"),
        ("=own_model:lengths", "must be NAME=MODULE:FUNCTION"),
        ("name=own_model", "must be NAME=MODULE:FUNCTION"),
        ("name={file}:missing", "has no function `missing`"),
        ("name={file}:limit", "has no function `limit`"),
        ("name={folder}/missing.py:f", "FileNotFoundError"),
        ("name=no_such_module_anywhere:f", "ModuleNotFoundError"),
        ("name={broken}:f", "RuntimeError: no weights"),
    ],
)
def test_a_setting_that_names_no_function_is_refused_with_the_reason(
    source: Path, setting: str, told: str
) -> None:
    broken = source.with_name("broken.py")
    broken.write_text('raise RuntimeError("no weights")\n', encoding="utf-8")
    with pytest.raises(BadEmbeddingModel) as refused:
        register_from_setting(setting.format(file=source, folder=source.parent, broken=broken))
    assert told in refused.value.message


@pytest.mark.parametrize(
    "given",
    [
        [],
        1.0,
        "text",
        [[[1.0]]],
        [float("nan")],
        [[1.0], [1.0, 2.0]],
        {"indices": [1], "values": [1.0, 2.0]},
        {"indices": [1, 1], "values": [1.0, 2.0]},
        {"values": [1.0]},
        None,
    ],
)
def test_what_is_no_vector_is_the_operators_fault(
    given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    embed = guarded("own/bad", lambda text, options, as_query: given)
    with pytest.raises(EmbeddingFailed, match="own/bad"):
        embed("text", {}, False)
    assert "the embedding model own/bad failed" in caplog.text


def test_every_form_of_vector_is_taken() -> None:
    forms: list[Any] = [
        (1.0, 2.0),
        np.array([1.0, 2.0]),
        [[1.0, 2.0], [3.0, 4.0]],
        {"indices": [5, 1], "values": [1.0, 2.0]},
        SparseVector(np.array([1], np.uint32), np.array([1.0], np.float32)),
    ]
    made = [guarded("own/forms", lambda *_, form=form: form)("", {}, False) for form in forms]
    shapes = [one.values.shape if isinstance(one, SparseVector) else one.shape for one in made]
    assert shapes == [(2,), (2,), (2, 2), (2,), (1,)]


def test_an_error_that_the_function_means_for_the_caller_reaches_the_caller() -> None:
    def embed(text: str, options: Mapping[str, Any], as_query: bool) -> Any:
        raise WrongInput("the text is too long")

    with pytest.raises(WrongInput, match="too long"):
        guarded("own/strict", embed)("text", {}, False)
