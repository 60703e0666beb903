"""Features are right: against closed forms, scikit-learn and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn import decomposition, kernel_approximation
from sklearn.base import clone
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics import pairwise

from neuralef import (
    KernelPCA,
    NeuralEF,
    Nystroem,
    PositiveFeatures,
    RandomFourierFeatures,
    kernel_matrix,
)


@pytest.fixture(scope="module")
def cloud():
    return np.random.default_rng(0).normal(size=(300, 4))


def hermite_eigenvalues(lengthscale: float, count: int) -> np.ndarray:
    """Of exp(−(x−y)²/2ℓ²) under N(0, 1) (Rasmussen & Williams 2006, section 4.3.1)."""
    a, b = 0.25, 1 / (2 * lengthscale**2)
    c = np.sqrt(a**2 + 2 * a * b)
    total = a + b + c
    return np.sqrt(2 * a / total) * (b / total) ** np.arange(count)


def test_learned_eigenvalues_are_those_of_the_closed_form():
    X = np.random.default_rng(1).normal(size=(8000, 1))
    model = NeuralEF(n_components=5, kernel="rbf", lengthscale=1.0, random_state=0).fit(X)
    exact = hermite_eigenvalues(1.0, 5)
    error = np.abs(model.eigenvalues_ - exact)
    assert (error < 4 * model.eigenvalue_errors_).all(), (model.eigenvalues_, exact)
    # And the errors are no excuse: 1/√n of the eigenvalue, times a small number.
    assert (model.eigenvalue_errors_ < 0.1 * exact).all()
    psi = model.eigenfunctions(X)
    assert np.abs(psi.T @ psi / len(X) - np.eye(5)).max() < 0.05
    assert model.residuals_.max() < 0.02


def test_all_points_as_landmarks_reproduce_the_gram_matrix(cloud):
    X = cloud[:60]
    K = pairwise.rbf_kernel(X, gamma=0.1)
    for model in [
        Nystroem(60, kernel="rbf", gamma=0.1, validation_fraction=0, random_state=0).fit(X),
        KernelPCA(kernel="rbf", gamma=0.1).fit(X),
    ]:
        np.testing.assert_allclose(model.kernel_approx(X), K, atol=2e-5)


def test_nystroem_is_scikit_learns_for_the_same_landmarks(cloud):
    for eigenproblem in ["all_points", "landmarks"]:
        ours = Nystroem(60, gamma=0.1, eigenproblem=eigenproblem, validation_fraction=0)
        ours.fit(cloud[:60])
        theirs = kernel_approximation.Nystroem(n_components=60, gamma=0.1, random_state=0)
        theirs.fit(cloud[:60])
        A, B = ours.transform(cloud), theirs.transform(cloud)
        np.testing.assert_allclose(A @ A.T, B @ B.T, atol=1e-4)


def test_nystroem_is_scikit_learns_with_the_eigenproblem_over_all_points(cloud, tmp_path):
    ours = Nystroem(5, gamma=0.1, n_landmarks=40, random_state=0).fit(cloud)
    ours.save(tmp_path / "m.safetensors")
    landmarks = load_file(tmp_path / "m.safetensors")["landmarks"].astype(np.float64)
    assert len(landmarks) == ours.n_landmarks_ == 40
    theirs = kernel_approximation.Nystroem(n_components=40, gamma=0.1, random_state=0)
    features = theirs.fit(landmarks).transform(cloud)
    values, vectors = np.linalg.eigh(features.T @ features / len(cloud))
    np.testing.assert_allclose(ours.eigenvalues_, values[:-6:-1], rtol=1e-5)
    A, B = ours.transform(cloud), features @ vectors[:, :-6:-1]
    np.testing.assert_allclose(A @ A.T, B @ B.T, atol=1e-4)


@pytest.mark.parametrize("selection", ["auto", "rpcholesky", "uniform", "kmeans"])
def test_the_remainder_bounds_the_error_of_every_eigenvalue(cloud, selection):
    exact = np.linalg.eigvalsh(pairwise.rbf_kernel(cloud, gamma=0.1))[:-11:-1] / len(cloud)
    model = Nystroem(10, gamma=0.1, n_landmarks=30, selection=selection, random_state=0).fit(cloud)
    error = exact - model.eigenvalues_
    assert (error > -1e-6).all()
    assert (error < model.remainder_ + 1e-6).all()
    assert 0 < model.remainder_ < 0.5
    weak = Nystroem(10, gamma=0.1, n_landmarks=30, eigenproblem="landmarks", random_state=0)
    weak.fit(cloud)
    assert weak.remainder_ is None
    assert np.abs(error).max() < np.abs(exact - weak.eigenvalues_).max()


def test_landmarks_as_many_as_points_are_exact(cloud):
    model = Nystroem(5, gamma=0.1, n_landmarks=10_000, validation_fraction=0).fit(cloud)
    exact = KernelPCA(5, kernel="rbf", gamma=0.1).fit(cloud)
    np.testing.assert_allclose(model.eigenvalues_, exact.eigenvalues_, rtol=1e-6)
    assert model.remainder_ < 1e-6
    assert Nystroem(5, gamma=10.0).fit(cloud).n_landmarks_ <= 260 + 4 * 5


def test_held_out_points_measure_nystroem_and_take_part_in_it(cloud):
    model = Nystroem(5, gamma=0.1, random_state=0).fit(cloud)
    certificate = model.certificate_
    assert certificate["held_out_points"] == 15
    assert certificate["training_points"] == 270
    assert certificate["eigenvalue_points"] == 300
    assert model.residuals_.max() < 0.02
    exact = KernelPCA(5, kernel="rbf", gamma=0.1).fit(cloud)
    np.testing.assert_allclose(model.eigenvalues_, exact.eigenvalues_, rtol=1e-3)


def test_best_keeps_networks_or_landmarks_by_their_residuals(cloud):
    networks = NeuralEF(3, gamma=0.1, max_iter=0, random_state=0).fit(cloud)
    assert networks.method_ == "neuralef"
    assert set(networks.beside_) == {
        "landmarks",
        "residual",
        "nystrom_residual",
        "multiplications",
        "nystrom_multiplications",
    }
    best = clone(networks).set_params(method="best").fit(cloud)
    assert best.beside_ == networks.beside_
    landmarks = best.beside_["nystrom_residual"] < best.beside_["residual"]
    assert best.method_ == ("nystrom" if landmarks else "neuralef")
    # Four functions cannot span what landmarks do.
    few = NeuralEF(3, gamma=0.1, network="shared_mlp(hidden=[4])", max_iter=10, method="best")
    few.set_params(random_state=0).fit(cloud)
    assert few.method_ == "nystrom"
    assert few.beside_["nystrom_residual"] < few.beside_["residual"]
    nystroem = Nystroem(3, gamma=0.1, random_state=0).fit(cloud)
    np.testing.assert_allclose(few.eigenvalues_, nystroem.eigenvalues_, rtol=1e-6)
    np.testing.assert_allclose(few.transform(cloud), nystroem.transform(cloud), atol=1e-5)
    assert few.residuals_.max() < 0.02


def test_best_is_networks_where_the_kernel_is_not_known_at_new_points(cloud):
    K = pairwise.rbf_kernel(cloud, gamma=0.1)
    model = NeuralEF(3, method="best", max_iter=0, random_state=0)
    for kernel, X, given in [("rbf", cloud, {"gram": K}), ("precomputed", K, {})]:
        model.set_params(kernel=kernel).fit(X, **given)
        assert (model.method_, model.beside_) == ("neuralef", None)


def test_kernel_pca_eigenvalues_are_those_of_the_gram_matrix(cloud):
    model = KernelPCA(5, kernel="poly", degree=2, gamma=0.5, coef0=1).fit(cloud)
    K = pairwise.polynomial_kernel(cloud, degree=2, gamma=0.5, coef0=1)
    values = np.linalg.eigvalsh(K)[::-1][:5] / len(cloud)
    np.testing.assert_allclose(model.eigenvalues_, values, rtol=1e-5)


def test_kernel_pca_is_scikit_learns_where_means_are_zero(cloud):
    # A linear kernel of centred data has centred features.
    X = cloud - cloud.mean(axis=0)
    ours = KernelPCA(3, kernel="linear").fit(X)
    theirs = decomposition.KernelPCA(3, kernel="linear").fit(X)
    np.testing.assert_allclose(ours.eigenvalues_ * len(X), theirs.eigenvalues_, rtol=1e-4)
    A, B = ours.transform(X), theirs.transform(X)
    signs = np.sign((A * B).sum(axis=0))
    np.testing.assert_allclose(A, B * signs, atol=1e-3)


@pytest.mark.parametrize("count", [400, 6400])
def test_random_fourier_features_converge(cloud, count):
    errors = []
    K = pairwise.rbf_kernel(cloud, gamma=0.2)
    for seed in range(5):
        model = RandomFourierFeatures(
            count, gamma=0.2, frequencies="independent", random_state=seed
        )
        errors.append(np.sqrt(np.mean((model.fit(cloud).kernel_approx(cloud) - K) ** 2)))
    # The variance of one pair of features is at most 1 for one pair, over count/2 pairs.
    assert np.mean(errors) < np.sqrt(2 / count)
    assert np.mean(errors) > 0.2 * np.sqrt(2 / count)


def test_positive_features_are_positive_and_right(cloud):
    X = 0.3 * cloud
    model = PositiveFeatures(4000, kernel="softmax", gamma=1.0, random_state=0).fit(X)
    features = model.transform(X)
    assert (features >= 0).all()
    K = np.exp(X @ X.T)
    assert np.linalg.norm(features @ features.T - K) < 0.03 * np.linalg.norm(K)


def test_kernels_as_names_texts_functions_and_values_agree(cloud):
    X, new = cloud[:80], cloud[80:100]
    K, K_new = pairwise.rbf_kernel(X, gamma=0.3), pairwise.rbf_kernel(new, X, gamma=0.3)
    gp = RBF(length_scale=np.sqrt(1 / 0.6))

    def of_points(x, y):
        return np.exp(-0.3 * np.sum((x - y) ** 2))

    expected = KernelPCA(4, kernel="rbf", gamma=0.3).fit(X)
    for kernel, parameters in [
        ("rbf(gamma=0.3)", None),
        (pairwise.rbf_kernel, {"gamma": 0.3}),
        (gp, None),
        (of_points, None),
    ]:
        model = KernelPCA(4, kernel=kernel, kernel_params=parameters).fit(X)
        np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-5)
        np.testing.assert_allclose(model.transform(new), expected.transform(new), atol=2e-5)
    for model in [KernelPCA(4), Nystroem(4, n_landmarks=80, random_state=0)]:
        named = clone(model).set_params(kernel="rbf", gamma=0.3).fit(X)
        model.set_params(kernel="precomputed").fit(K)
        np.testing.assert_allclose(model.eigenvalues_, named.eigenvalues_, rtol=1e-5)
        np.testing.assert_allclose(model.transform(K_new), named.transform(new), atol=2e-5)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
def test_functions_of_points_are_told_from_those_of_matrices(d):
    X = np.random.default_rng(0).normal(size=(50, d))
    expected = KernelPCA(2, kernel="poly", degree=2, gamma=1, coef0=1).fit(X).eigenvalues_
    for function in [lambda x, y: (x @ y + 1) ** 2, lambda X, Y: (X @ Y.T + 1) ** 2]:
        found = KernelPCA(2, kernel=function).fit(X)
        np.testing.assert_allclose(found.eigenvalues_, expected, rtol=1e-4)


def test_functions_serve_all_estimators_that_train(cloud):
    named = NeuralEF(3, kernel="rbf", gamma=0.3, max_iter=0, random_state=0).fit(cloud)
    function = NeuralEF(
        3, kernel=lambda X, Y: pairwise.rbf_kernel(X, Y, gamma=0.3), max_iter=0, random_state=0
    ).fit(cloud)
    np.testing.assert_allclose(function.eigenvalues_, named.eigenvalues_, rtol=1e-5)
    gram = NeuralEF(3, max_iter=0, random_state=0).fit(
        cloud, gram=pairwise.rbf_kernel(cloud, gamma=0.3)
    )
    np.testing.assert_allclose(gram.eigenvalues_, named.eigenvalues_, rtol=1e-4)
    assert abs(function.score(cloud[:100]) - named.score(cloud[:100])) < 1e-4


def test_precomputed_networks_see_rows_of_the_gram_matrix(cloud):
    K = pairwise.rbf_kernel(cloud, gamma=0.3)
    model = NeuralEF(3, kernel="precomputed", max_iter=0, random_state=0).fit(K)
    exact = np.linalg.eigvalsh(K)[::-1][:3] / len(K)
    np.testing.assert_allclose(model.eigenvalues_, exact, rtol=0.05)
    assert model.transform(K[:5]).shape == (5, 3)
    assert model.__sklearn_tags__().input_tags.pairwise


def test_features_stand_for_a_kernel(cloud):
    Phi = np.random.default_rng(2).normal(size=(4, 50))
    features = np.tanh(cloud @ Phi)
    model = NeuralEF(3, max_iter=300, random_state=0).fit(cloud, features=features)
    exact = np.linalg.eigvalsh(features @ features.T / 50)[::-1][:3] / len(cloud)
    np.testing.assert_allclose(model.eigenvalues_, exact, rtol=0.1)
    assert model.kernel_ is None
    with pytest.raises(ValueError, match="κ is not known"):
        model.score(cloud)


def test_matrix_valued_kernels(cloud):
    # Two outputs, independent, one four times the other.
    base = np.random.default_rng(2).normal(size=(len(cloud), 20))
    features = np.zeros((2 * len(cloud), 40))
    features[0::2, :20] = base
    features[1::2, 20:] = 2 * base
    model = NeuralEF(2, outputs=2, network="shared_mlp", max_iter=0, random_state=0)
    model.fit(cloud, features=features)
    assert model.transform(cloud[:7]).shape == (7, 2, 2)
    assert model.kernel_approx(cloud[:7], cloud[:3]).shape == (7, 2, 3, 2)


def test_kernel_matrix_is_scikit_learns(cloud):
    X, Y = cloud[:20], cloud[20:50]
    for text, function, arguments in [
        ("rbf(gamma=0.3)", pairwise.rbf_kernel, {"gamma": 0.3}),
        ("laplacian(gamma=0.3)", pairwise.laplacian_kernel, {"gamma": 0.3}),
        ("polynomial(degree=2)", pairwise.polynomial_kernel, {"degree": 2}),
        ("cosine", pairwise.cosine_similarity, {}),
        ("linear", pairwise.linear_kernel, {}),
        ("sigmoid(gamma=0.1)", pairwise.sigmoid_kernel, {"gamma": 0.1}),
    ]:
        np.testing.assert_allclose(
            kernel_matrix(text, X, Y), function(X, Y, **arguments), atol=1e-6
        )


def test_score_is_the_share_of_the_kernel(cloud):
    model = Nystroem(100, kernel="rbf", gamma=0.01, random_state=0).fit(cloud[:200])
    assert 0.9999 < model.score(cloud[200:]) <= 1.0
    few = Nystroem(1, kernel="rbf", gamma=2.0, random_state=0).fit(cloud[:200])
    assert few.score(cloud[200:]) < 0.5
