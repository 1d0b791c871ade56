"""`headrace explain`: how does a server answer a query, and why so?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.failures import EXIT_UNEXPECTED, CommandFailed

if TYPE_CHECKING:
    from rich.tree import Tree

_TIMEOUT_S = 60.0
DEFAULT_URL = "http://127.0.0.1:6333"


def explain(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="Where to search.")],
    query: Annotated[
        str,
        typer.Option(
            "--query",
            metavar="JSON",
            help="The body of POST /points/query; @FILE reads it from a file, @- from stdin.",
        ),
    ] = "{}",
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Where the server's REST API answers.")
    ] = DEFAULT_URL,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="HEADRACE_API_KEY", help="Sent with the request."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as one JSON object.")
    ] = False,
) -> None:
    """Run a query and show its plan: strategies, exact cardinalities, costs and reasons.

    The conditions of each filter stand in the order in which they were taken, the most
    selective first. The cost counts the vectors that are looked at.
    """
    import orjson
    from rich.console import Console

    answer = _ask(url, collection, _read_query(query), api_key)
    plan = answer["explain"]
    if as_json:
        print(orjson.dumps(plan).decode())
        return
    Console().print(_tree_of(plan))


def _read_query(text: str) -> dict[str, Any]:
    import orjson

    if text.startswith("@"):
        name = text.removeprefix("@")
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise typer.BadParameter(f"{name}: {error.strerror}") from error
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"the query is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise typer.BadParameter("the query is not a JSON object")
    return body


def _ask(url: str, collection: str, query: dict[str, Any], api_key: str | None) -> dict[str, Any]:
    """The result of the query, with its plan."""
    from urllib.parse import quote

    import httpx

    path = f"/collections/{quote(collection, safe='')}/points/query"
    headers = {"api-key": api_key} if api_key else {}
    try:
        response = httpx.post(
            url.rstrip("/") + path,
            json=query | {"explain": True},
            headers=headers,
            timeout=_TIMEOUT_S,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandFailed(
            f"No server answers at {url}: {error}. Start `headrace serve`, or give --url",
            EXIT_UNEXPECTED,
        ) from error
    if response.status_code != httpx.codes.OK:
        raise CommandFailed(f"{url} refused the query: {_reason(response)}", EXIT_UNEXPECTED)
    result: dict[str, Any] = response.json()["result"]
    if "explain" not in result:
        raise CommandFailed(f"The server at {url} does not explain queries", EXIT_UNEXPECTED)
    return result


def _reason(response: Any) -> str:
    try:
        return str(response.json()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return str(response.text) or f"status {response.status_code}"


def _tree_of(stage: dict[str, Any]) -> Tree:
    """A stage, what it searches, its filter, and the stages below."""
    from rich.markup import escape
    from rich.tree import Tree

    using = f" using '{stage['using']}'" if stage["using"] else ""
    limit, cardinality = stage["limit"], stage["cardinality"]
    tree = Tree(escape(f"{stage['query']}{using}: the best {limit:,} of {cardinality:,} points"))
    for step in stage["steps"]:
        width = "" if step["ef"] is None else f", ef {step['ef']}"
        rows = f"rows {step['row_begin']:,} to {step['row_end']:,}"
        tree.add(
            escape(
                f"{step['strategy']}: {step['cardinality']:,} allowed of {rows}, "
                f"cost {step['cost']:,}{width} ({step['reason']})"
            )
        )
    if stage["filter"] is not None:
        _add_filter_into(tree, stage["filter"])
    for below in stage["prefetch"]:
        tree.children.append(_tree_of(below))
    return tree


def _add_filter_into(tree: Tree, plan: dict[str, Any]) -> None:
    from rich.markup import escape

    cached = ", the answer was at hand" if plan["is_cached"] else ""
    newer = plan["evaluated_rows"]
    evaluated = f", {newer:,} newer than the index and read one by one" if newer else ""
    branch = tree.add(
        escape(
            f"filter: {plan['cardinality']:,} of {plan['points_count']:,} points pass"
            f"{cached}{evaluated}"
        )
    )
    for rank, condition in enumerate(plan["conditions"], start=1):
        access = ", ".join(condition["access"])
        branch.add(
            escape(
                f"{rank}. {condition['clause']} {condition['condition']}: "
                f"{condition['cardinality']:,} points, from {access}"
            )
        )
