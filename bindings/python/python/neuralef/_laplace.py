"""Laplace approximations of trained networks."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from neuralef import _core, _kernels
from neuralef._base import RUN, thawed
from neuralef._errors import naming
from neuralef._neuralef import NeuralEF
from neuralef._numbers import seed, single, threads
from neuralef._watch import Callback, Watch

#: laplace-torch's names of predictions, and ours.
_LINKS = {"probit": "probit", "mean_field": "mean_field", "bridge": "laplace_bridge"}
_SOURCES = {
    ("last_layer", "full"): "last_layer(structure=full)",
    ("last_layer", "kron"): "last_layer(structure=kronecker)",
    ("last_layer", "diag"): "last_layer(structure=diagonal)",
    ("all", "kron"): "kfac",
    ("all", "diag"): "diag",
}


#: The core's names of parameters, and laplace-torch's.
_NAMES = {"labels": "y", "targets": "y", "channels": "mean", "standardiser scale": "std"}


class Laplace(BaseEstimator):  # type: ignore[misc]
    """Linearised Laplace approximation of a trained network.

    The network stays as it is; its predictions get their uncertainty from a Gaussian around the trained
    parameters, or around the network as a function in the span of k eigenfunctions of its tangent
    kernel. Names and defaults are those of laplace-torch where they mean the same.

    Parameters
    ----------
    network : path-like
        A trained network: an ONNX file, or safetensors with PyTorch's names and ``architecture``.
    likelihood : {"classification", "regression"}, default="classification"
    subset_of_weights : {"last_layer", "all"}, default="last_layer"
    hessian_structure : {"kron", "full", "diag"}, default="kron"
        Of the generalised Gauss–Newton matrix. "full" is for the last layer only.
    source : str or fitted NeuralEF, default=None
        What is uncertain, in text form, instead of the two parameters before:
        ``"neuralef(components=20)"``, ``"ella(components=20, landmarks=2000)"``, ``"map"``, or any other
        of ``neuralef.catalogue()["sources"]``; or eigenfunctions that are fitted already, with as many
        outputs as the network (in ``sklearn.frozen.FrozenEstimator`` where clones are to have them).
    architecture : str, default=None
        What a safetensors file has the weights of, such as ``"shared_resnet(depth=20)"``.
    sigma_noise : float or None, default=1.0
        Standard deviation of the noise of real targets; None takes the one with the largest marginal
        likelihood.
    prior_precision : float or None, default=1.0
        None takes the one with the largest marginal likelihood in ``fit``.
    temperature : float, default=1.0
        The data count 1/temperature times.
    mean, std : sequence of floats, default=None
        What the network was trained with: x ↦ (x − mean)/std, for each channel.
    memory_budget : int, default=4096
        MiB.
    random_state, n_jobs, verbose, callbacks
        As in :class:`neuralef.NeuralEF`.

    Attributes
    ----------
    n_outputs_ : int
        Outputs of the network.
    source_ : str
        The source, with all parameters.
    loss_ : float
        −log p of the labels, or the sum of squared errors, over the points of the fit.
    n_features_in_ : int
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "network": [str, os.PathLike],
        "likelihood": [StrOptions({"classification", "regression"})],
        "subset_of_weights": [StrOptions({"last_layer", "all"})],
        "hessian_structure": [StrOptions({"kron", "full", "diag"})],
        "source": [str, NeuralEF, FrozenEstimator, None],
        "architecture": [str, None],
        "sigma_noise": [Interval(Real, 0, None, closed="neither"), None],
        "prior_precision": [Interval(Real, 0, None, closed="neither"), None],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "mean": ["array-like", None],
        "std": ["array-like", None],
        **RUN,
    }

    def __init__(
        self,
        network: str | os.PathLike[str],
        likelihood: str = "classification",
        subset_of_weights: str = "last_layer",
        hessian_structure: str = "kron",
        *,
        source: str | NeuralEF | FrozenEstimator | None = None,
        architecture: str | None = None,
        sigma_noise: float | None = 1.0,
        prior_precision: float | None = 1.0,
        temperature: float = 1.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        memory_budget: int = 4096,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int | bool = 0,
        callbacks: list[Callback] | None = None,
    ) -> None:
        self.network = network
        self.likelihood = likelihood
        self.subset_of_weights = subset_of_weights
        self.hessian_structure = hessian_structure
        self.source = source
        self.architecture = architecture
        self.sigma_noise = sigma_noise
        self.prior_precision = prior_precision
        self.temperature = temperature
        self.mean = mean
        self.std = std
        self.memory_budget = memory_budget
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    def _source(self, folder: str) -> str:
        fitted = thawed(self.source)
        if isinstance(fitted, NeuralEF):
            path = Path(folder) / "eigenfunctions.safetensors"
            fitted.save(path)
            return _core.text_form("source", "neuralef", {"model": path})
        if self.source is not None:
            return str(self.source)
        found = _SOURCES.get((self.subset_of_weights, self.hessian_structure))
        if found is None:
            raise ValueError(
                'hessian_structure: expected "kron" or "diag" with subset_of_weights="all", got '
                f'{self.hessian_structure!r}; source="neuralef(components=20)" keeps the leading '
                "directions of the full matrix"
            )
        return found

    @property
    def _classifies(self) -> bool:
        return self.likelihood == "classification"

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: ArrayLike, y: ArrayLike) -> Laplace:
        """Sum the curvature of the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points as the network takes them (before ``mean`` and ``std``), flattened in the order channel,
            row, column. Arrays of more dimensions are flattened.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers of classes, from 0, or real targets.

        Returns
        -------
        self : Laplace
        """
        if not self._classifies and self.temperature != 1:
            raise ValueError(
                f"temperature: expected 1 for regression, whose noise says as much, got {self.temperature!r}"
            )
        x = self._points(X, reset=True)
        labels, values = self._targets(y)
        noise = None
        if not self._classifies and self.sigma_noise is not None:
            noise = float(self.sigma_noise) ** 2
        with (
            naming(_NAMES),
            tempfile.TemporaryDirectory() as folder,
            Watch(self.verbose, self.callbacks) as callback,
        ):
            posterior = _core.fit_laplace(
                os.fspath(self.network),
                self.architecture,
                self._source(folder),
                x,
                labels=labels,
                values=values,
                prior_precision=self.prior_precision,
                noise_variance=noise,
                temperature=float(self.temperature) if self._classifies else 1.0,
                mean=None if self.mean is None else [float(v) for v in self.mean],
                std=None if self.std is None else [float(v) for v in self.std],
                seed=seed(self.random_state),
                memory_budget=int(self.memory_budget),
                callback=callback,
                n_jobs=threads(self.n_jobs),
            )
        self._posterior = posterior
        self._read()
        return self

    def _read(self) -> None:
        info = json.loads(self._posterior.info())
        self.n_outputs_: int = info["outputs"]
        self.source_: str = info["source"]
        self.loss_: float = info["loss"]
        if info["likelihood"] == "classification":
            self.classes_ = np.arange(self.n_outputs_)

    def _points(self, X: ArrayLike, *, reset: bool = False) -> NDArray[np.float32]:
        x = X if hasattr(X, "columns") or issparse(X) else np.asarray(X)
        if isinstance(x, np.ndarray) and x.ndim > 2:
            x = x.reshape(len(x), -1)
        found = validate_data(self, x, dtype=[np.float32, np.float64], reset=reset)
        return single(found)

    def _targets(self, y: ArrayLike) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]:
        if self._classifies:
            found = check_array(y, ensure_2d=False, dtype=None, input_name="y")
            if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
                raise ValueError(
                    "y: expected whole numbers of classes of shape (n_samples,), got "
                    f"{found.dtype} of shape {found.shape}"
                )
            return np.ascontiguousarray(found, dtype=np.int64), None
        found = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return None, np.ascontiguousarray(found.reshape(len(found), -1))

    # Predictions.

    def predictive_distribution(
        self, X: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means (n, C) and covariances (n, C, C) of the outputs, without noise of observations.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return self._posterior.outputs(self._points(X), threads(self.n_jobs))

    def __call__(
        self,
        X: ArrayLike,
        pred_type: str = "glm",
        link_approx: str = "probit",
        n_samples: int = 100,
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict as laplace-torch does: probabilities of classes, or mean and covariance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        pred_type : {"glm"}
            Predictions of the linearised network.
        link_approx : {"probit", "mean_field", "mc", "bridge"}
        n_samples : int
            For "mc".
        """
        if pred_type != "glm":
            raise ValueError(f'pred_type: expected "glm", got {pred_type!r}')
        if self._classifies:
            return self.predict_proba(X, link_approx=link_approx, n_samples=n_samples)
        return self.predictive_distribution(X)

    def predict_proba(
        self, X: ArrayLike, *, link_approx: str = "probit", n_samples: int = 100
    ) -> NDArray[np.float64]:
        """Probabilities of classes, of shape (n_samples, n_outputs).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        link_approx : {"probit", "mean_field", "mc", "bridge"}, default="probit"
            mean_field uses covariances of logits, mc draws logits, bridge is the Laplace bridge.
        n_samples : int, default=100
            For "mc".
        """
        check_is_fitted(self)
        if not self._classifies:
            raise ValueError("likelihood: predict_proba is for classification")
        kind = _link(link_approx, n_samples)
        return self._posterior.probabilities(
            self._points(X), kind, seed(self.random_state), threads(self.n_jobs)
        )

    def predict(
        self, X: ArrayLike, return_std: bool = False
    ) -> NDArray[Any] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Classes, or means of targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            For regression also standard deviations, of the function and the noise together.
        """
        check_is_fitted(self)
        if self._classifies:
            return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])
        mean, covariance = self.predictive_distribution(X)
        mean_out = mean[:, 0] if mean.shape[1] == 1 else mean
        if not return_std:
            return mean_out
        variance = np.diagonal(covariance, axis1=1, axis2=2) + (self._posterior.noise_variance or 0)
        std = np.sqrt(variance)
        return mean_out, std[:, 0] if mean.shape[1] == 1 else std

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Accuracy, or R² of the means.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        """
        found = np.asarray(self.predict(X))
        truth = np.asarray(y)
        if self._classifies:
            return float((found == truth).mean())
        residual = ((found.reshape(truth.shape) - truth) ** 2).sum()
        return float(1 - residual / ((truth - truth.mean(axis=0)) ** 2).sum())

    # Prior precision.

    def log_marginal_likelihood(
        self, prior_precision: float | None = None, sigma_noise: float | None = None
    ) -> float:
        """Laplace's approximation of log p(targets), in nats; sets what is given.

        Parameters
        ----------
        prior_precision : float, optional
        sigma_noise : float, optional
        """
        check_is_fitted(self)
        if prior_precision is not None:
            self._posterior.set_prior_precision(float(prior_precision))
        if sigma_noise is not None:
            if self._classifies:
                raise ValueError("sigma_noise: expected None for classification")
            self._posterior.set_scale(float(sigma_noise) ** 2)
        return self._posterior.log_marginal_likelihood()

    def optimize_prior_precision(
        self,
        method: str = "marglik",
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        criterion: str = "nll",
        temperature: bool = False,
        link_approx: str = "probit",
    ) -> dict[str, Any]:
        """Choose the prior precision.

        Parameters
        ----------
        method : {"marglik", "gridsearch"}, default="marglik"
            The largest marginal likelihood of the points of the fit (over the noise of real targets too
            where ``sigma_noise`` is None), or the best predictions at validation points.
        X_val, y_val : array-like
            Validation points and their targets.
        criterion : {"nll", "ece"}, default="nll"
        temperature : bool, default=False
            Choose the temperature too.
        link_approx : {"probit", "mean_field", "bridge"}, default="probit"

        Returns
        -------
        found : dict
            ``prior_precision`` and, for validation, the criterion ``before`` and ``after``.
        """
        check_is_fitted(self)
        if method == "marglik":
            noise = not self._classifies and self.sigma_noise is None
            self._posterior.maximize_marginal_likelihood(noise)
            return {"prior_precision": self._posterior.prior_precision}
        if method != "gridsearch":
            raise ValueError(f'method: expected "marglik" or "gridsearch", got {method!r}')
        if X_val is None or y_val is None:
            raise ValueError('X_val: expected validation points with method="gridsearch", got None')
        labels, values = self._targets(y_val)
        found = self._posterior.tune(
            self._points(X_val),
            labels,
            values,
            criterion,
            temperature,
            _link(link_approx, 100),
            threads(self.n_jobs),
        )
        return dict(json.loads(found))

    @property
    def prior_precision_(self) -> float:
        """The prior precision in use."""
        check_is_fitted(self)
        return self._posterior.prior_precision

    @property
    def temperature_(self) -> float:
        """The temperature in use."""
        check_is_fitted(self)
        return self._posterior.temperature

    @property
    def sigma_noise_(self) -> float | None:
        """Standard deviation of the noise in use; None for classification."""
        check_is_fitted(self)
        variance = self._posterior.noise_variance
        return None if variance is None else float(np.sqrt(variance))

    @property
    def effective_parameters_(self) -> float:
        """How many directions the data determine rather than the prior."""
        check_is_fitted(self)
        return self._posterior.effective_parameters()

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior with its network: one file, that ``neuralef predict`` reads too."""
        check_is_fitted(self)
        self._posterior.save(os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Laplace:
        """Read a posterior, whoever wrote it.

        The network is in the file; ``network`` says where it was. To fit it anew takes its own file.
        """
        posterior = _core.Laplace.load(os.fspath(path))
        info = json.loads(posterior.info())
        source = info["source"]
        _, parameters = _kernels.parts("source", source)
        estimator = cls(
            info["network"],
            info["likelihood"],
            # Eigenfunctions that were handed over are in the file, and nowhere else.
            source=None if "model" in parameters else source,
            prior_precision=posterior.prior_precision,
            temperature=posterior.temperature,
        )
        noise = posterior.noise_variance
        estimator.sigma_noise = 1.0 if noise is None else float(np.sqrt(noise))
        estimator._posterior = posterior
        estimator.n_features_in_ = info["n_features"]
        estimator._read()
        return estimator

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a posterior."""
        return hasattr(self, "_posterior")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "_posterior" in state:
            state = {**state, "_posterior": state["_posterior"].to_bytes()}
        return dict(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_posterior" in state:
            state = {**state, "_posterior": _core.Laplace.from_bytes(state["_posterior"])}
        super().__setstate__(state)


def _link(link_approx: str, n_samples: int) -> str:
    if link_approx == "mc":
        return _core.text_form("link_approx", "monte_carlo", {"samples": int(n_samples)})
    if link_approx not in _LINKS:
        raise ValueError(
            f"link_approx: expected probit, mean_field, mc or bridge, got {link_approx!r}"
        )
    return _LINKS[link_approx]
