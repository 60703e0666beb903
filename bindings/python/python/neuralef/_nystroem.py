"""The Nyström method."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from neuralef import _core, _kernels
from neuralef._base import KERNEL, RUN, EigenFeatures
from neuralef._watch import Callback


class Nystroem(EigenFeatures):
    """Eigenvectors of the Gram matrix of landmarks, extended by the kernel (Williams & Seeger 2001).

    Like ``sklearn.kernel_approximation.Nystroem``, with two differences: features are eigenfunctions times
    the roots of eigenvalues, in order, so that the first k of them are the best k (scikit-learn's are
    a rotation of them in no order), and eigenvalues come with their errors. Inner products are the same
    for the same landmarks.

    Parameters
    ----------
    n_components : int, default=100
        Number of features.
    kernel, gamma, degree, coef0, lengthscale, kernel_params
        As in :class:`NeuralEF`. The default lengthscale of rbf and laplacian is the median distance,
        where scikit-learn takes ``gamma=1/n_features``.
    n_landmarks : int, default=None
        Points whose Gram matrix is decomposed; None: as many as features.
    selection : {"uniform", "kmeans"}, default="uniform"
        How they are chosen.
    standardize : bool, default=False
    validation_fraction : float, default=0.0
        Share of points held out for the certificate; 0 measures on the points of the fit.
    memory_budget : int, default=4096
        MiB; the Gram matrix of landmarks has to fit.
    random_state, n_jobs, verbose, callbacks
        As in :class:`NeuralEF`.

    Attributes
    ----------
    eigenvalues_, eigenvalue_errors_, residuals_, captured_trace_, certificate_, n_components_, kernel_
        As in :class:`NeuralEF`.
    n_landmarks_ : int
        Landmarks there are.
    """

    _method_name = "nystrom"
    _needs_kernel = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, 10**9, closed="left")],
        **KERNEL,
        "n_landmarks": [Interval(Integral, 1, 10**9, closed="left"), None],
        "selection": [StrOptions({"uniform", "kmeans"})],
        "standardize": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        **RUN,
    }

    def __init__(
        self,
        n_components: int = 100,
        *,
        kernel: _kernels.Kernel = "rbf",
        gamma: float | None = None,
        degree: int = 3,
        coef0: float = 1,
        lengthscale: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        n_landmarks: int | None = None,
        selection: str = "uniform",
        standardize: bool = False,
        validation_fraction: float = 0.0,
        memory_budget: int = 4096,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int | bool = 0,
        callbacks: list[Callback] | None = None,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.lengthscale = lengthscale
        self.kernel_params = kernel_params
        self.n_landmarks = n_landmarks
        self.selection = selection
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.memory_budget = memory_budget
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    _names: ClassVar[dict[str, str]] = {"landmarks": "n_landmarks"}

    def _parameters_of(self, spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        known = super()._parameters_of(spec, arguments)
        known["n_landmarks"] = arguments["landmarks"]
        return {**known, "selection": arguments["selection"]}

    def _wanted(self, n_samples: int) -> int:
        return int(self.n_components)

    def _method(self, n_components: int) -> dict[str, Any]:
        if self.n_landmarks is not None and self.n_landmarks < self.n_components:
            raise ValueError(
                f"n_landmarks: expected at least n_components={self.n_components}, got "
                f"{self.n_landmarks}"
            )
        landmarks = max(int(self.n_landmarks or n_components), n_components)
        method = {"landmarks": landmarks, "selection": self.selection}
        return {
            "method": _core.text_form("method", "nystrom", method),
            "standardize": bool(self.standardize),
            "validation_fraction": float(self.validation_fraction),
        }

    def _read(self, *, warn: bool = False) -> None:
        super()._read(warn=warn)
        self.n_landmarks_: int = self._info["record"]["landmarks"]
