"""Rows per second of random Fourier features: neuralef beside scikit-learn's RBFSampler.

Both map the same float32 rows to the same number of features of the same rbf kernel, from memory to
memory and from file to file. "In memory" is what neuralef reports for transforming alone, in blocks of
about 4 MiB, and RBFSampler's transform of an array, at once and in blocks. "Files" is neuralef's whole
process (start, reading the .npy file, writing the features), and RBFSampler in blocks from np.load with
a memory map to a .npy file, without starting Python. The relative Gram error
over a sample of pairs of different points stands beside the speed. neuralef's files go to a
directory in memory where there is one (/dev/shm), so that no disk is timed.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.kernel_approximation import RBFSampler
from threadpoolctl import threadpool_limits

from common import median, neuralef, parser, require_binary, spread, squared_distances, table
from transform import BLOCK, data, in_blocks


def files(sampler, folder):
    """Transforms x.npy in blocks into a .npy file, which it returns as a memory map."""
    x = np.load(folder / "x.npy", mmap_mode="r")
    shape = (len(x), sampler.n_components)
    out = np.lib.format.open_memmap(folder / "peer.npy", "w+", np.float32, shape)
    for start in range(0, len(x), BLOCK):
        out[start : start + BLOCK] = sampler.transform(x[start : start + BLOCK])
    out.flush()
    return out


def main():
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--width", type=int, default=16)
    options.add_argument("--features", type=int, default=1000)
    options.add_argument("--fit-rows", type=int, default=8192)
    options.add_argument("--lengthscale", type=float, default=4.0)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    binary = require_binary(options.neuralef)
    x = data(options.rows, options.width, options.seed)
    gamma = 1 / (2 * options.lengthscale**2)
    pairs = np.random.default_rng(options.seed + 1).choice(options.rows, size=800, replace=False)
    kernel = np.exp(-gamma * squared_distances(x[pairs[:400]], x[pairs[400:]]))

    def error(features):
        a, b = (features[half].astype(np.float64) for half in (pairs[:400], pairs[400:]))
        return float(np.linalg.norm(a @ b.T - kernel) / np.linalg.norm(kernel))

    methods = {
        "independent, sin_cos": "fourier(frequencies=independent)",
        "independent, cos": "fourier(form=cos, frequencies=independent)",
        "orthogonal, sin_cos": "fourier(frequencies=orthogonal)",
        "sobol, sin_cos": "fourier(frequencies=sobol)",
    }
    seconds, errors = {}, {}
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        folder = Path(folder)
        np.save(folder / "train.npy", x[: options.fit_rows])
        np.save(folder / "x.npy", x)
        for repeat in range(options.repeats + 1):
            runs = {}
            for name, method in methods.items():
                # The draw differs from repeat to repeat on both sides; errors are medians too.
                neuralef(
                    binary, "fit", folder / "train.npy", "--kernel",
                    f"rbf(lengthscale={options.lengthscale})", "-k", options.features,
                    "--method", method, "--seed", options.seed + repeat,
                    "--threads", options.threads, "-o", folder / "m.safetensors",
                )
                report, elapsed = neuralef(
                    binary, "transform", folder / "m.safetensors", folder / "x.npy",
                    "-o", folder / "out.npy", "--threads", options.threads,
                )
                quality = error(np.load(folder / "out.npy", mmap_mode="r"))
                runs[f"neuralef, {name}, in memory"] = (report["computing_seconds"], quality)
                runs[f"neuralef, {name}, files"] = (elapsed, quality)
            with threadpool_limits(limits=options.threads):
                sampler = RBFSampler(
                    gamma=gamma, n_components=options.features, random_state=options.seed + repeat
                ).fit(x[: options.fit_rows])
                for name, run in {
                    "RBFSampler, in memory, at once": lambda: sampler.transform(x),
                    f"RBFSampler, in memory, blocks of {BLOCK}": lambda: in_blocks(sampler, x),
                    f"RBFSampler, files, blocks of {BLOCK}": lambda: files(sampler, folder),
                }.items():
                    start = time.perf_counter()
                    features = run()
                    runs[name] = (time.perf_counter() - start, error(features))
                    del features
            for name, (elapsed, quality) in runs.items():
                if repeat > 0:
                    seconds.setdefault(name, []).append(elapsed)
                    errors.setdefault(name, []).append(quality)

    speed = {name: options.rows / median(times) for name, times in seconds.items()}
    errors = {name: median(values) for name, values in errors.items()}
    if options.json:
        print(json.dumps({"rows_per_second": speed, "relative_gram_error": errors}, indent=2))
        return
    print(
        f"{options.rows} rows × {options.width} to {options.features} features, rbf, "
        f"{options.threads} threads\n"
    )
    table(
        ["", "seconds", "rows/s", "relative Gram error"],
        [[n, spread(t), f"{speed[n]:,.0f}", f"{errors[n]:.4f}"] for n, t in seconds.items()],
    )


if __name__ == "__main__":
    main()
