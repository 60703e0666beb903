"""Exact eigenfunctions."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from neuralef import _core, _kernels
from neuralef._base import CERTIFICATE, KERNEL, RUN, EigenFeatures
from neuralef._watch import Callback


class KernelPCA(EigenFeatures):
    """Exact eigenvectors of the Gram matrix of all points, extended to new ones by the kernel.

    The Gram matrix is not centred: these are the eigenfunctions of κ itself, where
    ``sklearn.decomposition.KernelPCA`` first subtracts the means of features. Eigenvalues are those of the
    integral operator, the Gram matrix's divided by n.

    Parameters
    ----------
    n_components : int, default=None
        Number of components; None: all that are not zero to rounding.
    kernel, gamma, degree, coef0, lengthscale, kernel_params
        As in :class:`NeuralEF`, with "linear" the default as in scikit-learn.
    eigen_solver : {"auto", "dense", "matrix_free"}, default="auto"
        dense stores the Gram matrix, matrix_free evaluates it anew for every product, auto is dense
        within the memory budget.
    standardize : bool, default=False
    validation_fraction : float, default=0.0
        Share of points held out for the certificate, 1,024 at most; 0 uses all points and measures on
        them.
    certificate : bool, default=True
        As in :class:`NeuralEF`.
    memory_budget : int, default=4096
        MiB.
    random_state, n_jobs, verbose, callbacks
        As in :class:`NeuralEF`.

    Attributes
    ----------
    eigenvalues_, eigenvalue_errors_, residuals_, captured_trace_, certificate_, n_components_, kernel_
        As in :class:`NeuralEF`.
    """

    _method_name = "kernel_pca"
    _needs_kernel = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        **KERNEL,
        "eigen_solver": [StrOptions({"auto", "dense", "matrix_free"})],
        "standardize": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        **CERTIFICATE,
        **RUN,
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        kernel: _kernels.Kernel = "linear",
        gamma: float | None = None,
        degree: int = 3,
        coef0: float = 1,
        lengthscale: float | str | None = None,
        kernel_params: dict[str, Any] | None = None,
        eigen_solver: str = "auto",
        standardize: bool = False,
        validation_fraction: float = 0.0,
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
        self.eigen_solver = eigen_solver
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.certificate = certificate
        self.memory_budget = memory_budget
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    def _parameters_of(self, spec: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        solver = arguments.get("solver", "auto")
        return {**super()._parameters_of(spec, arguments), "eigen_solver": solver}

    def _method(self) -> dict[str, Any]:
        return {
            "method": _core.text_form("method", "kernel_pca", {"solver": self.eigen_solver}),
            "standardize": bool(self.standardize),
            "validation_fraction": float(self.validation_fraction),
        }

    def _expected(self, message: str) -> bool:
        few = self.n_components is None and message.startswith("only ")
        return few or super()._expected(message)
