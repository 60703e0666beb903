"""Arrays, threads and seeds on their way to the core."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import check_random_state

Single = NDArray[np.float32]


def single(x: NDArray[Any], name: str = "X") -> Single:
    """Give ``x`` in single precision and row-major order, or say which value has no place there."""
    with np.errstate(over="ignore"):
        out = np.ascontiguousarray(x, dtype=np.float32)
    if x.dtype != np.float32 and not np.isfinite(out).all():
        bad = np.argwhere(~np.isfinite(out))[0]
        value = x[tuple(bad)]
        where = ", ".join(str(int(i)) for i in bad)
        raise ValueError(f"{name}: {value!r} at [{where}] is beyond single precision (±3.4e38)")
    return out


def threads(n_jobs: int | None) -> int:
    """Give the number of threads that ``n_jobs`` asks for, 0 meaning one for each core.

    None goes by ``OMP_NUM_THREADS``, which joblib sets in its workers, and else takes all cores, as
    scikit-learn's own threaded estimators do.
    """
    if n_jobs is None:
        text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        return int(text) if text.isdigit() else 0
    return int(effective_n_jobs(n_jobs))


def seed(random_state: Any) -> int:
    """Give the core's seed: the number itself, or one drawn from the generator."""
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
