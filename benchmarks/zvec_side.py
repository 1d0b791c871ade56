"""The fastest other embedded engine that we found, if it is installed: zvec.

Its strongest setting: HNSW over 8-bit codes with m 16, ef_construction 200 and a refiner,
one query thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.data import Dataset
from benchmarks.sides import BATCH_POINTS, SEARCH_LIMIT, Bounds
from headrace.model.vectors import FloatVector

_DEFAULT_WIDTH = 300


def has_zvec() -> bool:
    """Whether it is installed, as `pip install headrace[bench]` does."""
    return find_spec("zvec") is not None


class ZvecSide:
    """A zvec collection of vectors and one indexed number."""

    def __init__(self, folder: Path, dim: int) -> None:
        import zvec

        self.name = f"zvec {version('zvec')}"
        self._zvec: Any = zvec
        zvec.init(query_threads=1)
        index = zvec.HnswIndexParam(
            metric_type=zvec.MetricType.COSINE,
            m=16,
            ef_construction=200,
            quantize_type=zvec.QuantizeType.INT8,
        )
        numbers = zvec.InvertIndexParam(enable_range_optimization=True)
        schema = zvec.CollectionSchema(
            "bench",
            fields=[zvec.FieldSchema("number", zvec.DataType.INT64, index_param=numbers)],
            vectors=[zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, dim, index)],
        )
        self._collection: Any = zvec.create_and_open(str(folder), schema)

    def upsert_all(self, dataset: Dataset) -> None:
        """Store all points, in batches; of the payloads the number alone."""
        for begin in range(0, len(dataset.vectors), BATCH_POINTS):
            batch = dataset.ids[begin : begin + BATCH_POINTS]
            self._collection.upsert(
                [
                    self._zvec.Doc(
                        str(i),
                        fields={"number": dataset.payloads[i]["number"]},
                        vectors={"vector": dataset.vectors[i]},
                    )
                    for i in batch
                ]
            )

    def wait_until_indexed(self) -> None:
        """Build its graph."""
        self._collection.optimize()

    def search(
        self, vector: FloatVector, bounds: Bounds | None = None, width: int | None = None
    ) -> Sequence[int]:
        """See `Searcher.search`."""
        param = self._zvec.HnswQueryParam(ef=width or _DEFAULT_WIDTH, is_using_refiner=True)
        found = self._collection.query(
            self._zvec.Query("vector", vector=vector, param=param),
            topk=SEARCH_LIMIT,
            filter=None
            if bounds is None
            else f"{bounds.key} >= {_whole(bounds.low)} and {bounds.key} < {_whole(bounds.high)}",
            output_fields=[],
        )
        return [int(document.id) for document in found]

    def close(self) -> None:
        """Close it."""
        self._collection.close()


def _whole(bound: float) -> int:
    """The whole number that bounds whole numbers as `bound` does."""
    return -int(-bound // 1)
