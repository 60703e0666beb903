"""Positive random features."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from neuralef import _core, _kernels
from neuralef._base import CERTIFICATE, KERNEL, RUN, KernelFeatures
from neuralef._watch import Callback


class PositiveFeatures(KernelFeatures):
    """Positive random features of softmax and rbf kernels (Choromanski et al. 2021).

    Features of exp(γ xᵀy) that are never negative, as linear attention needs them; with ``n_random`` they
    are combinations of such.

    Parameters
    ----------
    n_components : int, default=100
        Number of features.
    kernel : {"rbf", "softmax"} or text form, default="rbf"
    gamma, lengthscale, kernel_params
        As in :class:`NeuralEF`.
    n_random : int, default=None
        D random features that are reduced to the leading ``n_components`` eigenpairs of their kernel on
        the training points; None: ``n_components`` random features as they are.
    orthogonal : bool, default=True
        Blocks of orthogonal frequencies.
    hyperbolic : bool, default=True
        Each frequency with its negative.
    standardize : bool, default=False
    certificate : bool, default=True
        Measure captured_trace_ (NaN without), and eigenpairs as in :class:`NeuralEF`.
    memory_budget : int, default=4096
    random_state, n_jobs, verbose, callbacks
        As in :class:`NeuralEF`.

    Attributes
    ----------
    captured_trace_, certificate_, n_components_, kernel_, n_features_in_, feature_names_in_
        As in :class:`NeuralEF`; with ``n_random`` also eigenvalues_, eigenvalue_errors_, residuals_.
    """

    _method_name = "positive"
    _limited = False
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "kernel": [str],
        **{name: KERNEL[name] for name in ("gamma", "lengthscale", "kernel_params")},
        "n_random": [Interval(Integral, 1, None, closed="left"), None],
        "orthogonal": ["boolean"],
        "hyperbolic": ["boolean"],
        "standardize": ["boolean"],
        **CERTIFICATE,
        **RUN,
    }

    def __init__(
        self,
        n_components: int = 100,
        *,
        kernel: _kernels.Kernel = "rbf",
        gamma: float | None = None,
        lengthscale: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        n_random: int | None = None,
        orthogonal: bool = True,
        hyperbolic: bool = True,
        standardize: bool = False,
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
        self.lengthscale = lengthscale
        self.kernel_params = kernel_params
        self.n_random = n_random
        self.orthogonal = orthogonal
        self.hyperbolic = hyperbolic
        self.standardize = standardize
        self.certificate = certificate
        self.memory_budget = memory_budget
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    _names: ClassVar[dict[str, str]] = {"features": "n_random"}

    def _parameters_of(self, spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        known = super()._parameters_of(spec, arguments)
        known |= {name: arguments.get(name, True) for name in ("orthogonal", "hyperbolic")}
        return {**known, "n_random": arguments.get("features")}

    def _method(self) -> dict[str, Any]:
        method: dict[str, Any] = {}
        if self.n_random is not None:
            method["features"] = int(self.n_random)
        method |= {"orthogonal": bool(self.orthogonal), "hyperbolic": bool(self.hyperbolic)}
        return {
            "method": _core.text_form("method", "positive", method),
            "standardize": bool(self.standardize),
            "validation_fraction": 0.0,
        }
