"""Rows per second of `transform`: neuralef beside scikit-learn's Nystroem.

Both map the same rows to features whose inner products approximate the same rbf kernel. neuralef's
time is that of the whole process: start, reading the .npy file, writing the features. scikit-learn
is timed from an array in memory to an array in memory, in blocks that fit the cache, which favours
it. Nystroem is shown with 1,000 landmarks, its usual quality, and with as many as there are
features on our side. The mean absolute error of the approximate kernel on a sample of pairs stands
beside the speed, so that fast and wrong shows.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.kernel_approximation import Nystroem
from threadpoolctl import threadpool_limits

from common import median, neuralef, parser, require_binary, spread, squared_distances, table

BLOCK = 8192


def data(rows, width, seed):
    """Eight Gaussian clusters."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(8, width))
    labels = generator.integers(8, size=rows)
    return (centres[labels] + 0.5 * generator.normal(size=(rows, width))).astype(np.float32)


def in_blocks(model, x):
    return np.concatenate([model.transform(x[i : i + BLOCK]) for i in range(0, len(x), BLOCK)])


def main():
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--width", type=int, default=16)
    options.add_argument("-k", type=int, default=16, help="features of the neuralef model")
    options.add_argument("--landmarks", type=int, default=1000)
    options.add_argument("--fit-rows", type=int, default=8192, help="rows both models are fitted on")
    options.add_argument("--lengthscale", type=float, default=4.0)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    binary = require_binary(options.neuralef)
    x = data(options.rows, options.width, options.seed)
    train = x[: options.fit_rows]
    gamma = 1 / (2 * options.lengthscale**2)
    pairs = np.random.default_rng(options.seed + 1).integers(options.rows, size=400)
    kernel = np.exp(-gamma * squared_distances(x[pairs], x[pairs]))

    def error(features):
        features = features[pairs].astype(np.float64)
        return float(np.abs(features @ features.T - kernel).mean())

    seconds, errors = {}, {}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(limits=options.threads):
        folder = Path(folder)
        np.save(folder / "train.npy", train)
        np.save(folder / "x.npy", x)
        neuralef(
            binary, "fit", folder / "train.npy", "--kernel",
            f"rbf(lengthscale={options.lengthscale})", "-k", options.k, "--seed", options.seed,
            "--threads", options.threads, "-o", folder / "model.safetensors",
        )
        peers = {
            f"Nystroem, {m} landmarks": Nystroem(
                gamma=gamma, n_components=m, random_state=options.seed
            ).fit(train)
            for m in (options.landmarks, options.k)
        }
        for repeat in range(options.repeats + 1):
            _, elapsed = neuralef(
                binary, "transform", folder / "model.safetensors", folder / "x.npy",
                "-o", folder / "out.npy", "--threads", options.threads,
            )
            runs = {f"neuralef, k = {options.k}": (elapsed, np.load(folder / "out.npy"))}
            for name, model in peers.items():
                start = time.perf_counter()
                features = in_blocks(model, x)
                runs[name] = (time.perf_counter() - start, features)
            for name, (elapsed, features) in runs.items():
                errors[name] = error(features)
                if repeat > 0:
                    seconds.setdefault(name, []).append(elapsed)

    speed = {name: options.rows / median(times) for name, times in seconds.items()}
    if options.json:
        print(json.dumps({"rows_per_second": speed, "mean_kernel_error": errors}, indent=2))
        return
    print(f"{options.rows} rows × {options.width}, rbf, {options.threads} threads\n")
    table(
        ["", "seconds", "rows/s", "mean |error| of κ"],
        [[n, spread(t), f"{speed[n]:,.0f}", f"{errors[n]:.4f}"] for n, t in seconds.items()],
    )


if __name__ == "__main__":
    main()
