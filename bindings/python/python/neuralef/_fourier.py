"""Random Fourier features."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from neuralef import _core, _kernels
from neuralef._base import CERTIFICATE, KERNEL, RUN, KernelFeatures
from neuralef._watch import Callback


class RandomFourierFeatures(KernelFeatures):
    """Random Fourier features of stationary kernels (Rahimi & Recht 2007).

    Like ``sklearn.kernel_approximation.RBFSampler``, for all stationary kernels, with orthogonal or
    quasi-random frequencies, and reduced to the leading eigenpairs where ``n_frequencies`` says so.

    Parameters
    ----------
    n_components : int, default=100
        Number of features.
    kernel : str, default="rbf"
        rbf, laplacian, matern, rational_quadratic, or sums and products of them in text form.
    gamma, lengthscale, kernel_params
        As in :class:`NeuralEF`.
    n_frequencies : int, default=None
        D random features that are reduced to the leading ``n_components`` eigenpairs of their kernel on
        the training points; None: ``n_components`` random features as they are.
    form : {"sin_cos", "cos"}, default="sin_cos"
        Cosine and sine of each frequency, or cosines with random phases.
    frequencies : {"auto", "orthogonal", "independent", "sobol", "halton"}, default="auto"
        How frequencies are drawn; auto is orthogonal where the kernel is rotation-invariant.
    standardize : bool, default=False
    certificate : bool, default=True
        Measure captured_trace_ (NaN without), and eigenpairs as in :class:`NeuralEF`.
    memory_budget : int, default=4096
    random_state, n_jobs, verbose, callbacks
        As in :class:`NeuralEF`.

    Attributes
    ----------
    captured_trace_, certificate_, n_components_, kernel_, n_features_in_, feature_names_in_
        As in :class:`NeuralEF`; with ``n_frequencies`` also eigenvalues_, eigenvalue_errors_, residuals_.
    """

    _method_name = "fourier"
    _limited = False
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "kernel": [str],
        **{name: KERNEL[name] for name in ("gamma", "lengthscale", "kernel_params")},
        "n_frequencies": [Interval(Integral, 1, None, closed="left"), None],
        "form": [StrOptions({"sin_cos", "cos"})],
        "frequencies": [StrOptions({"auto", "orthogonal", "independent", "sobol", "halton"})],
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
        n_frequencies: int | None = None,
        form: str = "sin_cos",
        frequencies: str = "auto",
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
        self.n_frequencies = n_frequencies
        self.form = form
        self.frequencies = frequencies
        self.standardize = standardize
        self.certificate = certificate
        self.memory_budget = memory_budget
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    _names: ClassVar[dict[str, str]] = {"features": "n_frequencies"}

    def _parameters_of(self, spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        known = super()._parameters_of(spec, arguments)
        known["form"] = arguments.get("form", "sin_cos")
        known["frequencies"] = arguments.get("frequencies", "auto")
        return {**known, "n_frequencies": arguments.get("features")}

    def _method(self) -> dict[str, Any]:
        method: dict[str, Any] = {}
        if self.n_frequencies is not None:
            method["features"] = int(self.n_frequencies)
        method |= {"form": self.form, "frequencies": self.frequencies}
        return {
            "method": _core.text_form("method", "fourier", method),
            "standardize": bool(self.standardize),
            "validation_fraction": 0.0,
        }
