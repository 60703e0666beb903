"""Kernels as users give them: names, text forms, functions and precomputed values."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from neuralef import _core
from neuralef._numbers import single, threads

Kernel = str | Callable[..., Any]

#: Parameters of kernels that estimators have, with scikit-learn's defaults as the catalogue writes them.
SHARED: dict[str, str | None] = {"gamma": None, "degree": "3", "coef0": "1", "lengthscale": None}
_ALIASES = {"poly": "polynomial"}


def text(kernel: str, shared: Mapping[str, Any], kernel_params: Mapping[str, Any] | None) -> str:
    """Give the text form of a kernel.

    A bare name takes the parameters that belong to it, as in scikit-learn; a text form such as
    ``"rbf(lengthscale=0.5) + 0.1*linear"`` says everything itself.
    """
    form = _core.parse_text_form("kernel", kernel)
    if form is None or form[1]:
        # degree and coef0 have defaults of their own, which are not meant for texts.
        for name, default in SHARED.items():
            if default is None and shared.get(name) is not None:
                raise ValueError(
                    f"{name}: expected None with the text form {kernel!r}, got {shared[name]!r}"
                )
        if kernel_params:
            raise ValueError(
                f"kernel_params: expected None with the text form {kernel!r}, got {kernel_params!r}"
            )
        return kernel
    name = _ALIASES.get(form[0], form[0])
    known = _shared_parameters().get(name, ())
    own = {key: shared[key] for key in known if shared.get(key) is not None}
    return _core.text_form("kernel", name, {**own, **(kernel_params or {})})


@functools.cache
def _shared_parameters() -> dict[str, tuple[str, ...]]:
    """Which of the parameters that estimators have each kernel takes from them.

    ``linear`` has a ``coef0`` too, but another default: as in scikit-learn, the estimator's is not for it.
    """

    def takes(parameters: dict[str, Any], name: str) -> bool:
        return name in parameters and SHARED[name] in (None, parameters[name][0])

    return {
        kernel: tuple(name for name in SHARED if takes(entry["parameters"], name))
        for kernel, entry in catalogue()["kernels"].items()
    }


def parts(field: str, text: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a text form such as ``nystrom(landmarks=10, selection=uniform)``."""
    form = _core.parse_text_form(field, text)
    if form is None:
        raise ValueError(f"{field}: expected a name with parameters, got {text!r}")
    return form


class FunctionKernel:
    """A Python function as the core calls kernels: ``gram(X, Y)`` and ``diag(X)``.

    The function may be one of matrices, ``f(X, Y)`` of shape (n, m), as the kernels of
    ``sklearn.metrics.pairwise`` and ``sklearn.gaussian_process`` are, or one of two points, ``f(x, y)``,
    as scikit-learn's own ``Nystroem`` wants it. Which of them :meth:`probe` finds out.
    """

    def __init__(self, function: Callable[..., Any], parameters: Mapping[str, Any] | None) -> None:
        self.function = function
        self.parameters = dict(parameters or {})
        self.of_matrices: bool | None = None

    def __call__(self, *points: NDArray[np.float64]) -> Any:
        """Call the function with its parameters."""
        return self.function(*points, **self.parameters)

    def probe(self, X: NDArray[np.float64]) -> None:
        """Find out what kind of function it is; its own error if it is neither."""
        # As many as columns would make a product of matrices of xᵀy.
        m = 3 if X.shape[1] != 3 else 4
        first, second = X[[0, 0]], X[[0, -1, 0, -1][:m]]
        of_matrices: Exception | None = None
        try:
            found = np.asarray(self(first, second), dtype=np.float64)
            self.of_matrices = found.shape == (2, m)
        except Exception as error:
            self.of_matrices, of_matrices = False, error
        if not self.of_matrices:
            try:
                found = np.asarray(self(X[0], X[-1]), dtype=np.float64)
            except Exception as error:
                raise error from of_matrices
            if found.size != 1:
                raise ValueError(
                    "kernel: expected a function of two points that gives a number, or of two "
                    f"matrices (n × d and m × d) that gives n × m, got shape {found.shape}"
                )

    def gram(self, X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
        """κ(X, Y), n × m. The same points on both sides are one object."""
        if self.of_matrices:
            return np.ascontiguousarray(self(X, Y), dtype=np.float64)
        values = np.empty((len(X), len(Y)))
        for i, x in enumerate(X):
            if X is Y:
                # Each pair once.
                values[i, i:] = values[i:, i] = self.row(x, Y[i:])
            else:
                values[i] = self.row(x, Y)
        return values

    def row(self, x: NDArray[np.float64], Y: NDArray[np.float64]) -> list[float]:
        """κ(x, Y) of one point, by a function of two points."""
        return [self.value(x, y) for y in Y]

    def value(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        """κ(x, y), by a function of two points."""
        return float(np.asarray(self(x, y)).item())

    def diag(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """κ(x, x), n."""
        if self.of_matrices:
            blocks = [X[i : i + 64] for i in range(0, len(X), 64)]
            rows = [np.diagonal(self.gram(block, block)) for block in blocks]
            return np.concatenate(rows) if rows else np.zeros(0)
        return np.array([self.value(x, x) for x in X], dtype=np.float64)


def kernel_matrix(
    kernel: str, X: ArrayLike, Y: ArrayLike | None = None, *, n_jobs: int | None = None
) -> NDArray[np.float64]:
    """κ(X, Y) for a kernel in text form.

    Parameters
    ----------
    kernel : str
        Such as ``"rbf(lengthscale=0.5) + 0.1*linear"``. What depends on data (``median``) is worked out
        from X.
    X, Y : array-like of shape (n, d) and (m, d)
        Points; Y is X by default.
    n_jobs : int, default=None
        Threads.

    Returns
    -------
    K : ndarray of shape (n, m)
    """
    first = single(check_array(X, dtype=[np.float64, np.float32]))
    second = first if Y is None else single(check_array(Y, dtype=[np.float64, np.float32]), "Y")
    return _core.kernel_matrix(kernel, first, second, threads(n_jobs))


def catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    """Everything that has a text form: kernels, networks, objectives, … by name, with parameters.

    Returns
    -------
    sections : dict
        ``catalogue()["kernels"]["rbf"]["parameters"]["lengthscale"]`` is (default, meaning).
    """
    sections = json.loads(_core.catalogue())
    return {
        section["kind"]: {
            entry["name"]: {
                "summary": entry["summary"],
                "parameters": {p["name"]: (p["default"], p["help"]) for p in entry["parameters"]},
            }
            for entry in section["entries"]
        }
        for section in sections
    }
