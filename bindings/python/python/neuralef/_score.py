"""Gradients of log densities."""

from __future__ import annotations

import json
import os
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from neuralef import _core, _kernels
from neuralef._base import KERNEL, KernelFeatures, thawed
from neuralef._numbers import Single, seed, single, threads


class ScoreEstimator(BaseEstimator):  # type: ignore[misc]
    """∇log q from samples of q: the spectral Stein gradient estimator (Shi, Sun & Zhu, ICML 2018).

    ∇log q(x) ≈ Σ_j β_jψ_j(x) with β_j = −E ∇ψ_j. The eigenfunctions are those of a kernel by the Nyström
    method with all samples as landmarks, or those of a fitted :class:`NeuralEF`, whose queries do not
    depend on the number of samples.

    Parameters
    ----------
    kernel : str, default="rbf"
        A kernel with a gradient, by name or in text form.
    gamma, degree, coef0, lengthscale, kernel_params
        As in :class:`NeuralEF`.
    eigenfunctions : fitted NeuralEF, Nystroem or KernelPCA, default=None
        Whose eigenfunctions to use instead of the kernel's; in ``sklearn.frozen.FrozenEstimator`` where
        clones of this estimator are to have it fitted.
    terms : {"auto"}, int or float, default="auto"
        Eigenfunctions in the sum: those with the least held-out loss, a number, or the share of the
        kernel's trace that they have (between 0 and 1).
    n_components : int, default=100
        The most eigenfunctions of the kernel to look at.
    random_state, n_jobs
        As in :class:`NeuralEF`.

    Attributes
    ----------
    terms_ : int
        Eigenfunctions in use.
    losses_ : ndarray
        Held-out Hyvärinen losses of 1, 2, … terms, for ``terms="auto"``.
    coef_ : ndarray of shape (k, n_features)
        β.
    kernel_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **KERNEL,
        "kernel": [str],
        "eigenfunctions": [KernelFeatures, FrozenEstimator, None],
        "terms": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        kernel: str = "rbf",
        *,
        gamma: float | None = None,
        degree: int = 3,
        coef0: float = 1,
        lengthscale: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        eigenfunctions: KernelFeatures | FrozenEstimator | None = None,
        terms: str | float = "auto",
        n_components: int = 100,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.lengthscale = lengthscale
        self.kernel_params = kernel_params
        self.eigenfunctions = eigenfunctions
        self.terms = terms
        self.n_components = n_components
        self.random_state = random_state
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: ArrayLike, y: Any = None) -> ScoreEstimator:
        """Estimate β.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples of q.
        y : ignored

        Returns
        -------
        self : ScoreEstimator
        """
        x = single(validate_data(self, X, dtype=[np.float64, np.float32]))
        if len(x) < 2:
            raise ValueError(f"X: expected at least 2 samples, got n_samples={len(x)}")
        terms, chosen = str(self.terms), seed(self.random_state)
        if self.eigenfunctions is not None:
            self._estimator = _core.SpectralStein.parametric(
                thawed(self.eigenfunctions)._model, x, terms, chosen, threads(self.n_jobs)
            )
        else:
            shared = {name: getattr(self, name) for name in _kernels.SHARED}
            text = _kernels.text(self.kernel, shared, self.kernel_params)
            self._estimator = _core.SpectralStein.nonparametric(
                text, x, terms, int(self.n_components), chosen, threads(self.n_jobs)
            )
        self._read()
        return self

    def _read(self) -> None:
        record = json.loads(self._estimator.record())
        self.terms_: int = record["terms"]
        self.losses_ = np.array(record["losses"])
        self.coef_: NDArray[np.float64] = self._estimator.coefficients()
        self.kernel_: str | None = self._estimator.kernel

    def _points(self, X: ArrayLike) -> tuple[Single, np.dtype[Any]]:
        check_is_fitted(self)
        x = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return single(x), x.dtype

    def gradient(self, X: ArrayLike) -> NDArray[Any]:
        """∇log q(X).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        gradient : ndarray of shape (n_samples, n_features)
        """
        points, dtype = self._points(X)
        return self._estimator.score(points, threads(self.n_jobs)).astype(dtype, copy=False)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Minus the Hyvärinen loss E ½‖s‖² + ∇·s at other samples of q: larger is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored
        """
        points, _ = self._points(X)
        return -self._estimator.hyvarinen_loss(points, threads(self.n_jobs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator; the command line and the Rust crate read it too."""
        check_is_fitted(self)
        self._estimator.save(os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ScoreEstimator:
        """Read an estimator, whoever wrote it."""
        estimator = cls()
        estimator._estimator = _core.SpectralStein.load(os.fspath(path))
        estimator._read()
        estimator.n_features_in_ = estimator.coef_.shape[1]
        if estimator.kernel_ is not None:
            estimator.kernel = estimator.kernel_
        return estimator

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there are coefficients."""
        return hasattr(self, "_estimator")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "_estimator" in state:
            state = {**state, "_estimator": state["_estimator"].to_bytes()}
        return dict(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_estimator" in state:
            state = {**state, "_estimator": _core.SpectralStein.from_bytes(state["_estimator"])}
        super().__setstate__(state)
