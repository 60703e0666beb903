"""Parity: our Nyström method beside NumPy's dense eigendecomposition and scikit-learn.

1. With every point a landmark, Nyström is exact: eigenvalues must equal those of the Gram matrix
   divided by N, and features must give back its rank-k part.
2. With m landmarks, the error of the approximate kernel is compared with scikit-learn's Nystroem of
   the same m, over several seeds: the landmarks differ, the errors should not.

Exits with 1 when the first comparison misses its tolerance.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem

from common import eigenvalues, median, neuralef, parser, require_binary, squared_distances, table

EIGENVALUE_TOLERANCE = 1e-5  # relative to the largest; features and data are single precision
KERNEL_TOLERANCE = 1e-5


def main():
    options = parser(__doc__)
    options.add_argument("data", nargs="?", help=".npy file, n × d (default: digits)")
    options.add_argument("--lengthscale", type=float, help="default: the median distance")
    options.add_argument("-k", type=int, default=10)
    options.add_argument("--landmarks", type=int, default=200)
    options = options.parse_args()
    binary = require_binary(options.neuralef)
    x = np.load(options.data) if options.data else load_digits().data
    x = x.astype(np.float32)
    n = len(x)
    distances = squared_distances(x, x)
    lengthscale = options.lengthscale or float(np.sqrt(np.median(distances[np.triu_indices(n, 1)])))
    kernel = np.exp(-distances / (2 * lengthscale**2))
    values, vectors = np.linalg.eigh(kernel)
    values, vectors = values[::-1][: options.k], vectors[:, ::-1][:, : options.k]
    rank_k = (vectors * values) @ vectors.T

    def ours(folder, landmarks, k, seed):
        model, out = folder / "model.safetensors", folder / "out.npy"
        # Validation takes no rows away: the comparison is about the points themselves.
        report, _ = neuralef(
            binary, "fit", folder / "x.npy", "--kernel", f"rbf(lengthscale={lengthscale!r})",
            "-k", k, "--method", f"nystrom(landmarks={landmarks})", "--seed", seed,
            "--validation", folder / "x.npy", "--memory-budget", 4096, "--threads", options.threads, "-o", model,
        )
        neuralef(binary, "transform", model, folder / "x.npy", "-o", out)
        return eigenvalues(report), np.load(out).astype(np.float64)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        np.save(folder / "x.npy", x)
        found, features = ours(folder, n, options.k, 0)
        eigenvalue_error = float(np.abs(found - values / n).max() / (values[0] / n))
        kernel_error = float(np.abs(features @ features.T - rank_k).max())
        errors = {"neuralef": [], "scikit-learn": []}
        for seed in range(options.repeats):
            _, features = ours(folder, options.landmarks, options.landmarks, seed)
            errors["neuralef"].append(float(np.abs(features @ features.T - kernel).mean()))
            peer = Nystroem(
                gamma=1 / (2 * lengthscale**2), n_components=options.landmarks, random_state=seed
            )
            features = peer.fit_transform(x.astype(np.float64))
            errors["scikit-learn"].append(float(np.abs(features @ features.T - kernel).mean()))

    passed = eigenvalue_error <= EIGENVALUE_TOLERANCE and kernel_error <= KERNEL_TOLERANCE
    if options.json:
        result = {
            "n": n,
            "lengthscale": lengthscale,
            "exact": {"eigenvalue_error": eigenvalue_error, "kernel_error": kernel_error},
            "mean_kernel_error": {name: median(e) for name, e in errors.items()},
            "passed": passed,
        }
        print(json.dumps(result, indent=2))
    else:
        print(f"{n} × {x.shape[1]}, rbf(lengthscale={lengthscale:.4g}), k = {options.k}\n")
        table(
            ["every point a landmark", "largest error", "tolerance"],
            [
                ["eigenvalues / largest", f"{eigenvalue_error:.1e}", EIGENVALUE_TOLERANCE],
                ["rank-k kernel", f"{kernel_error:.1e}", KERNEL_TOLERANCE],
            ],
        )
        print()
        table(
            [f"{options.landmarks} landmarks, {options.repeats} seeds", "mean |error| of κ, median"],
            [[name, f"{median(e):.2e}"] for name, e in errors.items()],
        )
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
