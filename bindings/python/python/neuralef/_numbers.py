"""Arrays, threads and seeds on their way to the core."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils import check_random_state

Single = NDArray[np.float32]


#: Spread of a column against the spacing of single precision at its values, at least.
_RESOLVED = 1000.0


def single(x: NDArray[Any], name: str = "X", *, warn: bool = False) -> Single:
    """Give ``x`` in single precision and row-major order, or say which value has no place there.

    ``warn`` of columns that are mostly a constant, whose digits are lost.
    """
    with np.errstate(over="ignore"):
        out = np.ascontiguousarray(x, dtype=np.float32)
    if x.dtype != np.float32 and not np.isfinite(out).all():
        bad = np.argwhere(~np.isfinite(out))[0]
        value = x[tuple(bad)]
        where = ", ".join(str(int(i)) for i in bad)
        raise ValueError(f"{name}: {value!r} at [{where}] is beyond single precision (±3.4e38)")
    if warn and x.dtype != np.float32 and len(x):
        spread = np.ptp(x, axis=0).astype(np.float64)
        spacing = np.spacing(np.abs(out).max(axis=0)).astype(np.float64)
        bad = np.flatnonzero((spread > 0) & (spread < _RESOLVED * spacing))
        if len(bad):
            warnings.warn(
                f"{name}: column {bad[0]} has values around {x[0, bad[0]]:.6g} within "
                f"{spread[bad[0]]:.3g}, of which single precision keeps only "
                f"{spread[bad[0]] / spacing[bad[0]]:.0f} steps; subtract the mean of the column first",
                stacklevel=4,
            )
    return out


#: The most threads that are started.
_MOST = 1024


def threads(n_jobs: int | None) -> int:
    """Give the number of threads that ``n_jobs`` asks for, 0 meaning one for each core.

    None goes by ``OMP_NUM_THREADS``, which joblib sets in its workers, and else takes all cores, as
    scikit-learn's own threaded estimators do.
    """
    if n_jobs is None:
        text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        return int(text) if text.isdigit() else 0
    return min(int(effective_n_jobs(max(min(n_jobs, _MOST), -_MOST))), _MOST)


def seed(random_state: Any) -> int:
    """Give the core's seed: the number itself, or one drawn from the generator."""
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
