"""Laplace approximations and scores, against dense computations in NumPy and closed forms."""

from __future__ import annotations

import pickle
import subprocess

import numpy as np
import pytest
from scipy import sparse
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from neuralef import KernelPCA, Laplace, NeuralEF, ScoreEstimator


def forward(weights, X):
    hidden = np.maximum(X @ weights["layers.0.weight"].T + weights["layers.0.bias"], 0).astype(
        np.float64
    )
    return hidden, hidden @ weights["layers.1.weight"].T + weights["layers.1.bias"]


def laplace(classifier, **parameters):
    return Laplace(classifier["path"], architecture=classifier["architecture"], **parameters).fit(
        classifier["X"], classifier["y"]
    )


def dense_last_layer(classifier):
    """J (n, C, P) of the last layer, logits, Gauss–Newton matrix, with NumPy alone."""
    hidden, logits = forward(classifier["weights"], classifier["X"])
    features = np.column_stack([hidden, np.ones(len(hidden))])
    jacobian = np.einsum("nf,cd->ncdf", features, np.eye(2)).reshape(len(features), 2, -1)
    p = softmax(logits, axis=1)
    curvature = np.einsum("nc,cd->ncd", p, np.eye(2)) - np.einsum("nc,nd->ncd", p, p)
    return jacobian, logits, np.einsum("nci,ncd,ndj->ij", jacobian, curvature, jacobian)


def test_last_layer_is_the_dense_computation(classifier):
    model = laplace(classifier, hessian_structure="full", prior_precision=0.5)
    jacobian, logits, matrix = dense_last_layer(classifier)
    covariance = np.linalg.inv(matrix + 0.5 * np.eye(len(matrix)))
    expected = np.einsum("nci,ij,ndj->ncd", jacobian, covariance, jacobian)
    mean, found = model.predictive_distribution(classifier["X"])
    np.testing.assert_allclose(mean, logits, atol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    scale = 1 / np.sqrt(1 + np.pi / 8 * np.diagonal(expected, axis1=1, axis2=2))
    probit = softmax(logits * scale, axis=1)
    np.testing.assert_allclose(model(classifier["X"]), probit, atol=1e-4)


def test_marginal_likelihood_and_its_optimum(classifier):
    model = laplace(classifier, hessian_structure="full")
    _, logits, matrix = dense_last_layer(classifier)
    last = [classifier["weights"][f"layers.1.{name}"] for name in ("weight", "bias")]
    squared = sum((w.astype(np.float64) ** 2).sum() for w in last)
    likelihood = log_softmax(logits, axis=1)[np.arange(len(logits)), classifier["y"]].sum()

    def evidence(delta):
        log_det = np.linalg.slogdet(matrix / delta + np.eye(len(matrix)))[1]
        return likelihood - 0.5 * delta * squared - 0.5 * log_det

    for delta in [1e-3, 1.0, 30.0]:
        np.testing.assert_allclose(model.log_marginal_likelihood(delta), evidence(delta), rtol=1e-5)
    best = model.optimize_prior_precision()["prior_precision"]
    grid = np.exp(np.linspace(-8, 8, 20001))
    exact = grid[np.argmax([evidence(d) for d in grid])]
    np.testing.assert_allclose(best, exact, rtol=2e-3)
    assert model.prior_precision_ == best


def test_eigenfunctions_that_are_fitted_already(classifier):
    X = classifier["X"]
    # Features of the last layer's tangent kernel, all of them: ΦΦᵀ/S = JJᵀ.
    jacobian, logits, _ = dense_last_layer(classifier)
    phi = jacobian.reshape(2 * len(X), -1)
    phi = phi * np.sqrt(phi.shape[1])
    features = NeuralEF(
        6,
        outputs=2,
        network="shared_mlp(hidden=[128], activation=sin_cos)",
        max_iter=0,
        random_state=0,
    ).fit(X, features=phi)
    model = laplace(classifier, source=features, prior_precision=2.0)
    F = features.transform(X).astype(np.float64)
    p = softmax(logits, axis=1)
    curvature = np.einsum("nc,cd->ncd", p, np.eye(2)) - np.einsum("nc,nd->ncd", p, p)
    precision = np.einsum("nci,ncd,ndj->ij", F, curvature, F) + 2.0 * np.eye(F.shape[2])
    expected = np.einsum("nci,ij,ndj->ncd", F, np.linalg.inv(precision), F)
    _, found = model.predictive_distribution(X)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "source"),
    [
        ({}, "last_layer"),
        ({"hessian_structure": "diag"}, "last_layer"),
        ({"subset_of_weights": "all"}, "kfac"),
        ({"subset_of_weights": "all", "hessian_structure": "diag"}, "diag"),
        ({"source": "neuralef(components=5, points=200, samples=100)"}, "neuralef"),
        ({"source": "ella(components=5, landmarks=100)"}, "ella"),
        ({"source": "map"}, "map"),
    ],
)
def test_every_source_predicts_pickles_and_saves(classifier, parameters, source, tmp_path):
    model = laplace(classifier, random_state=0, **parameters)
    assert model.source_.startswith(source)
    X = classifier["X"][:20]
    for link in ["probit", "mean_field", "mc", "bridge"]:
        if source == "map" and link == "bridge":
            continue
        p = model.predict_proba(X, link_approx=link)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    _, logits = forward(classifier["weights"], classifier["X"])
    own = (logits.argmax(axis=1) == classifier["y"]).mean()
    assert abs(model.score(classifier["X"], classifier["y"]) - own) < 0.01
    expected = model(X)
    model.save(tmp_path / "posterior.safetensors")
    for other in [
        pickle.loads(pickle.dumps(model)),
        Laplace.load(tmp_path / "posterior.safetensors"),
    ]:
        np.testing.assert_array_equal(other(X), expected)


def test_tuning_on_validation_points(classifier):
    X, y = classifier["X"], classifier["y"]
    model = laplace(classifier, hessian_structure="full", prior_precision=1e-4)
    found = model.optimize_prior_precision("gridsearch", X_val=X, y_val=y, temperature=True)
    assert found["after"] <= found["before"]
    assert model.prior_precision_ == found["prior_precision"]
    nll = -np.log(model.predict_proba(X)[np.arange(len(y)), y]).mean()
    np.testing.assert_allclose(nll, found["after"], rtol=1e-6)
    with pytest.raises(ValueError, match="X_val"):
        model.optimize_prior_precision("gridsearch")


def test_command_line_predicts_from_what_python_saved(classifier, tmp_path, binary):
    model = laplace(classifier, hessian_structure="full")
    model.save(tmp_path / "p.safetensors")
    np.save(tmp_path / "x.npy", classifier["X"])
    command = [binary, "predict", "p.safetensors", "x.npy", "-o", "p.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), model(classifier["X"]), atol=1e-6)


def test_clones_keep_frozen_eigenfunctions(classifier):
    X, y = classifier["X"], classifier["y"]
    jacobian, _, _ = dense_last_layer(classifier)
    phi = jacobian.reshape(2 * len(X), -1)
    features = NeuralEF(4, outputs=2, network="shared_mlp", max_iter=0, random_state=0)
    frozen = FrozenEstimator(features.fit(X, features=phi))
    model = Laplace(classifier["path"], architecture=classifier["architecture"], source=frozen)
    np.testing.assert_array_equal(clone(model).fit(X, y)(X), model.fit(X, y)(X))
    plain = NeuralEF(6, max_iter=0, random_state=0).fit(X)
    score = ScoreEstimator(eigenfunctions=FrozenEstimator(plain), random_state=0)
    np.testing.assert_array_equal(clone(score).fit(X).gradient(X), score.fit(X).gradient(X))


def test_noise_stays_as_it_is_given(tmp_path):
    from safetensors.numpy import save_file

    weights = {
        "layers.0.weight": np.ones((1, 2), np.float32),
        "layers.0.bias": np.zeros(1, np.float32),
    }
    save_file(weights, tmp_path / "n.safetensors")
    X = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    y = X.sum(axis=1) + 0.1 * np.random.default_rng(1).normal(size=60)

    def model(**parameters):
        return Laplace(
            tmp_path / "n.safetensors",
            "regression",
            architecture="shared_mlp(hidden=[])",
            **parameters,
        )

    given = model(sigma_noise=0.5).fit(X, y)
    given.optimize_prior_precision()
    assert given.sigma_noise_ == 0.5
    free = model(sigma_noise=None).fit(X, y)
    free.optimize_prior_precision()
    assert 0.08 < free.sigma_noise_ < 0.12
    with pytest.raises(ValueError, match="temperature"):
        model(temperature=2.0).fit(X, y)


def test_repeated_searches_end_at_the_same_place(classifier):
    X, y = classifier["X"], classifier["y"]
    model = laplace(classifier, hessian_structure="full")
    found = [
        model.optimize_prior_precision("gridsearch", X_val=X, y_val=y)["prior_precision"]
        for _ in range(3)
    ]
    assert min(found) >= 1e-8
    assert max(found) <= 1e8
    np.testing.assert_allclose(found[1:], found[0], rtol=0.05)


def test_regression_is_exact_for_a_linear_network(tmp_path):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)).astype(np.float32)
    design = np.column_stack([X, np.ones(80)]).astype(np.float64)
    y = design @ [1.0, -2.0, 0.5, 0.3] + 0.1 * rng.normal(size=80)
    delta, noise = 0.7, 0.01
    precision = design.T @ design / noise + delta * np.eye(4)
    theta = np.linalg.solve(precision, design.T @ y / noise)
    weights = {"layers.0.weight": theta[None, :3], "layers.0.bias": theta[3:]}
    save_file(
        {k: np.ascontiguousarray(v, np.float32) for k, v in weights.items()},
        tmp_path / "n.safetensors",
    )
    model = Laplace(
        tmp_path / "n.safetensors",
        "regression",
        hessian_structure="full",
        architecture="shared_mlp(hidden=[])",
        sigma_noise=0.1,
        prior_precision=delta,
    ).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, design @ theta, atol=1e-5)
    variance = np.einsum("ni,ij,nj->n", design, np.linalg.inv(precision), design) + noise
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-5)
    # The evidence of a linear Gaussian model is that of its targets.
    cov = design @ design.T / delta + noise * np.eye(80)
    exact = -0.5 * (y @ np.linalg.solve(cov, y) + np.linalg.slogdet(2 * np.pi * cov)[1])
    np.testing.assert_allclose(model.log_marginal_likelihood(), exact, rtol=1e-5)


def test_bad_input_of_laplace_is_named(classifier, tmp_path):
    X, y = classifier["X"], classifier["y"]
    with pytest.raises(ValueError, match="hessian_structure"):
        laplace(classifier, subset_of_weights="all", hessian_structure="full")
    with pytest.raises(ValueError, match="y: expected whole numbers"):
        Laplace(classifier["path"], architecture=classifier["architecture"]).fit(X, y + 0.5)
    with pytest.raises(TypeError, match="[Ss]parse"):
        laplace(classifier).predict_proba(sparse.csr_matrix(X))
    with pytest.raises(ValueError, match="y: "):
        Laplace(classifier["path"], architecture=classifier["architecture"]).fit(X, y + 5)
    with pytest.raises(OSError, match=r"nothing\.onnx"):
        Laplace(tmp_path / "nothing.onnx").fit(X, y)
    with pytest.raises(ValueError, match="source"):
        laplace(classifier, source="magic")
    with pytest.raises(ValueError, match="link_approx"):
        laplace(classifier)(X, link_approx="none")


# Scores.


def test_score_of_a_normal_distribution():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(1500, 2)), rng.normal(size=(300, 2))
    model = ScoreEstimator(random_state=0).fit(X)
    error = np.linalg.norm(model.gradient(new) + new) / np.linalg.norm(new)
    assert error < 0.3
    # ½E‖s‖² + E∇·s of the true score s = −x is d/2 − d = −1, and no estimate is better.
    assert 0.8 < model.score(new) < 1.2
    assert len(model.losses_) >= model.terms_
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.gradient(new), model.gradient(new))


def test_score_from_learned_eigenfunctions(tmp_path):
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(1500, 2)), rng.normal(size=(300, 2))
    features = NeuralEF(
        12,
        lengthscale=2.5,
        network="mlp(hidden=[32, 32], activation=sin_cos)",
        max_iter=0,
        random_state=0,
    ).fit(X)
    model = ScoreEstimator(eigenfunctions=features, random_state=0).fit(X)
    error = np.linalg.norm(model.gradient(new) + new) / np.linalg.norm(new)
    assert error < 0.35
    exact = ScoreEstimator(
        eigenfunctions=KernelPCA(12, kernel="rbf", lengthscale=2.5).fit(X), random_state=0
    ).fit(X)
    other = np.linalg.norm(exact.gradient(new) + new) / np.linalg.norm(new)
    assert abs(error - other) < 0.1
    model.save(tmp_path / "score.safetensors")
    again = ScoreEstimator.load(tmp_path / "score.safetensors")
    np.testing.assert_array_equal(again.gradient(new), model.gradient(new))


def test_kernels_without_gradients_are_refused():
    X = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(ValueError, match="gradient"):
        ScoreEstimator(kernel="laplacian").fit(X)
