"""The estimator that learns eigenfunctions as neural networks."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions

from neuralef import _core, _kernels
from neuralef._base import CERTIFICATE, KERNEL, RUN, EigenFeatures
from neuralef._numbers import Single, single
from neuralef._watch import Callback


class NeuralEF(EigenFeatures):
    """The first eigenfunctions of a kernel, in order, learned as neural networks.

    Training maximises R_jj − Σ_{i<j} R_ij²/R_ii subject to E ψ_j² = 1 on mini-batches (Deng, Shi & Zhu,
    ICML 2022); a Rayleigh–Ritz readout in double precision then solves the eigenproblem within the
    span of the trained features. Where the kernel can be evaluated, the readout meets it through landmarks,
    as :class:`Nystroem` does. No N × N matrix is made, and a new point costs one forward pass.

    Parameters
    ----------
    n_components : int, default=10
        How many eigenfunctions.
    kernel : str or callable, default="rbf"
        A name of ``neuralef.catalogue()["kernels"]``, a text form such as
        ``"rbf(lengthscale=0.5) + 0.1*linear"``, ``"precomputed"`` (X is then a Gram matrix and the networks
        see its rows), or a function of two matrices (n × d, m × d → n × m) or two points.
        ``fit(X, features=…)`` takes samples of a kernel instead.
    gamma, degree, coef0 : float, int, float
        Of the kernels that have them, as in scikit-learn. ``gamma=None`` goes by lengthscale for rbf and
        laplacian, and is 1/n_features for polynomial and sigmoid.
    lengthscale : float or {"median", "scale"}, default=None
        Of rbf, laplacian, matern, rational_quadratic and periodic. None is the kernel's default, the
        median of distances between points for all but periodic.
    kernel_params : dict, default=None
        Further parameters of the kernel, such as ``{"nu": 2.5}``, or of the function.
    network : str, default="auto"
        One of ``neuralef.catalogue()["networks"]`` with its parameters. "auto" is
        ``mlp(hidden=[64, 64], activation=sin_cos)`` for up to 12 functions, and for more one trunk,
        ``shared_mlp(hidden=[128, w], activation=sin_cos)`` with w = max(512, 2·n_components).
    method : {"neuralef", "best"}, default="neuralef"
        "best" keeps the landmarks' own eigenfunctions, those of :class:`Nystroem`, where their residual on
        held-out points is smaller; method_ says what was kept. For kernels that are not known at new points
        (precomputed values, ``features``, ``gram``) it is "neuralef".
    objective : str, default="neuralef"
        One of ``neuralef.catalogue()["objectives"]``.
    optimizer : str, default="adam"
        One of ``neuralef.catalogue()["optimizers"]``, with its parameters but for the rate.
    learning_rate : float, default=0.001
        Of the optimizer; 0.003 suits "soap", 0.01 "sgd".
    schedule : str, default="cosine"
        How the learning rate changes over the run.
    batch_size : int, default=256
        Points in a batch; all of fewer training points.
    max_iter : int or "auto", default="auto"
        Training steps. "auto" trains while held-out residuals improve, and not at all where untrained
        features with the readout are good enough.
    tol : float, default=0.1
        "auto" stops when two rounds in a row improve the held-out residual by less than this share.
    readout : {"galerkin", "ritz", "none"}, default="galerkin"
        How eigenfunctions are read out of the networks: from all last hidden layers, from the outputs,
        or as they are.
    readout_points : int, default=16384
        The most points that the readout streams; its cost grows with the square of them.
    outputs : int, default=1
        C, for matrix-valued kernels given by ``features`` or ``gram`` with C rows for each point.
    standardize : bool, default=False
        Scale every column to mean 0 and variance 1 first.
    validation_fraction : float, default=0.1
        Share of points held out for choices and for the certificate, 1,024 at most. Where the readout goes
        through landmarks, they take part in a last one, once everything is chosen and measured.
    certificate : bool, default=True
        Measure the fit on held-out points. Without it eigenvalue_errors_ and residuals_ are NaN, not
        measured, and certificate_ has no pairs.
    memory_budget : int, default=768
        MiB.
    warm_start : bool, default=False
        Start from the networks of the last fit.
    random_state : int, RandomState or None, default=None
        The same number, data and parameters give the same bits, for any n_jobs.
    n_jobs : int, default=None
        Threads; None takes all cores, or what ``OMP_NUM_THREADS`` says.
    verbose : int, default=0
        1 shows a progress bar.
    callbacks : list of callables, default=None
        Each is called with a dict for every event: ``{"event": "step", "step": …, "loss": …}``. What one
        of them raises ends the fit and is raised by ``fit``.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (n_components_,)
        μ of the integral operator (eigenvalues of the Gram matrix divided by n), descending.
    eigenvalue_errors_ : ndarray of shape (n_components_,)
        Their standard errors from the finite sample. NaN with ``certificate=False``.
    residuals_ : ndarray of shape (n_components_,)
        ‖Tψ − μψ‖/μ on held-out points: the error of the approximation. NaN with
        ``certificate=False``.
    captured_trace_ : float
        Share of the kernel's trace.
    certificate_ : dict
        All of the certificate.
    n_components_ : int
        Usable components, at most n_components.
    n_iter_ : int
        Training steps taken; 1 where there was none, for the readout.
    n_steps_ : int
        Training steps behind the networks that were kept; 0 for untrained ones, and for landmarks.
    method_ : {"neuralef", "nystrom"}
        What was kept: networks, or landmarks.
    beside_ : dict or None
        Networks beside landmarks, for kernels that can be evaluated: ``landmarks`` (their number),
        ``residual`` and ``nystrom_residual`` (root mean square over pairs of r/√(1 + r²), r = ‖Tψ − μψ‖/μ, on
        held-out points that choices were made by), ``multiplications`` and ``nystrom_multiplications`` for
        the features of a point, values of the kernel not counted. None where landmarks took no part.
    kernel_ : str
        The kernel with every parameter a number.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from neuralef import NeuralEF
    >>> X, _ = make_moons(500, noise=0.1, random_state=0)
    >>> model = NeuralEF(n_components=4, kernel="rbf", lengthscale=0.5, random_state=0).fit(X)
    >>> model.transform(X[:3]).shape
    (3, 4)
    """

    _method_name = "neuralef"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        **KERNEL,
        "network": [str],
        "method": [StrOptions({"neuralef", "best"})],
        "objective": [str],
        "optimizer": [str],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [str],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "max_iter": [Interval(Integral, 0, 2**53, closed="left"), StrOptions({"auto"})],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "readout": [StrOptions({"galerkin", "ritz", "none"})],
        "readout_points": [Interval(Integral, 2, None, closed="left")],
        "outputs": [Interval(Integral, 1, None, closed="left")],
        "standardize": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        **CERTIFICATE,
        "warm_start": ["boolean"],
        **RUN,
    }

    def __init__(
        self,
        n_components: int = 10,
        *,
        kernel: _kernels.Kernel = "rbf",
        gamma: float | None = None,
        degree: int = 3,
        coef0: float = 1,
        lengthscale: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        network: str = "auto",
        method: str = "neuralef",
        objective: str = "neuralef",
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        batch_size: int = 256,
        max_iter: int | str = "auto",
        tol: float = 0.1,
        readout: str = "galerkin",
        readout_points: int = 16_384,
        outputs: int = 1,
        standardize: bool = False,
        validation_fraction: float = 0.1,
        certificate: bool = True,
        memory_budget: int = 768,
        warm_start: bool = False,
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
        self.network = network
        self.method = method
        self.objective = objective
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.readout = readout
        self.readout_points = readout_points
        self.outputs = outputs
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.certificate = certificate
        self.memory_budget = memory_budget
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    _names: ClassVar[dict[str, str]] = {
        "steps": "max_iter",
        "tolerance": "tol",
        "lr": "learning_rate",
    }

    @classmethod
    def _reads(cls, method: str, record: dict[str, Any]) -> bool:
        # Landmarks that were kept say what they were beside.
        kept = method == "nystrom" and record.get("beside") is not None
        return kept or super()._reads(method, record)

    def _parameters_of(self, spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        known = super()._parameters_of(spec, arguments)
        # Where networks were kept, what else was tried makes no difference.
        name, _ = _kernels.parts("method", spec["method"])
        known["method"] = "neuralef" if name == "neuralef" else "best"
        same = (
            "network",
            "objective",
            "schedule",
            "batch_size",
            "readout",
            "readout_points",
            "outputs",
        )
        known |= {name: spec[name] for name in same}
        name, rest = _kernels.parts("optimizer", spec["optimizer"])
        known["learning_rate"] = float(rest.pop("lr"))
        known["optimizer"] = _core.text_form("optimizer", name, rest)
        return {**known, "max_iter": spec["steps"], "tol": spec["tolerance"]}

    def _method(self) -> dict[str, Any]:
        name, rest = _kernels.parts("optimizer", self.optimizer)
        if "lr" in rest:
            raise ValueError(
                f"optimizer: expected no lr, which is learning_rate, got {self.optimizer!r}"
            )
        rest["lr"] = float(self.learning_rate)
        return {
            "method": self.method,
            "network": self.network,
            "objective": self.objective,
            "optimizer": _core.text_form("optimizer", name, rest),
            "schedule": self.schedule,
            "steps": self.max_iter if isinstance(self.max_iter, str) else int(self.max_iter),
            "tolerance": float(self.tol),
            "batch_size": int(self.batch_size),
            "readout": self.readout,
            "readout_points": int(self.readout_points),
            "outputs": int(self.outputs),
            "standardize": bool(self.standardize),
            "validation_fraction": float(self.validation_fraction),
        }

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        features: ArrayLike | str | os.PathLike[str] | None = None,
        gram: ArrayLike | None = None,
    ) -> NeuralEF:
        """Learn the eigenfunctions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points that the networks see; a Gram matrix with ``kernel="precomputed"``.
        y : ignored
        features : array-like of shape (n_samples * outputs, S), default=None
            Samples Φ of a kernel, one row for each point (and output): κ ≈ ΦΦᵀ/S. Outputs of S random
            networks give their NN-GP kernel; see ``neuralef.torch``. ``kernel`` is then not used. The path
            of a ``.npy`` file is read piece by piece, and need not fit in memory.
        gram : array-like of shape (n_samples * outputs, n_samples * outputs), default=None
            The kernel's values, while the networks see X. ``kernel`` is then not used.

        Returns
        -------
        self : NeuralEF
        """
        if features is not None and gram is not None:
            raise ValueError("features: expected None where gram is given, got both")
        # Landmarks have no networks to start from.
        kept = getattr(self, "method_", None) == "neuralef"
        start = self._model if self.warm_start and kept else None
        path = os.fspath(features) if isinstance(features, (str, os.PathLike)) else None
        self._fit(
            X,
            gram=_matrix(gram, "gram"),
            features=None if path else _matrix(features, "features"),
            path=path,
            start=start,
        )
        return self

    def _expected(self, message: str) -> bool:
        return message.startswith("batch_size reduced") or super()._expected(message)

    def _read(self, *, warn: bool = False) -> None:
        super()._read(warn=warn)
        record, spec = self._info["record"], self._info["spec"]
        self.method_, _ = _kernels.parts("method", spec["method"])
        self.beside_: dict[str, Any] | None = record.get("beside")
        looks = [step for step, _ in record["auto_checks"]]
        self.n_steps_: int = record["steps"] if self.method_ == "neuralef" else 0
        self.n_iter_: int = max([record["steps"], *looks, 1])
        self.network_: str = spec["network"]


def _matrix(values: Any, name: str) -> Single | None:
    if values is None:
        return None
    found: NDArray[Any] = check_array(values, dtype=[np.float64, np.float32], input_name=name)
    return single(found, name)
