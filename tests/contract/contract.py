"""What does the OpenAPI document of Qdrant 1.19 say of a response?"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator

_DOCUMENT_PATH = Path(__file__).parent / "openapi-1.19.json"


@cache
def document() -> dict[str, Any]:
    """The document, with its nullable types as JSON Schema says them."""
    plain: dict[str, Any] = _without_nullable(json.loads(_DOCUMENT_PATH.read_text("utf-8")))
    return plain


def operations() -> set[tuple[str, str]]:
    """Every method and path template of the document."""
    return {
        (method.upper(), path)
        for path, methods in document()["paths"].items()
        for method in methods
        if method in ("get", "put", "post", "patch", "delete")
    }


def violations(method: str, path: str, response: httpx.Response) -> list[str]:
    """How a response differs from what the document says for its status code."""
    declared = _declared(method, path, response.status_code)
    if declared is None:
        return [f"no response is declared for {response.status_code}"]
    content_type = response.headers.get("content-type", "").partition(";")[0]
    content = declared.get("content")
    if content is None:
        return []
    if content_type not in content:
        return [f"content type {content_type}, declared are {[*content]}"]
    if content_type != "application/json":
        return []
    validator = Draft202012Validator(
        {**content[content_type]["schema"], "components": document()["components"]}
    )
    return [
        f"{error.json_path}: {error.message}" for error in validator.iter_errors(response.json())
    ]


def _declared(method: str, path: str, status: int) -> dict[str, Any] | None:
    responses = document()["paths"][path][method.lower()]["responses"]
    for code in (str(status), f"{status // 100}XX", "default"):
        if code in responses:
            declared: dict[str, Any] = responses[code]
            return declared
    return None


def _without_nullable(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_nullable(one) for one in node]
    if not isinstance(node, dict):
        return node
    if node == {"nullable": True}:
        return {"type": "null"}
    plain = {name: _without_nullable(one) for name, one in node.items() if name != "nullable"}
    if node.get("nullable") is True:
        return {"anyOf": [plain, {"type": "null"}]}
    return plain
