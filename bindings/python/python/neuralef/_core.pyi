from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Laplace",
    "Model",
    "ParameterError",
    "SpectralStein",
    "__version__",
    "catalogue",
    "fit",
    "fit_laplace",
    "kernel_matrix",
    "parse_text_form",
    "text_form",
    "training_points",
]

__version__: str

class ParameterError(ValueError):
    kind: str | None
    field: str | None
    message: str
    parameter: str | None
    expected: str | None
    got: str | None
    what: str | None
    text: str | None
    column: int | None

@final
class Model:
    @staticmethod
    def load(path: str, kernel: Any = None) -> Model: ...
    @staticmethod
    def from_bytes(bytes: bytes, kernel: Any = None) -> Model: ...
    @staticmethod
    def width(path: str) -> int: ...
    def save(self, path: str) -> None: ...
    def to_bytes(self) -> bytes: ...
    def info(self) -> str: ...
    @property
    def n_components(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def has_eigenpairs(self) -> bool: ...
    def eigenvalues(self) -> NDArray[np.float64]: ...
    def transform(self, x: NDArray[np.float32], n_jobs: int) -> NDArray[np.float32]: ...
    def eigenfunctions(self, x: NDArray[np.float32], n_jobs: int) -> NDArray[np.float64]: ...
    def gram_error(self, x: NDArray[np.float32], seed: int, n_jobs: int) -> float | None: ...

@final
class Laplace:
    @staticmethod
    def load(path: str) -> Laplace: ...
    @staticmethod
    def from_bytes(bytes: bytes) -> Laplace: ...
    def save(self, path: str) -> None: ...
    def to_bytes(self) -> bytes: ...
    def info(self) -> str: ...
    @property
    def prior_precision(self) -> float: ...
    def set_prior_precision(self, value: float) -> None: ...
    @property
    def temperature(self) -> float: ...
    @property
    def noise_variance(self) -> float | None: ...
    def set_scale(self, value: float) -> None: ...
    def log_marginal_likelihood(self) -> float: ...
    def effective_parameters(self) -> float: ...
    def maximize_marginal_likelihood(self, noise: bool) -> None: ...
    def outputs(
        self, x: NDArray[np.float32], n_jobs: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
    def probabilities(
        self, x: NDArray[np.float32], kind: str, seed: int, n_jobs: int
    ) -> NDArray[np.float64]: ...
    def tune(
        self,
        x: NDArray[np.float32],
        labels: NDArray[np.int64] | None,
        values: NDArray[np.float64] | None,
        criterion: str,
        temperature: bool,
        kind: str,
        n_jobs: int,
    ) -> str: ...

@final
class SpectralStein:
    @staticmethod
    def nonparametric(
        kernel: str,
        x: NDArray[np.float32],
        terms: str,
        components: int,
        seed: int,
        n_jobs: int,
    ) -> SpectralStein: ...
    @staticmethod
    def parametric(
        model: Model, x: NDArray[np.float32], terms: str, seed: int, n_jobs: int
    ) -> SpectralStein: ...
    @staticmethod
    def load(path: str) -> SpectralStein: ...
    @staticmethod
    def from_bytes(bytes: bytes) -> SpectralStein: ...
    def save(self, path: str) -> None: ...
    def to_bytes(self) -> bytes: ...
    def record(self) -> str: ...
    @property
    def kernel(self) -> str | None: ...
    def coefficients(self) -> NDArray[np.float64]: ...
    def score(self, x: NDArray[np.float32], n_jobs: int) -> NDArray[np.float64]: ...
    def hyvarinen_loss(self, x: NDArray[np.float32], n_jobs: int) -> float: ...

def fit(
    spec_json: str,
    x: NDArray[np.float32],
    *,
    kernel: Any = None,
    gram: NDArray[np.float32] | None = None,
    features: NDArray[np.float32] | None = None,
    start: Model | None = None,
    callback: Callable[[dict[str, Any]], object] | None = None,
    n_jobs: int = 0,
) -> tuple[Model, str]: ...
def fit_laplace(
    path: str,
    architecture: str | None,
    source: str,
    x: NDArray[np.float32],
    *,
    labels: NDArray[np.int64] | None = None,
    values: NDArray[np.float64] | None = None,
    prior_precision: float | None = None,
    noise_variance: float | None = None,
    temperature: float = 1.0,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    seed: int = 0,
    memory_budget: int = 4096,
    callback: Callable[[dict[str, Any]], object] | None = None,
    n_jobs: int = 0,
) -> Laplace: ...
def parse_text_form(field: str, text: str) -> tuple[str, dict[str, Any]] | None: ...
def text_form(field: str, text: str, parameters: dict[str, Any]) -> str: ...
def training_points(json: str, n: int) -> int: ...
def catalogue() -> str: ...
def kernel_matrix(
    kernel: str, x: NDArray[np.float32], y: NDArray[np.float32], n_jobs: int
) -> NDArray[np.float64]: ...
