"""A formula reads the values that Qdrant's own engine reads, and refuses what that refuses.

The engine says only that a query was refused; the words are those of Qdrant's server.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

import headrace
from tests.client.edge_client import EDGE_REFUSALS, EdgeClient

PLACE = {"lon": 1.0, "lat": 2.0}
DAY = "2024-01-02"
HUGE = 1e308

# What the payloads of points have at `a`, beside one that has nothing there.
VALUES: list[Any] = [
    *(None, [], [None], [None, 3], [[]], [[4]], [[4, None]]),
    *(3, -0.0, [3], [3, 3], [3, 3.0], [3, 4], [3, "3"], 1.5, [1.5, 2.0], 3.5e38, 1e300),
    *(2**63 - 1, -(2**63), 2**63, 2**64 - 1, [2**63 - 1, 2.0**63]),
    *(True, [True, False], "x", ["x", "x"], {"b": 3}, [{"b": 3}, {"b": None}], {"b": [[4]]}),
    *(DAY, [DAY, DAY], [DAY, 5], [DAY, "x"], [DAY, "2024-01-02T00:00:00Z"], "2024-01-02 25:00"),
    *(PLACE, [PLACE], [PLACE, PLACE], [PLACE, 5], {"lon": 1.0}, {**PLACE, "z": 1}),
    *({"lon": 200.0, "lat": 2.0}, {"lon": 1.0, "lat": 95.0}),
]
PAYLOADS: list[dict[str, Any]] = [{}, *({"a": value} for value in VALUES)]
INTEGER = models.IntegerIndexType.INTEGER
INDEXES: list[Any] = [
    None,
    "keyword",
    "float",
    "bool",
    "datetime",
    "uuid",
    "geo",
    "text",
    models.IntegerIndexParams(type=INTEGER, lookup=True, range=True),
    models.IntegerIndexParams(type=INTEGER, lookup=True, range=False),
    models.IntegerIndexParams(type=INTEGER, lookup=False, range=True),
]
METRES = models.GeoDistance(
    geo_distance=models.GeoDistanceParams(origin=models.GeoPoint(lon=10, lat=20), to="a")
)
EXPRESSIONS: list[tuple[Any, Any]] = [
    ("a", 7),
    (models.DatetimeKeyExpression(datetime_key="a"), "2024-01-01"),
    (METRES, {"lon": 0.0, "lat": 0.0}),
]


class Clients(NamedTuple):
    """The points in both, with the same payload index."""

    ours: QdrantClient
    theirs: EdgeClient

    def assert_same(self, point_id: int, formula: Any, defaults: dict[str, Any]) -> None:
        """A point has the same score in both, or both refuse the formula."""
        found = _score(self.ours, point_id, formula, defaults)
        wanted = _score(self.theirs, point_id, formula, defaults)
        assert found == pytest.approx(wanted, rel=1e-6, nan_ok=True), (point_id, formula, defaults)


def _score(client: Any, point_id: int, formula: Any, defaults: dict[str, Any]) -> float:
    """NaN stands for a refusal."""
    one = models.Filter(must=[models.HasIdCondition(has_id=[point_id])])
    try:
        answer = client.query_points(
            "c",
            query=models.FormulaQuery(formula=formula, defaults=defaults),
            prefetch=[models.Prefetch(query=[1.0], filter=one)],
        )
    except EDGE_REFUSALS:
        return math.nan
    [point] = answer.points
    return float(point.score)


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    with (
        closing(headrace.connect(tmp_path)) as ours,
        closing(EdgeClient()) as theirs,
    ):
        yield _filled(Clients(ours, theirs), PAYLOADS)


def _filled(clients: Clients, payloads: list[dict[str, Any]]) -> Clients:
    params = models.VectorParams(size=1, distance=models.Distance.DOT)
    points = [
        models.PointStruct(id=number, vector=[1.0], payload=payload)
        for number, payload in enumerate(payloads)
    ]
    client: Any
    for client in clients:
        client.create_collection("c", params)
        client.upsert("c", points)
    return clients


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_values_of_a_formula_are_those_that_the_index_of_the_field_holds(
    index: Any, clients: Clients
) -> None:
    client: Any
    if index is not None:
        for client in clients:
            client.create_payload_index("c", "a", index)
    for point_id in range(len(PAYLOADS)):
        for expression, default in EXPRESSIONS:
            clients.assert_same(point_id, expression, {})
            clients.assert_same(point_id, expression, {"a": default})


@pytest.mark.parametrize("path", ["a[]", "a[0]", "a.b", "a[].b", "a[].b[]", "a.b[]", "a.b[0]"])
def test_values_of_a_formula_are_those_of_qdrants_engine_at_any_path(
    path: str, clients: Clients
) -> None:
    for point_id in range(len(PAYLOADS)):
        clients.assert_same(point_id, path, {path: 7})


def _decay(kind: str, params: models.DecayParamsExpression) -> Any:
    match kind:
        case "exp":
            return models.ExpDecayExpression(exp_decay=params)
        case "lin":
            return models.LinDecayExpression(lin_decay=params)
    return models.GaussDecayExpression(gauss_decay=params)


INFINITE = models.MultExpression(mult=["huge", 10.0])
NO_NUMBER = models.SumExpression(sum=[INFINITE, models.NegExpression(neg=INFINITE)])


@pytest.mark.parametrize("kind", ["exp", "lin", "gauss"])
def test_decays_of_what_is_far_beyond_numbers_are_those_of_qdrants_engine(
    kind: str, clients: Clients
) -> None:
    client: Any
    for client in clients:
        client.set_payload("c", {"huge": HUGE}, [0])
    for x in ("huge", models.NegExpression(neg="huge"), INFINITE, NO_NUMBER):
        for target, scale in ((None, 1.0), (INFINITE, 1.0), (None, 1e-30), (None, 1e30)):
            params = models.DecayParamsExpression(x=x, target=target, scale=scale)
            clients.assert_same(0, _decay(kind, params), {})


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (models.SqrtExpression(sqrt=-3.0), "√-3 = NaN"),
        (models.LnExpression(ln=0.0), "ln(0) = -inf"),
        (models.Log10Expression(log10=-0.5), "log10(-0.5) = NaN"),
        (models.ExpExpression(exp=1000.0), "exp(1000) = inf"),
        (models.ExpExpression(exp="a"), "exp(100000000000000000000) = inf"),
        (models.PowExpression(pow=models.PowParams(base=-1.0, exponent=0.5)), "-1^0.5 = NaN"),
        (models.PowExpression(pow=models.PowParams(base=0.0, exponent=-1.0)), "0^-1 = inf"),
        (models.DivExpression(div=models.DivParams(left=1.0, right=0.0)), "1/0 = inf"),
        (models.MultExpression(mult=["a", "a"]), "1" + "0" * 40 + " as f32 = inf"),
        (NO_NUMBER, "NaN as f32 = NaN"),
    ],
)
def test_what_is_not_finite_is_refused_in_qdrants_words(
    formula: Any, text: str, tmp_path: Path
) -> None:
    with closing(headrace.connect(tmp_path)) as ours, closing(EdgeClient()) as theirs:
        clients = _filled(Clients(ours, theirs), [{"a": 1e20, "huge": HUGE}])
        clients.assert_same(0, formula, {})
        assert f"The expression {text} produced a non-finite number" in _refusal(ours, formula)


@pytest.mark.parametrize(
    ("payload", "formula", "text"),
    [
        ({}, "a", "number value for a {}No value found in a payload nor defaults"),
        ({"a": None}, "a", "number value for a {}Value is not a number"),
        ({"a": [1, 2]}, "a", "number value for a {}Value is not a number"),
        (
            {"a": 5},
            models.DatetimeKeyExpression(datetime_key="a"),
            "datetime value for a {}Value is not a string",
        ),
        (
            {},
            METRES,
            "geo point value for a {}No value found in a payload nor defaults",
        ),
    ],
)
def test_what_has_no_value_is_refused_in_qdrants_words(
    payload: dict[str, Any], formula: Any, text: str, tmp_path: Path
) -> None:
    with closing(headrace.connect(tmp_path)) as ours, closing(EdgeClient()) as theirs:
        clients = _filled(Clients(ours, theirs), [payload])
        clients.assert_same(0, formula, {})
        shown = text.format("in the payload and/or in the formula defaults. Error: ")
        assert f"Expected {shown}" in _refusal(ours, formula)


def _refusal(client: QdrantClient, formula: Any) -> str:
    with pytest.raises(UnexpectedResponse) as refusal:
        client.query_points(
            "c",
            query=models.FormulaQuery(formula=formula),
            prefetch=[models.Prefetch(query=[1.0])],
        )
    assert refusal.value.status_code == 400
    return refusal.value.content.decode()
