"""Eigenfunctions of kernels as neural networks, with scikit-learn manners.

A kernel κ with data distribution q has eigenfunctions ψ_j and eigenvalues μ_j:
κ(x, x') = Σ_j μ_j ψ_j(x) ψ_j(x') (Mercer). The estimators here find the first of them, or random
features of the kernel, and transform points to features φ_j = √μ_j ψ_j whose inner products are the
kernel:

- :class:`NeuralEF` learns them as neural networks from mini-batches (Deng, Shi & Zhu, ICML 2022),
- :class:`Nystroem` finds those of the kernel as some landmarks see it, over all points,
- :class:`KernelPCA` extends the eigenvectors of all points' Gram matrix,
- :class:`RandomFourierFeatures` and :class:`PositiveFeatures` draw random features,
- :class:`Laplace` gives a trained network's predictions their uncertainty,
- :class:`ScoreEstimator` estimates ∇log q from samples of q.

Every fitted object saves to and loads from one model file, which the ``neuralef`` command line and the
Rust crate read too.
"""

from neuralef._core import __version__
from neuralef._fourier import RandomFourierFeatures
from neuralef._kernel_pca import KernelPCA
from neuralef._kernels import catalogue, kernel_matrix
from neuralef._laplace import Laplace
from neuralef._neuralef import NeuralEF
from neuralef._nystroem import Nystroem
from neuralef._positive import PositiveFeatures
from neuralef._score import ScoreEstimator

__all__ = [
    "KernelPCA",
    "Laplace",
    "NeuralEF",
    "Nystroem",
    "PositiveFeatures",
    "RandomFourierFeatures",
    "ScoreEstimator",
    "__version__",
    "catalogue",
    "kernel_matrix",
]
