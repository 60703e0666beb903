"""Plots, and features of PyTorch's networks."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from neuralef import NeuralEF, Nystroem, RandomFourierFeatures, catalogue, plot


@pytest.fixture(scope="module")
def moons():
    from sklearn.datasets import make_moons

    return make_moons(200, noise=0.1, random_state=0)


def test_spectrum(moons):
    model = Nystroem(8, random_state=0).fit(moons[0])
    ax = plot.spectrum(model)
    drawn = ax.lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, model.eigenvalues_)
    assert ax.get_yscale() == "log"
    features = RandomFourierFeatures(4).fit(moons[0])
    with pytest.raises(ValueError, match="no eigenfunctions"):
        plot.spectrum(features)
    with pytest.raises(ValueError, match="no eigenfunctions"):
        plot.eigenfunctions(features, moons[0])
    plt.close("all")


def test_eigenfunctions(moons):
    X, _ = moons
    model = NeuralEF(4, max_iter=0, random_state=0).fit(X)
    axes = plot.eigenfunctions(model, X, resolution=20)
    assert axes.size == 6
    assert axes.ravel()[0].get_title().startswith("ψ1")
    line = NeuralEF(3, max_iter=0, random_state=0).fit(X[:, :1])
    assert len(plot.eigenfunctions(line, X[:, :1]).lines) == 4
    with pytest.raises(ValueError, match="1 or 2 columns"):
        plot.eigenfunctions(model, np.zeros((10, 3)))
    plt.close("all")


def test_embedding(moons):
    X, y = moons
    model = NeuralEF(4, max_iter=0, random_state=0).fit(X)
    ax = plot.embedding(model, X, y, components=(1, 2))
    np.testing.assert_allclose(ax.collections[0].get_offsets(), model.transform(X)[:, 1:3])
    assert plot.embedding(model, X, y, components=(0, 1, 2)).name == "3d"
    legend = plot.embedding(model, X, np.where(y, "up", "down")).get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["down", "up"]
    with pytest.raises(ValueError, match="components"):
        plot.embedding(model, X, components=(0, 9))
    plt.close("all")


def test_extras_are_imported_only_when_asked():
    extras = ("torch", "matplotlib", "tqdm", "polars")
    code = f"import sys, neuralef; print([m for m in {extras} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_catalogue():
    known = catalogue()
    assert {"kernels", "networks", "objectives", "methods", "sources"} <= set(known)
    assert "lengthscale" in known["kernels"]["rbf"]["parameters"]


def test_ntk_features_are_those_of_the_exact_kernel(tmp_path):
    torch = pytest.importorskip("torch")
    from neuralef.torch import ntk_features

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 20), torch.nn.Tanh(), torch.nn.Linear(20, 2))
    x = torch.randn(15, 3)
    parameters = dict(net.named_parameters())
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(net, p, (x,)))(parameters)
    J = torch.cat([j.reshape(30, -1) for j in jacobian.values()], dim=1).detach().numpy()
    exact = J @ J.T
    S = 2000
    phi = ntk_features(net, x, n_samples=S, batch_size=4, path=tmp_path / "phi.npy")
    assert phi.shape == (30, S)
    assert isinstance(phi, np.memmap)
    d = np.sqrt(np.diag(exact))
    error = (phi @ phi.T / S - exact) / np.outer(d, d)
    # Each entry has a variance of at most 2/S.
    assert np.sqrt((error**2).mean()) < np.sqrt(2 / S)
    assert np.sqrt((error**2).mean()) > 0.1 * np.sqrt(2 / S)
    some = ntk_features(net, x.numpy(), n_samples=5)
    np.testing.assert_allclose(some, phi[:, :5], rtol=1e-4, atol=1e-5)
    assert np.linalg.matrix_rank(some) == 5
    with pytest.raises(ValueError, match="x: expected at least one point"):
        ntk_features(net, x[:0])
    model = NeuralEF(3, outputs=2, network="shared_mlp", max_iter=0).fit(x.numpy(), features=phi)
    assert model.n_components_ == 3


def test_nngp_features_are_those_of_the_closed_form():
    torch = pytest.importorskip("torch")
    from neuralef import kernel_matrix
    from neuralef.torch import nngp_features

    def make():
        net = torch.nn.Sequential(
            torch.nn.Linear(3, 400), torch.nn.ReLU(), torch.nn.Linear(400, 10)
        )
        for layer in (net[0], net[2]):
            torch.nn.init.normal_(layer.weight, std=np.sqrt(2 / layer.in_features))
            torch.nn.init.normal_(layer.bias, std=np.sqrt(0.1))
        return net

    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    phi = nngp_features(make, x, n_samples=300)
    K = kernel_matrix("nngp(depth=1, activation=relu, weight_var=2, bias_var=0.1)", x.numpy())
    d = np.sqrt(np.diag(K))
    error = (phi @ phi.T / phi.shape[1] - K) / np.outer(d, d)
    # 3,000 samples, ten at a time with common hidden layers.
    assert np.abs(error).max() < 5 * np.sqrt(2 / 1000)
