"""`headrace explain`, as it is typed, against a server that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.headrace_process import HeadraceProcess, run_headrace

QUERY = {
    "query": [1, 0],
    "filter": {
        "must": [{"key": "odd", "match": {"value": True}}, {"key": "n", "range": {"lt": 3}}]
    },
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    with HeadraceProcess(
        "serve", "--data", str(data), "--http-port", "0", "--grpc-port", "0"
    ) as server:
        url = server.wait_until_serving()["rest"]
        with httpx.Client(base_url=url) as http:
            vectors = {"vectors": {"size": 2, "distance": "Dot"}}
            http.put("/collections/c", json=vectors).raise_for_status()
            points = [
                {"id": n, "vector": [1, n], "payload": {"n": n, "odd": n % 2 == 1}}
                for n in range(200)
            ]
            http.put("/collections/c/points?wait=true", json={"points": points}).raise_for_status()
        yield url


def test_a_plan_is_shown_with_its_conditions_in_order(url: str) -> None:
    done = run_headrace("explain", "c", "--url", url, "--query", json.dumps(QUERY))
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    text = " ".join(lines)
    assert "nearest: the best 10 of 1 points" in text
    assert "exact rows: 1 allowed of rows 0 to 200, cost 1" in text
    assert "filter: 1 of 200 points pass" in text
    assert text.index("1. must n < 3: 3 points") < text.index("2. must odd = True: 100 points")


def test_the_query_may_come_from_a_file_and_the_plan_be_json(url: str, tmp_path: Path) -> None:
    (tmp_path / "query.json").write_text(json.dumps(QUERY))
    query = f"@{tmp_path / 'query.json'}"
    done = run_headrace("explain", "c", "--url", url, "--query", query, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cardinality"] == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (["c", "--query", "{"], 1, "the query is not JSON"),
        (["c", "--query", "[]"], 1, "the query is not a JSON object"),
        (["c", "--query", "@missing.json"], 1, "missing.json: No such file"),
        (["unknown"], 2, "Collection `unknown` doesn't exist!"),
    ],
)
def test_what_cannot_be_explained_is_told(
    url: str, arguments: list[str], exit_code: int, told: str
) -> None:
    done = run_headrace("explain", *arguments, "--url", url)
    assert done.returncode == exit_code
    assert told in " ".join(done.stderr.split())


def test_no_server_is_told_with_what_to_do() -> None:
    done = run_headrace("explain", "c", "--url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "Start `headrace serve`, or give --url" in " ".join(done.stderr.split())
