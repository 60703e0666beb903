"""The contenders of `fits.py`: each fit returns an object with `transform` and `eigenvalues`.

Features of a contender are φ(x) = κ(x, L)W for landmarks L and weights W (k columns), whose inner
products are the kernel's best approximation of rank k within the landmarks' span. With K_LL = UΛUᵀ,
Φ = K_nL UΛ^{-1/2} and ΦᵀΦ/n = ZMZᵀ over all n points, W = UΛ^{-1/2}Z and the eigenvalues are M.
"""

import importlib

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.sparse.linalg import ArpackError, eigsh
from sklearn.decomposition import KernelPCA
from sklearn.kernel_approximation import Nystroem

BLOCK = 2048  # rows at a time, for what goes through all points


def rbf(x, y, gamma):
    """exp(−γ|x − y|²) in the precision of x, by one product of matrices."""
    out = x @ y.T
    out *= 2 * gamma
    out -= gamma * np.einsum("ij,ij->i", x, x)[:, None]
    out -= gamma * np.einsum("ij,ij->i", y, y)
    return np.exp(np.minimum(out, 0, out=out), out=out)


def blocks(x):
    return (x[start : start + BLOCK] for start in range(0, len(x), BLOCK))


def gram_matrix(x, gamma):
    out = np.empty((len(x), len(x)), x.dtype)
    for start in range(0, len(x), BLOCK):
        out[start : start + BLOCK] = rbf(x[start : start + BLOCK], x, gamma)
    return out


def leading(matrix, k):
    """The k largest eigenvalues and their vectors, in order."""
    n, k = len(matrix), min(k, len(matrix))
    try:
        # A fixed start makes runs equal.
        start = np.random.default_rng(0).normal(size=n)
        values, vectors = eigsh(matrix, k, v0=start) if 5 * k < n else whole(matrix, k)
    except ArpackError:
        values, vectors = whole(matrix, k)
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def whole(matrix, k):
    return eigh(matrix, subset_by_index=(len(matrix) - k, len(matrix) - 1))


class Expansion:
    """Features κ(x, L)W, by NumPy."""

    def __init__(self, landmarks, weights, gamma, eigenvalues):
        self.landmarks, self.weights, self.gamma = landmarks, weights.astype(np.float32), gamma
        self.eigenvalues, self.m, self.note = eigenvalues, len(landmarks), ""

    def transform(self, x):
        parts = [rbf(part, self.landmarks, self.gamma) @ self.weights for part in blocks(x)]
        return np.concatenate(parts)


class Blocked:
    """Features of a scikit-learn estimator, in blocks that fit the cache."""

    def __init__(self, estimator, eigenvalues=None, m=None):
        self.estimator, self.eigenvalues, self.m, self.note = estimator, eigenvalues, m, ""

    def transform(self, x):
        return np.concatenate([self.estimator.transform(part) for part in blocks(x)])


class Ours:
    """Features of an estimator of neuralef."""

    def __init__(self, estimator):
        self.eigenvalues, self.transform = estimator.eigenvalues_, estimator.transform
        self.m = getattr(estimator, "n_landmarks_", None)
        self.note = str(getattr(estimator, "method_", ""))


def over_all_points(features, x, k):
    """Eigenvalues and vectors of ΦᵀΦ/n, the leading k; blocks are summed in double precision."""
    moments = sum((f.T @ f).astype(np.float64) for f in map(features, blocks(x)))
    return leading(moments / len(x), k)


def fit_neuralef(x, k, m, run, estimator, keywords):
    """Ours. `keywords` are those of the constructor."""
    made = getattr(importlib.import_module("neuralef"), estimator)(
        k, gamma=run["gamma"], random_state=run["seed"], n_jobs=run["threads"], **keywords
    )
    return Ours(made.fit(x))


def fit_nystroem(x, k, m, run, dtype):
    """scikit-learn's Nystroem, then the eigenproblem over all points, in its own projection.

    In double precision until there are eigenfunctions, it keeps what equal or close landmarks spoil in
    single precision; the transform is in single precision either way.
    """
    landmarks = x[np.random.default_rng(run["seed"]).choice(len(x), m, replace=False)]
    made = Nystroem(gamma=run["gamma"], n_components=m, random_state=run["seed"])
    made.fit(landmarks.astype(dtype))
    values, vectors = over_all_points(made.transform, x, k)
    made.normalization_ = (vectors.T @ made.normalization_).astype(np.float32)
    made.components_ = made.components_.astype(np.float32)
    return Blocked(made, values, m)


def fit_uniform(x, k, m, run):
    """The same by NumPy: landmarks drawn uniformly."""
    landmarks = x[np.random.default_rng(run["seed"]).choice(len(x), m, replace=False)]
    wide = landmarks.astype(np.float64)
    values, vectors = eigh(rbf(wide, wide, run["gamma"]))
    keep = values > 1e-7 * values[-1]
    root = (vectors[:, keep] / np.sqrt(values[keep])).astype(np.float32)

    def features(part):
        return rbf(part, landmarks, run["gamma"]) @ root

    values, vectors = over_all_points(features, x, k)
    return Expansion(landmarks, root @ vectors, run["gamma"], values)


def fit_rpcholesky(x, k, m, run, dtype):
    """Landmarks by accelerated randomly pivoted Cholesky, whose factor has the features on all points."""
    generator = np.random.default_rng(run["seed"])
    pivots, factor = rpcholesky(x.astype(dtype), m, run["gamma"], generator)
    values, vectors = leading((factor @ factor.T).astype(np.float64) / len(x), k)
    corner = np.tril(factor[:, pivots].T.astype(np.float64))
    weights = solve_triangular(corner, vectors, lower=True, trans=1)
    return Expansion(x[pivots], weights, run["gamma"], values)


def rpcholesky(x, m, gamma, generator, block=100):
    """Pivots and F (pivots × n) with FᵀF ≈ K (Chen et al. 2022; Epperly, Tropp & Webber 2024).

    Pivots are proposed by the residual's diagonal, a block at a time, and each is accepted with the
    chance that those before it left it: the same distribution as one at a time. Where the residual is
    rounding there are no more pivots, be they fewer than m.
    """
    factor, pivots = np.zeros((m, len(x)), x.dtype), np.zeros(0, np.intp)
    diagonal, rounding = np.ones(len(x)), 1e-4 if x.dtype == np.float32 else 1e-12
    while len(pivots) < m and diagonal.mean() > rounding:
        known = factor[: len(pivots)]
        proposed = generator.choice(len(x), block, p=diagonal / diagonal.sum())
        residual = rbf(x[proposed], x[proposed], gamma).astype(np.float64)
        residual -= known[:, proposed].T @ known[:, proposed]
        accepted = accept(residual.copy(), generator)[: m - len(pivots)]
        chosen = proposed[accepted]
        lower = cholesky(residual[np.ix_(accepted, accepted)], lower=True).astype(x.dtype)
        rows = rbf(x[chosen], x, gamma)
        rows -= known[:, chosen].T @ known
        rows = solve_triangular(lower, rows, lower=True, overwrite_b=True)
        factor[len(pivots) : len(pivots) + len(chosen)] = rows
        diagonal = np.maximum(diagonal - np.einsum("ij,ij->j", rows, rows), 0)
        diagonal[chosen] = 0
        pivots = np.append(pivots, chosen)
    return pivots, factor[: len(pivots)]


def accept(residual, generator):
    """Which of the proposals are pivots; overwrites their residual."""
    before, accepted = np.diag(residual).copy(), []
    for i in range(len(residual)):
        if residual[i, i] > max(generator.random(), 1e-3) * before[i]:
            column = residual[i:, i] / np.sqrt(residual[i, i])
            residual[i:, i:] -= np.outer(column, column)
            accepted.append(i)
    return accepted


def fit_exact(x, k, m, run):
    """scipy's eigsh on the Gram matrix of all points, not centred."""
    values, vectors = leading(gram_matrix(x.astype(np.float64), run["gamma"]), k)
    return Expansion(x, vectors / np.sqrt(values), run["gamma"], values / len(x))


def fit_kernel_pca(x, k, m, run, solver):
    """scikit-learn's KernelPCA, which centres: for times and memory alone."""
    made = KernelPCA(
        k, kernel="rbf", gamma=run["gamma"], eigen_solver=solver, random_state=run["seed"],
        n_jobs=run["threads"],
    )  # fmt: skip
    return Blocked(made.fit(x))


FITS = {
    "neuralef": fit_neuralef,
    "nystroem": fit_nystroem,
    "uniform": fit_uniform,
    "rpcholesky": fit_rpcholesky,
    "exact": fit_exact,
    "kernel_pca": fit_kernel_pca,
}
