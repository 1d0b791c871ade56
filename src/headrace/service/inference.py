"""How does text become a vector where a client sends text in place of one?

`qdrant/bm25` is built in: weights and token numbers are Qdrant's, so that vectors made
here, by Qdrant and by fastembed can be searched together. An operator may register other
models, as functions of this process; nothing is ever sent anywhere.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import mmh3
import msgspec
import numpy as np

from headrace.engine.filter.text import TextPipeline, text_pipeline
from headrace.model.errors import MalformedInput, WrongInput
from headrace.model.vectors import SparseVector, Vector

BM25_MODEL = "qdrant/bm25"

_BM25_LANGUAGE = "english"

# Languages without a stemmer, whose words are taken as they are.
_UNSTEMMED = frozenset(
    """
    azerbaijani basque bengali catalan chinese hebrew hinglish indonesian japanese kazakh
    nepali slovene tajik
    """.split()  # noqa: SIM905
)

# From a text, the options that came with it, and whether it is a query, to its vector.
Embed = Callable[[str, Mapping[str, Any], bool], Vector]
# The same for many texts at once.
EmbedBatch = Callable[[Sequence[str], Mapping[str, Any], bool], Sequence[Vector]]

# No model is given more at once.
BATCH_TEXTS_MAX: Final = 64


class Text(NamedTuple):
    """What stands in place of a vector.

    Attributes:
        text: of a document or a query.
        model: the name of the model that is to make the vector.
        options: what the model is told besides.
    """

    text: str
    model: str
    options: Mapping[str, Any]


class Bm25Options(msgspec.Struct, frozen=True):
    """Qdrant's `Bm25Config`.

    Attributes:
        k: how much a repeated word counts.
        b: how much a text's length counts, 0 to 1.
        avg_len: the usual length, in tokens.
        language: of the default stop words and stemmer.
    """

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 256.0
    language: str | None = None
    tokenizer: str | None = None
    lowercase: bool | None = None
    ascii_folding: bool | None = None
    stopwords: Any = None
    stemmer: Any = None
    min_token_len: int | None = None
    max_token_len: int | None = None


_models: dict[str, Embed] = {}
_batch_models: dict[str, EmbedBatch] = {}
_registering = threading.Lock()


def register_model(name: str, embed: Embed, embed_batch: EmbedBatch | None = None) -> None:
    """Let clients name a model; a name that is known gets the new function.

    Args:
        name: as clients spell it in `model`, in any case.
        embed: thread-safe; its errors of class `HeadraceError` are told to the client.
        embed_batch: the same for many texts at once, for models that are faster so.
    """
    with _registering:
        _models[name.lower()] = embed
        _batch_models.pop(name.lower(), None)
        if embed_batch is not None:
            _batch_models[name.lower()] = embed_batch


def model_names() -> list[str]:
    """The models that are available here, in lower case."""
    return list(_models)


def embed_text(
    text: str, model: str, options: Mapping[str, Any] | None = None, as_query: bool = False
) -> Vector:
    """The vector of a text.

    Args:
        text: a document or a query.
        model: the name of a model.
        options: what the model is told besides.
        as_query: whether it is to be searched for, rather than stored.

    Raises:
        MalformedInput: the model is not known, or does not take the options.
    """
    embed = _models.get(model.lower())
    if embed is None:
        raise MalformedInput(
            f"The model `{model}` is not available here; available are: {', '.join(_models)}"
        )
    return embed(text, options or {}, as_query)


def embed_texts(
    texts: Sequence[str], model: str, options: Mapping[str, Any] | None = None
) -> list[Vector]:
    """The vectors of documents, `BATCH_TEXTS_MAX` by one call if the model takes many.

    Raises: as `embed_text`, for any of them.
    """
    embed_batch = _batch_models.get(model.lower())
    if embed_batch is None:
        return [embed_text(text, model, options) for text in texts]
    return [
        vector
        for begin in range(0, len(texts), BATCH_TEXTS_MAX)
        for vector in embed_batch(texts[begin : begin + BATCH_TEXTS_MAX], options or {}, False)
    ]


def embed_points(points: Sequence[Mapping[str, Vector | Text]]) -> list[dict[str, Vector]]:
    """The vectors of points, by name, with those of their texts.

    All texts for one model, with the same options, are embedded together.

    Raises: as `embed_texts`.
    """
    embedded: list[dict[str, Vector]] = []
    alike: dict[tuple[str, bytes], list[tuple[dict[str, Vector], str, Text]]] = {}
    for point in points:
        vectors: dict[str, Vector] = {}
        for name, one in point.items():
            if isinstance(one, Text):
                options_json = msgspec.json.encode(one.options, order="deterministic")
                place = (vectors, name, one)
                alike.setdefault((one.model.lower(), options_json), []).append(place)
            else:
                vectors[name] = one
        embedded.append(vectors)
    for places in alike.values():
        _, _, first = places[0]
        found = embed_texts([text.text for _, _, text in places], first.model, first.options)
        for (vectors, name, _), vector in zip(places, found, strict=True):
            vectors[name] = vector
    return embedded


def embed_bm25(text: str, options: Mapping[str, Any], as_query: bool) -> SparseVector:
    """The sparse vector of a text: each token's number and weight.

    A query's tokens weigh 1. A document's weigh `tf (k + 1) / (tf + k (1 - b + b n / avg_len))`
    for `tf` occurrences among `n` tokens.

    Raises:
        MalformedInput: the options are wrong.
    """
    settings, pipeline = _bm25(msgspec.json.encode(options, order="deterministic"))
    if as_query:
        weights = {_token_number(token): 1.0 for token in pipeline.query_tokens(text)}
        return _sparse_vector(weights)
    tokens = list(pipeline.document_tokens(text))
    norm = settings.k * (1 - settings.b + settings.b * len(tokens) / settings.avg_len)
    return _sparse_vector(
        {
            _token_number(token): count * (settings.k + 1) / (count + norm)
            for token, count in Counter(tokens).items()
        }
    )


@lru_cache(maxsize=64)
def _bm25(options_json: bytes) -> tuple[Bm25Options, TextPipeline]:
    try:
        options = msgspec.json.decode(options_json, type=Bm25Options)
        pipeline = text_pipeline(_token_options(options))
    except (msgspec.ValidationError, WrongInput) as error:
        raise MalformedInput(f"Invalid options of {BM25_MODEL}: {error}") from None
    if options.k < 0 or not 0 <= options.b <= 1 or not options.avg_len > 0:
        raise MalformedInput(
            f"Invalid options of {BM25_MODEL}: k must be at least 0, b from 0 to 1, and "
            "avg_len above 0"
        )
    return options, pipeline


def _token_options(options: Bm25Options) -> dict[str, Any]:
    language = (options.language or _BM25_LANGUAGE).lower()
    stemmer = options.stemmer
    if stemmer is None and language not in _UNSTEMMED:
        stemmer = {"type": "snowball", "language": language}
    chosen = {
        "tokenizer": options.tokenizer,
        "lowercase": options.lowercase,
        "ascii_folding": options.ascii_folding,
        "stopwords": language if options.stopwords is None else options.stopwords,
        "stemmer": stemmer,
        "min_token_len": options.min_token_len,
        "max_token_len": options.max_token_len,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _token_number(token: str) -> int:
    return abs(mmh3.hash(token))


def _sparse_vector(weights: Mapping[int, float]) -> SparseVector:
    numbers = sorted(weights)
    return SparseVector(
        np.array(numbers, dtype=np.uint32),
        np.array([weights[number] for number in numbers], dtype=np.float32),
    )


register_model(BM25_MODEL, embed_bm25)
