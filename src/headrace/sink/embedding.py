"""How do the texts of a batch become vectors?

By a model of this process: `qdrant/bm25`, or a function of the operator. What a model says
of one text costs that record alone; a model that cannot work now is like a target that
cannot; one that is broken needs an operator.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import httpx
import msgspec

from headrace.model.errors import HeadraceError, Unavailable
from headrace.model.vectors import Vector
from headrace.service.embedding_models import EmbeddingFailed
from headrace.service.inference import BATCH_TEXTS_MAX, embed_texts, model_names
from headrace.sink.batch import Batch, Entry, Refusal
from headrace.sink.changes import Merge, Upsert
from headrace.sink.errors import FailureClass, Reason, RecordError, TaskFailed, failure_class
from headrace.sink.shapes.texts import TextVector

# What a function raises whose own server does not answer.
_OUTAGES: Final = (OSError, httpx.TransportError)


class Embedder:
    """Embeds the texts of a task's batches.

    Args:
        text: which, and how; None embeds nothing.
    """

    def __init__(self, text: TextVector | None) -> None:
        self._text = text

    def embed_some(self, batch: Batch) -> bool:
        """Embed some of the texts of a batch; records whose text is refused leave it.

        Returns:
            Whether there may be more.

        Raises:
            Unavailable, HeadraceError of the class TARGET: the model cannot work now; what
                was embedded stays so.
            TaskFailed: the model is not there, or broken.
        """
        if self._text is None:
            return False
        waiting = list(
            islice(
                (entry for entries in batch.entries.values() for entry in entries if _text(entry)),
                BATCH_TEXTS_MAX,  # few enough that a task polls between them
            )
        )
        if not waiting:
            return False
        found = self._embed([_text(entry) or "" for entry in waiting], self._text)
        by_entry = {id(entry): one for entry, one in zip(waiting, found, strict=True)}
        for name in {entry.change.collection_name for entry in waiting}:
            kept = []
            for entry in batch.entries[name]:
                one = by_entry.get(id(entry))
                if isinstance(one, RecordError):
                    batch.refusals.append(Refusal(entry.kafka_record, one))
                else:
                    kept.append(entry if one is None else _embedded(entry, self._text.vector, one))
            batch.entries[name] = kept
        return True

    def _embed(self, texts: list[str], text: TextVector) -> list[Vector | RecordError]:
        if text.model.lower() not in model_names():
            raise TaskFailed(
                f"The embedding model '{text.model}' is not available in this process, which has "
                f"{', '.join(model_names())}: name it with --embedding-model, and start again"
            )
        try:
            return [*embed_texts(texts, text.model, text.options)]
        except HeadraceError as error:
            refused = _translated(error, text.model)
            if not isinstance(refused, RecordError):
                raise refused from error
        if len(texts) == 1:
            return [refused]
        return [found for one in texts for found in self._embed([one], text)]


def _translated(error: HeadraceError, model: str) -> HeadraceError:
    """The model's error by who must act: a RecordError if it is about the text."""
    cause = error.__cause__ if isinstance(error, EmbeddingFailed) else None
    if isinstance(cause, _OUTAGES):
        return Unavailable(f"The embedding model '{model}' cannot work now: {cause}")
    if isinstance(cause, ValueError):
        return RecordError(f"The text cannot be embedded: {cause}", Reason.INVALID_TEXT)
    if failure_class(error) is FailureClass.RECORD:
        return RecordError(f"The text cannot be embedded: {error.message}", Reason.INVALID_TEXT)
    if failure_class(error) is FailureClass.TARGET:
        return error
    detail = error.message if cause is None else f"{type(cause).__name__}: {cause}"
    return TaskFailed(
        f"The embedding model '{model}' is broken: {detail}. Mend it and start this process again"
    )


def _text(entry: Entry) -> str | None:
    return entry.change.text if isinstance(entry.change, Upsert | Merge) else None


def _embedded(entry: Entry, vector_name: str, vector: Vector) -> Entry:
    change = entry.change
    assert isinstance(change, Upsert | Merge)
    vectors = {**change.point.vectors, vector_name: vector}
    point = msgspec.structs.replace(change.point, vectors=vectors)
    return Entry(entry.kafka_record, msgspec.structs.replace(change, point=point, text=None))
