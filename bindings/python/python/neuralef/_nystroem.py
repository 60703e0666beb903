"""The Nyström method."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from neuralef import _core, _kernels
from neuralef._base import CERTIFICATE, KERNEL, RUN, EigenFeatures
from neuralef._watch import Callback


class Nystroem(EigenFeatures):
    """Eigenpairs of the kernel as landmarks see it, κ(x, L)κ(L, L)⁻¹κ(L, x'), over all points.

    These are Nyström features of m landmarks L followed by an eigendecomposition of their second moments over
    all points, which is the strong form of the method: the best n_components of what m landmarks have, and
    eigenvalues whose errors are bounded. ``eigenproblem="landmarks"`` decomposes the Gram matrix of the
    landmarks instead (Williams & Seeger 2001), which is weaker.

    Like ``sklearn.kernel_approximation.Nystroem``, with these differences: there may be more landmarks than
    features; features are eigenfunctions times the roots of eigenvalues, in order, so that the first k of
    them are the best k (scikit-learn's are a rotation of them in no order); and eigenvalues come with their
    errors. With as many features as landmarks, inner products are the same for the same landmarks.

    Parameters
    ----------
    n_components : int, default=100
        Number of features.
    kernel, gamma, degree, coef0, lengthscale, kernel_params
        As in :class:`NeuralEF`. The default lengthscale of rbf and laplacian is the median distance,
        where scikit-learn takes ``gamma=1/n_features``.
    n_landmarks : int or "auto", default="auto"
        m, at least n_components. "auto" takes as many as leave less than 10⁻⁴ of the last eigenvalue, at most
        260 + 4·n_components (for a kernel that is a function, which is costly, also at most a sixth of the
        points or 2·n_components); for ``eigenproblem="landmarks"`` 1,000.
    selection : {"auto", "rpcholesky", "uniform", "kmeans"}, default="auto"
        How they are chosen: by randomly pivoted Cholesky (Chen, Epperly, Tropp & Webber 2022), uniformly, or
        by k-means++. "auto" is "rpcholesky", and "uniform" for ``eigenproblem="landmarks"``.
    eigenproblem : {"all_points", "landmarks"}, default="all_points"
        Whose eigenproblem is solved.
    standardize : bool, default=False
    validation_fraction : float, default=0.1
        Share of points held out for the certificate, 1,024 at most; 0 measures on the points of the fit. With
        all points the certificate is that of a fit without them, and they take part in the final solve.
    certificate : bool, default=True
        As in :class:`NeuralEF`.
    memory_budget : int, default=4096
        MiB; a few m × m matrices have to fit.
    random_state, n_jobs, verbose, callbacks
        As in :class:`NeuralEF`.

    Attributes
    ----------
    eigenvalues_, eigenvalue_errors_, residuals_, captured_trace_, certificate_, n_components_, kernel_
        As in :class:`NeuralEF`.
    n_landmarks_ : int
        Landmarks there are; those that add nothing to the others are left out.
    remainder_ : float or None
        ε, what the landmarks lack of E κ(x, x). It bounds the error of every eigenvalue, 0 ≤ μ − eigenvalues_
        ≤ ε with μ those of the Gram matrix of all points divided by n. None for
        ``eigenproblem="landmarks"``.
    """

    _method_name = "nystrom"
    _needs_kernel = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, 10**9, closed="left")],
        **KERNEL,
        "n_landmarks": [Interval(Integral, 1, 10**9, closed="left"), StrOptions({"auto"})],
        "selection": [StrOptions({"auto", "rpcholesky", "uniform", "kmeans"})],
        "eigenproblem": [StrOptions({"all_points", "landmarks"})],
        "standardize": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        **CERTIFICATE,
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
        n_landmarks: int | str = "auto",
        selection: str = "auto",
        eigenproblem: str = "all_points",
        standardize: bool = False,
        validation_fraction: float = 0.1,
        certificate: bool = True,
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
        self.eigenproblem = eigenproblem
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.certificate = certificate
        self.memory_budget = memory_budget
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    _names: ClassVar[dict[str, str]] = {"landmarks": "n_landmarks"}

    def _parameters_of(self, spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        known = super()._parameters_of(spec, arguments)
        known["n_landmarks"] = arguments.get("landmarks", "auto")
        known["selection"] = arguments.get("selection", "auto")
        return {**known, "eigenproblem": arguments.get("eigenproblem", "all_points")}

    def _method(self) -> dict[str, Any]:
        landmarks = self.n_landmarks
        if not isinstance(landmarks, str):
            landmarks = int(landmarks)
            if landmarks < self.n_components:
                raise ValueError(
                    f"n_landmarks: expected at least n_components={self.n_components}, got {landmarks}"
                )
        method = {
            "landmarks": landmarks,
            "selection": self.selection,
            "eigenproblem": self.eigenproblem,
        }
        return {
            "method": _core.text_form("method", "nystrom", method),
            "standardize": bool(self.standardize),
            "validation_fraction": float(self.validation_fraction),
        }

    def _read(self, *, warn: bool = False) -> None:
        super()._read(warn=warn)
        record = self._info["record"]
        self.n_landmarks_: int = record["landmarks"]
        self.remainder_: float | None = record.get("remainder")
