"""`python -m benchmarks`: measure, show a table, write one JSON line for each figure."""

from __future__ import annotations

import os


def run_with_one_thread() -> None:
    """One search thread on both sides: the algebra under NumPy would take every core."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    # NumPy reads these when it is imported, which this import does.
    from benchmarks.command import main

    main()


if __name__ == "__main__":
    run_with_one_thread()
