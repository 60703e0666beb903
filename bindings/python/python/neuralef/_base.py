"""What all estimators of kernel features share."""

from __future__ import annotations

import json
import os
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from neuralef import _core, _kernels
from neuralef._errors import naming
from neuralef._numbers import Single, seed, single, threads
from neuralef._watch import Callback, Watch

if TYPE_CHECKING:
    from typing_extensions import Self

#: Constraints of parameters that most estimators have.
KERNEL: dict[str, list[Any]] = {
    "kernel": [str, callable],
    "gamma": [Interval(Real, 0, None, closed="neither"), None],
    "degree": [Interval(Integral, 1, 64, closed="both")],
    "coef0": [Interval(Real, None, None, closed="neither")],
    "lengthscale": [
        Interval(Real, 0, None, closed="neither"),
        StrOptions({"median", "scale"}),
        None,
    ],
    "kernel_params": [dict, None],
}
CERTIFICATE: dict[str, list[Any]] = {"certificate": ["boolean"]}
RUN: dict[str, list[Any]] = {
    "memory_budget": [Interval(Integral, 1, 2**40, closed="left")],
    "random_state": ["random_state"],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
    "callbacks": [list, tuple, None],
}


def thawed(estimator: Any) -> Any:
    """Give what is in a FrozenEstimator, fitted, or the argument itself."""
    fitted = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if isinstance(fitted, KernelFeatures):
        check_is_fitted(fitted)
    return fitted


class KernelFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A map φ with φ(x)ᵀφ(x') ≈ κ(x, x'), fitted by the Rust core."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    #: Method of the core that needs the kernel at new points.
    _needs_kernel: ClassVar[bool] = False

    kernel: _kernels.Kernel
    kernel_params: dict[str, Any] | None
    certificate: bool
    n_jobs: int | None
    random_state: Any
    verbose: int | bool
    callbacks: list[Callback] | None
    n_features_in_: int

    # What subclasses say.

    def _method(self) -> dict[str, Any]:
        """Fields of the core's spec that are this estimator's."""
        raise NotImplementedError

    #: Whether there are at most as many components as points to learn from.
    _limited: ClassVar[bool] = True

    def __sklearn_tags__(self) -> Any:
        """Say to scikit-learn what goes in and out."""
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # Fitting.

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit to X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points; a Gram matrix with ``kernel="precomputed"``. Random features only take what depends on
            data from them, such as a median lengthscale.
        y : ignored

        Returns
        -------
        self : the estimator
        """
        self._fit(X)
        return self

    def _kernel_text(self) -> str:
        assert isinstance(self.kernel, str)
        own = {name: getattr(self, name) for name in _kernels.SHARED if hasattr(self, name)}
        return _kernels.text(self.kernel, own, self.kernel_params)

    def _fit(
        self,
        X: ArrayLike,
        *,
        gram: Single | None = None,
        features: Single | None = None,
        path: str | None = None,
        start: _core.Model | None = None,
    ) -> None:
        """Fit the core's model to validated points."""
        x = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=1)
        n = x.shape[0]
        if n < 4:
            raise ValueError(f"X: expected at least 4 samples, got n_samples={n}")
        points = single(x, warn=True)
        # What the kernel is, if it is not in text form: a function, or N for precomputed values.
        given: _kernels.FunctionKernel | int | None = None
        fields: dict[str, Any] = {}
        if path is not None:
            fields["features"] = path
        elif features is None and gram is None:
            points, gram, given, fields = self._kernel_of(points)
        fields |= self._method()
        fields |= {"seed": seed(self.random_state), "memory_budget": int(self.memory_budget)}
        fields["certificate"] = bool(self.certificate)
        outputs = int(fields.get("outputs", 1))
        with naming(self._names):
            available = _core.training_points(json.dumps(fields), n) * outputs
        wanted = available if self.n_components is None else int(self.n_components)
        if self._limited and wanted > available:
            warnings.warn(
                f"n_components={wanted} is more than the {available} samples that are learned "
                f"from; n_components_ is {available}",
                stacklevel=3,
            )
            wanted = available
        fields["n_components"] = wanted
        with naming(self._names), Watch(self.verbose, self.callbacks) as callback:
            model, timings = _core.fit(
                json.dumps(fields),
                points,
                kernel=given,
                gram=gram,
                features=features,
                start=start,
                callback=callback,
                n_jobs=threads(self.n_jobs),
            )
        # Only now: a fit that failed leaves the last one as it was.
        self._model, self._given = model, given
        self._read(warn=True)
        self.fit_seconds_: float = json.loads(timings)["total_seconds"]

    def _kernel_of(
        self, points: Single
    ) -> tuple[Single, Single | None, _kernels.FunctionKernel | int | None, dict[str, Any]]:
        """Give points, Gram matrix, kernel at hand and fields of the core's spec for `kernel`."""
        if callable(self.kernel):
            for name in ("gamma", "lengthscale"):
                if getattr(self, name, None) is not None:
                    raise ValueError(
                        f"{name}: expected None where kernel is a function (kernel_params are for it), "
                        f"got {getattr(self, name)!r}"
                    )
            function = _kernels.FunctionKernel(self.kernel, self.kernel_params)
            function.probe(points.astype(np.float64))
            return points, None, function, {}
        if self.kernel != "precomputed":
            return points, None, None, {"kernel": self._kernel_text()}
        n = len(points)
        if points.shape[1] != n:
            raise ValueError(
                f'X: expected a square Gram matrix with kernel="precomputed", got shape {points.shape}'
            )
        if getattr(self, "standardize", False):
            raise ValueError('standardize: expected False with kernel="precomputed", got True')
        if self._needs_kernel:
            return points, None, n, {}
        return points, points, None, {}

    def _read(self, *, warn: bool = False) -> None:
        """Take what is known about the model into attributes."""
        info = json.loads(self._model.info())
        if warn:
            for message in info["warnings"]:
                if not self._expected(message):
                    warnings.warn(message, stacklevel=4)
        certificate = info["certificate"]
        self.n_components_: int = self._model.n_components
        self.kernel_: str | None = info["kernel"]
        self.certificate_: dict[str, Any] = certificate
        # Eigenvalues have their share without being measured.
        known = self._model.has_eigenpairs or info["spec"].get("certificate", True)
        self.captured_trace_: float = certificate["captured_trace"] if known else np.nan
        if self._model.has_eigenpairs:
            self.eigenvalues_: NDArray[np.float64] = self._model.eigenvalues()
            self.eigenvalue_errors_ = self._measured("standard_error")
            self.residuals_ = self._measured("residual")
        self._info = info

    def _measured(self, name: str) -> NDArray[np.float64]:
        """Give a figure of every eigenpair, NaN where it was not measured."""
        pairs = self.certificate_["pairs"]
        figures = [pair[name] for pair in pairs] if pairs else [np.nan] * self.n_components_
        return np.array(figures, dtype=np.float64)

    def _expected(self, message: str) -> bool:
        """Whether a warning of the core is nothing new to a user of this estimator."""
        # Which is what validation_fraction and certificate say.
        unmeasured = not self.certificate and message.startswith("the certificate is coarse")
        return unmeasured or message.startswith("no points are held out")

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    # What a fitted one does.

    def _points(self, X: ArrayLike) -> tuple[Single, np.dtype[Any]]:
        check_is_fitted(self)
        x = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return single(x), x.dtype

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Features φ(X), whose inner products are the kernel.

        The features of a point do not depend on the others, to the last bit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points; κ(X, training points) with ``kernel="precomputed"``.

        Returns
        -------
        features : ndarray of shape (n_samples, n_components_)
            Of the same dtype as X. (n_samples, C, n_components_) for a kernel of C outputs, which
            ``set_output`` has no frames for.
        """
        points, dtype = self._points(X)
        return self._shaped(self._model.transform(points, threads(self.n_jobs))).astype(
            dtype, copy=False
        )

    def _shaped(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows for (point, output) as points × outputs × components, where there are several outputs."""
        c = self._model.outputs
        return rows if c == 1 else rows.reshape(-1, c, rows.shape[1])

    def kernel_approx(self, X: ArrayLike, Y: ArrayLike | None = None) -> NDArray[Any]:
        """φ(X)φ(Y)ᵀ, the kernel as the features have it.

        Parameters
        ----------
        X, Y : array-like of shape (n, n_features) and (m, n_features)
            Y is X by default.

        Returns
        -------
        K : ndarray of shape (n, m)
            (n, C, m, C) for a kernel of C outputs.
        """
        first = self.transform(X)
        second = first if Y is None else self.transform(Y)
        return np.tensordot(first, second, axes=(-1, -1))

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Share of the kernel on held-out points that the features reproduce.

        1 − ‖φφᵀ − K‖²/‖K‖² (Frobenius) over the pairs of one half of the points with the other, at most
        1,024 on either side. 1 is exact, and larger features do not help: what is too large counts as
        an error too.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least two points, not those of the fit.
        y : ignored

        Returns
        -------
        share : float
        """
        points, _ = self._points(X)
        if isinstance(self._given, int):
            raise ValueError('kernel: expected one that is known at new points, got "precomputed"')
        error = self._model.gram_error(points, 0, threads(self.n_jobs))
        if error is None:
            raise ValueError(f"X: expected at least 2 samples, got n_samples={len(points)}")
        return 1.0 - float(error) ** 2

    # Files.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, which the command line and the Rust crate read too.

        The file is written whole or not at all. Parameters of the estimator that say how to fit are in
        it as the core has them; pickle keeps the Python object.
        """
        check_is_fitted(self)
        self._model.save(os.fspath(path))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        kernel: _kernels.Kernel | None = None,
        kernel_params: dict[str, Any] | None = None,
    ) -> KernelFeatures:
        """Read a model file, whoever wrote it.

        Parameters
        ----------
        path : path-like
            The file.
        kernel : callable or "precomputed", optional
            What was fitted, for files that do not hold the kernel that they need.
        kernel_params : dict, optional
            Of the function.

        Returns
        -------
        estimator : a fitted estimator
            With the parameters of the fit. Names of columns are not in the file.
        """
        name = os.fspath(path)
        given: _kernels.FunctionKernel | int | None = None
        if callable(kernel):
            given = _kernels.FunctionKernel(kernel, kernel_params)
            # Any points tell a function of points from one of matrices.
            given.probe(np.random.default_rng(0).random((4, _core.Model.width(name))))
        elif kernel == "precomputed":
            # Files count the row numbers of training points as a column.
            given = _core.Model.width(name) - 1
        elif kernel is not None:
            raise ValueError(
                f'kernel: expected a function or "precomputed" (names are in the file), got {kernel!r}'
            )
        model = _core.Model.load(name, given)
        info = json.loads(model.info())
        spec = info["spec"]
        method, arguments = _kernels.parts("method", spec["method"])
        if not cls._reads(method, info["record"]):
            raise ValueError(
                f"path: expected a model of method {cls._method_name!r} for {cls.__name__}, got "
                f"{method!r}"
            )
        estimator = cls()
        estimator.set_params(**estimator._parameters_of(spec, arguments))
        if kernel is not None:
            estimator.set_params(kernel=kernel, kernel_params=kernel_params)
        estimator._model, estimator._given = model, given
        estimator.n_features_in_ = info["n_features"]
        estimator._read()
        return estimator

    def _parameters_of(self, spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """Parameters of the estimator from the core's spec and its method's arguments."""
        known = {"n_components": spec["n_components"], "random_state": spec["seed"]}
        known["memory_budget"] = spec["memory_budget"]
        known["certificate"] = spec.get("certificate", True)
        if spec["kernel"] is not None:
            known["kernel"] = spec["kernel"]
        own = self.get_params(deep=False)
        for name in ("standardize", "validation_fraction"):
            if name in own:
                known[name] = spec[name]
        return known

    #: The core's names of parameters, where they are others.
    _names: ClassVar[dict[str, str]] = {}

    _method_name: ClassVar[str] = ""

    @classmethod
    def _reads(cls, method: str, record: dict[str, Any]) -> bool:
        """Whether a model of ``method``, whose fit went as ``record`` says, is one of this class."""
        return method == cls._method_name

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model."""
        return hasattr(self, "_model")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "_model" in state:
            state = {**state, "_model": state["_model"].to_bytes()}
        return dict(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_model" in state:
            model = _core.Model.from_bytes(state["_model"], state["_given"])
            state = {**state, "_model": model}
        super().__setstate__(state)


class EigenFeatures(KernelFeatures):
    """Features that are eigenfunctions times the roots of eigenvalues."""

    def eigenfunctions(self, X: ArrayLike) -> NDArray[Any]:
        """Eigenfunctions ψ(X), orthonormal under the distribution of the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        psi : ndarray of shape (n_samples, n_components_)
        """
        points, dtype = self._points(X)
        found = self._model.eigenfunctions(points, threads(self.n_jobs))
        return self._shaped(found).astype(dtype, copy=False)
