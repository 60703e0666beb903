"""Kernels that are functions: what they are called with, and how often."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import pairwise

from neuralef import KernelPCA, NeuralEF, Nystroem
from neuralef._kernels import FunctionKernel


def tanimoto(x, y):
    both = x @ y
    return both / (x @ x + y @ y - both)


def counting(function, calls):
    """``function``, which leaves the shapes of its arguments in ``calls``."""

    def counted(x, y):
        calls.append((np.shape(x), np.shape(y)))
        return function(x, y)

    return counted


def families():
    """300 binary points, each one of six with some bits changed."""
    generator = np.random.default_rng(0)
    heads = generator.random((6, 64)) < 0.3
    changed = generator.random((300, 64)) < 0.05
    return (heads[generator.integers(6, size=300)] ^ changed).astype(np.float64)


def strangers():
    """300 of independent bits, whose Gram matrix has a flat spectrum."""
    return (np.random.default_rng(0).random((300, 64)) < 0.3).astype(np.float64)


ESTIMATORS = {
    "KernelPCA": (KernelPCA(5), 1.0),
    "KernelPCA, no certificate": (KernelPCA(5, certificate=False), 0.62),
    "Nystroem": (Nystroem(10, random_state=0), 0.5),
    "NeuralEF": (NeuralEF(5, max_iter=0, random_state=0), 0.7),
}
each = pytest.mark.parametrize(("estimator", "share"), ESTIMATORS.values(), ids=ESTIMATORS)


@each
@pytest.mark.parametrize("points", [families, strangers])
def test_functions_of_points_are_called_as_rarely_as_can_be(estimator, share, points):
    X, calls = points(), []
    model = clone(estimator).set_params(kernel=counting(tanimoto, calls)).fit(X)
    assert len(calls) <= share * len(X) ** 2
    assert model.n_components_ == model.n_components
    if points is families:
        K = np.array([[tanimoto(x, y) for y in X] for x in X])
        exact = np.linalg.eigvalsh(K)[:-6:-1] / len(K)
        np.testing.assert_allclose(model.eigenvalues_[:5], exact, rtol=0.15)


@each
def test_functions_of_matrices_get_blocks(estimator, share):
    X, calls = families(), []
    clone(estimator).set_params(kernel=counting(pairwise.rbf_kernel, calls)).fit(X)
    assert len(calls) < 100
    # Blocks on the diagonal are whole.
    values = sum(x[0] * y[0] for x, y in calls)
    assert values <= (share + 1) * len(X) ** 2


def test_every_pair_of_the_same_points_is_evaluated_once():
    X, calls = families()[:20], []
    kernel = FunctionKernel(counting(tanimoto, calls), None)
    kernel.probe(X)
    assert len(calls) <= 3
    calls.clear()
    once = kernel.gram(X, X)
    assert len(calls) == 20 * 21 // 2
    calls.clear()
    np.testing.assert_array_equal(kernel.gram(X, X.copy()), once)
    assert len(calls) == 20 * 20
    calls.clear()
    np.testing.assert_array_equal(kernel.diag(X), np.diagonal(once))
    assert len(calls) == 20
    assert kernel.gram(X[:0], X).shape == (0, 20)


def test_the_probe_calls_a_function_of_matrices_once():
    X, calls = families(), []
    kernel = FunctionKernel(counting(pairwise.rbf_kernel, calls), None)
    kernel.probe(X)
    assert len(calls) == 1
    assert kernel.of_matrices
    assert kernel.diag(X).shape == (300,)


def test_rows_do_not_depend_on_the_order_of_arguments():
    def rbf(x, y):
        # Rounds differently with x and y exchanged.
        return np.exp(-0.3 * ((x @ x - 2 * (x @ y)) + y @ y))

    X = np.random.default_rng(0).normal(size=(20, 3))
    model = KernelPCA(3, kernel=rbf).fit(X)
    whole = model.transform(X)
    np.testing.assert_array_equal(np.vstack([model.transform(x[None]) for x in X]), whole)
