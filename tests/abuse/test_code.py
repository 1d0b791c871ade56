"""Nothing that is stored or sent is ever run: the code has no way to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "src").rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "unsafe_load"}
HARMLESS = {("re", "compile"), ("regex", "compile"), ("platform", "system")}
SWITCHES = {"allow_pickle", "shell"}


def ways_to_run(tree: ast.AST) -> Iterator[str]:
    """What of a file would run what it is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            owner = getattr(getattr(called, "value", None), "id", "")
            if name in CALLS and (owner, name) not in HARMLESS:
                yield name
            for keyword in node.keywords:
                if keyword.arg in SWITCHES and getattr(keyword.value, "value", True):
                    yield keyword.arg or ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_runs_what_is_stored_or_sent(path: Path) -> None:
    assert list(ways_to_run(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "eval(text)", "exec(code)"),
        *("builtins.eval(text)", "numpy.load(f, allow_pickle=True)", "os.system(text)"),
        *("subprocess.run(text, shell=True)", "compile(text, '', 'exec')"),
    ],
)
def test_what_would_run_something_is_found(source: str) -> None:
    assert list(ways_to_run(ast.parse(source)))
