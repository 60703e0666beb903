"""What several tests use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_digits

mpl.use("Agg")


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return load_digits(return_X_y=True)


@pytest.fixture(scope="session")
def binary() -> str:
    """The command line, from NEURALEF_BIN or the PATH."""
    found = os.environ.get("NEURALEF_BIN") or shutil.which("neuralef")
    if not found or not Path(found).is_file():
        pytest.skip("no neuralef program: set NEURALEF_BIN")
    return found


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small trained classifier as safetensors, with its data and a NumPy version of it.

    Its weights are those of scikit-learn's MLPClassifier under the names that PyTorch would give.
    """
    from safetensors.numpy import save_file
    from sklearn.datasets import make_moons
    from sklearn.neural_network import MLPClassifier

    X, y = make_moons(400, noise=0.25, random_state=0)
    X = X.astype(np.float32)
    network = MLPClassifier((16,), max_iter=2000, random_state=0, alpha=1e-4).fit(X, y)
    first, last = network.coefs_
    # Two logits ±z/2 for the one that scikit-learn has.
    weights = {
        "layers.0.weight": first.T,
        "layers.0.bias": network.intercepts_[0],
        "layers.1.weight": np.concatenate([-last.T / 2, last.T / 2]),
        "layers.1.bias": np.concatenate([-network.intercepts_[1] / 2, network.intercepts_[1] / 2]),
    }
    weights = {name: np.ascontiguousarray(w, dtype=np.float32) for name, w in weights.items()}
    path = tmp_path_factory.mktemp("network") / "moons.safetensors"
    save_file(weights, path)
    return {
        "path": path,
        "architecture": "shared_mlp(hidden=[16], activation=relu)",
        "X": X,
        "y": y,
        "weights": weights,
    }
