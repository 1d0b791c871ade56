from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from qdrant_edge import Bm25, Bm25Config

from headrace.model.errors import MalformedInput
from headrace.model.vectors import Vector
from headrace.service.inference import (
    BATCH_TEXTS_MAX,
    BM25_MODEL,
    embed_bm25,
    embed_text,
    register_model,
)
from tests.server.rest.rest_server import Rest

TEXTS = [
    "",
    "the",
    "hello",
    "The running dogs are Running, and the dog ran!",
    "don't stop-it now 3.5 naïve café",
    "Ünïcode: 東京 タワー здравствуйте мир",
    "xyz " * 40 + "word " * 300,
]
CONFIGS: list[dict[str, Any]] = [
    {},
    {"k": 2.0, "b": 0.0},
    {"avg_len": 3.0, "b": 1.0},
    {"language": "german"},
    {"language": "french", "ascii_folding": True},
    {"lowercase": False},
    {"min_token_len": 3, "max_token_len": 5},
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_bm25_makes_the_vectors_of_qdrants_engine(text: str, config: dict[str, Any]) -> None:
    model = Bm25(Bm25Config(**config))
    for as_query, expected in (
        (False, model.embed_document(text)),
        (True, model.embed_query(text)),
    ):
        vector = embed_bm25(text, config, as_query)
        assert vector.indices.tolist() == list(expected.indices)
        assert np.allclose(vector.values, list(expected.values), rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"k": -1}, {"b": 2}, {"avg_len": 0}, {"language": "klingon"}, {"tokenizer": "x"}, {"k": "x"}],
)
def test_options_that_bm25_does_not_take_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(MalformedInput, match="Invalid options of qdrant/bm25"):
        embed_text("text", BM25_MODEL, options)


def document(text: str, model: str = "Qdrant/bm25", **members: Any) -> dict[str, Any]:
    return {"text": text, "model": model, **members}


def test_texts_are_stored_and_found_by_bm25(rest: Rest, new_collection: Callable[..., str]) -> None:
    name = new_collection(sparse_vectors={"t": {"modifier": "idf"}})
    texts = ["a brown dog", "a brown cat and a brown cow", "birds"]
    points = [
        {"id": n, "vector": {"t": document(text)}, "payload": {"text": text}}
        for n, text in enumerate(texts, 1)
    ]
    rest.result("PUT", f"/collections/{name}/points", {"points": points[:2]})
    batch = {"ids": [3], "vectors": {"t": [document(texts[2])]}}
    rest.result("PUT", f"/collections/{name}/points", {"batch": batch})
    for query in (document("dogs"), {"nearest": document("dogs")}):
        body: dict[str, Any] = {"query": query, "using": "t"}
        found = rest.result("POST", f"/collections/{name}/points/query", body)["points"]
        assert [point["id"] for point in found] == [1]
    update = {"points": [{"id": 3, "vector": {"t": document("two dogs")}}]}
    rest.result("PUT", f"/collections/{name}/points/vectors", update)
    body = {"query": document("dogs"), "using": "t", "with_vector": True}
    found = rest.result("POST", f"/collections/{name}/points/query", body)["points"]
    assert {point["id"] for point in found} == {1, 3}


def test_an_operators_function_embeds_for_its_model(rest: Rest, collection: str) -> None:
    def embed(text: str, options: Mapping[str, Any], as_query: bool) -> Vector:
        return np.array([len(text), options.get("x", 0), as_query, 0], dtype=np.float32)

    register_model("test/Lengths", embed)
    path = f"/collections/{collection}/points"
    vector = document("abc", "test/lengths", options={"x": 7})
    rest.result("PUT", path, {"points": [{"id": 1, "vector": vector}]})
    assert rest.result("GET", f"{path}/1")["vector"] == [3.0, 7.0, 0.0, 0.0]
    batch = {"ids": [2, 3], "vectors": [document("abcd", "test/lengths"), [0, 0, 0, 1]]}
    rest.result("PUT", path, {"batch": batch})
    assert rest.result("GET", f"{path}/2")["vector"] == [4.0, 0.0, 0.0, 0.0]
    rest.result("POST", f"{path}/delete", {"points": [2, 3]})
    body = {"query": document("ab", "test/lengths")}
    assert rest.result("POST", f"{path}/query", body)["points"][0]["score"] == 6.0


def test_the_texts_of_a_request_are_embedded_together(rest: Rest, collection: str) -> None:
    calls = []

    def embed(text: str, options: Mapping[str, Any], as_query: bool) -> Vector:
        raise AssertionError("one by one")

    def embed_batch(
        texts: Sequence[str], options: Mapping[str, Any], as_query: bool
    ) -> list[Vector]:
        calls.append((list(texts), dict(options), as_query))
        x = options.get("x", 0)
        return [np.array([len(text), x, 0, 0], dtype=np.float32) for text in texts]

    register_model("test/batch", embed, embed_batch)
    path = f"/collections/{collection}/points"
    points: list[Any] = [
        {"id": n, "vector": document("a" * n, "test/batch")} for n in range(1, BATCH_TEXTS_MAX + 3)
    ]
    points += [
        {"id": 100, "vector": [0, 0, 0, 1]},
        {"id": 101, "vector": document("ab", "test/Batch", options={"x": 7})},
    ]
    rest.result("PUT", path, {"points": points})
    sizes = [(len(texts), options, as_query) for texts, options, as_query in calls]
    assert sizes == [(BATCH_TEXTS_MAX, {}, False), (2, {}, False), (1, {"x": 7}, False)]
    for n in (1, 2, BATCH_TEXTS_MAX + 2):
        assert rest.result("GET", f"{path}/{n}")["vector"] == [n, 0.0, 0.0, 0.0]
    assert rest.result("GET", f"{path}/101")["vector"] == [2.0, 7.0, 0.0, 0.0]
    calls.clear()
    texts = [document("abc", "test/batch"), document("abcd", "test/batch")]
    rest.result("PUT", path, {"batch": {"ids": [1, 2], "vectors": texts}})
    updates = [{"id": n, "vector": one} for n, one in enumerate(texts, 1)]
    rest.result("PUT", f"{path}/vectors", {"points": updates})
    operations = [{"upsert": {"points": updates}}, {"update_vectors": {"points": updates}}]
    rest.result("POST", f"{path}/batch", {"operations": operations})
    assert calls == [(["abc", "abcd"], {}, False)] * 4


@pytest.mark.parametrize(
    ("vector", "text"),
    [
        (document("a", "unknown/model"), "The model `unknown/model` is not available here"),
        ({"text": "a"}, "missing field `model`"),
        ({"image": "http://x/y.png", "model": "m"}, "inference (`image`"),
        ({"object": {"a": 1}, "model": "m"}, "inference (`object`"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    rest: Rest, collection: str, vector: Any, text: str
) -> None:
    path = f"/collections/{collection}/points"
    for answer in (
        rest.error("PUT", path, {"points": [{"id": 1, "vector": vector}]}),
        rest.error("PUT", path, {"batch": {"ids": [1], "vectors": [vector]}}),
        rest.error("POST", f"{path}/query", {"query": vector}),
    ):
        assert answer[0] == 400
        assert text in answer[1]
