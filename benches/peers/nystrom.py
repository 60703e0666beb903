"""Seconds to fit: neuralef's `nystrom` beside scikit-learn's Nystroem, on the same points.

Both evaluate the rbf kernel on m landmarks drawn from the same rows and decompose the m × m matrix,
but they don't solve the same problem: neuralef finds the leading k eigenpairs and keeps k features;
scikit-learn makes a full singular value decomposition and keeps m features. So neuralef is shown
twice: with a few eigenpairs, which is what it is for, and with k = m, the whole decomposition, in the
sizes where that is feasible. Landmarks are drawn by each program from its own generator.

neuralef's seconds are those of the fit alone (`timings.readout_seconds`: drawing the landmarks, the
kernel, the eigenpairs, and measuring which precision features need); the whole process, with reading
the file, the certificate and writing the model, stands beside it. scikit-learn is timed around
`fit`, in memory. The Gram error is ‖φφᵀ − K‖/‖K‖ (Frobenius) on rows that neither was fitted on.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.kernel_approximation import Nystroem
from threadpoolctl import threadpool_limits

from common import median, neuralef, parser, require_binary, spread, squared_distances, table


def main():
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--width", type=int, default=16)
    options.add_argument("-k", type=int, default=10, help="eigenpairs of the small fit")
    options.add_argument("--landmarks", type=int, nargs="+", default=[300, 1000, 3000])
    options.add_argument("--whole", type=int, default=1000, help="largest m fitted with k = m too")
    options.add_argument("--lengthscale", type=float, default=4.0)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    binary = require_binary(options.neuralef)
    generator = np.random.default_rng(options.seed)
    x = generator.normal(size=(options.rows, options.width)).astype(np.float32)
    fresh = generator.normal(size=(1000, options.width)).astype(np.float32)
    gamma = 1 / (2 * options.lengthscale**2)
    kernel = np.exp(-gamma * squared_distances(fresh, fresh))

    def error(features):
        features = features.astype(np.float64)
        return float(np.linalg.norm(features @ features.T - kernel) / np.linalg.norm(kernel))

    results = []
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(limits=options.threads):
        folder = Path(folder)
        np.save(folder / "x.npy", x)
        np.save(folder / "fresh.npy", fresh)
        for m in options.landmarks:
            sizes = [options.k] + ([m] if m <= options.whole else [])
            rows = {f"neuralef, k = {k}": ([], [], []) for k in sizes}
            rows["Nystroem"] = ([], [], [])
            # The first round of each side warms caches up and is not counted.
            for repeat in range(options.repeats + 1):
                for k in sizes:
                    fit, process = neuralef(
                        binary, "fit", folder / "x.npy", "--kernel",
                        f"rbf(lengthscale={options.lengthscale})", "-k", k, "--seed", repeat,
                        "--method", f"nystrom(landmarks={m})", "--threads", options.threads,
                        "--plot", "none", "-o", folder / "model.safetensors",
                    )
                    neuralef(
                        binary, "transform", folder / "model.safetensors", folder / "fresh.npy",
                        "-o", folder / "out.npy", "--threads", options.threads,
                    )
                    if repeat > 0:
                        times, whole, errors = rows[f"neuralef, k = {k}"]
                        times.append(fit["timings"]["readout_seconds"])
                        whole.append(process)
                        errors.append(error(np.load(folder / "out.npy")))
                peer = Nystroem(gamma=gamma, n_components=m, random_state=repeat)
                start = time.perf_counter()
                peer.fit(x)
                elapsed = time.perf_counter() - start
                if repeat > 0:
                    rows["Nystroem"][0].append(elapsed)
                    rows["Nystroem"][2].append(error(peer.transform(fresh)))
            results += [(m, name, *columns) for name, columns in rows.items()]

    if options.json:
        keys = ["landmarks", "program", "fit_seconds", "process_seconds", "gram_error"]
        print(json.dumps([dict(zip(keys, row)) for row in results], indent=2))
        return
    print(f"{options.rows} rows × {options.width}, rbf, {options.threads} threads\n")
    table(
        ["landmarks, program", "fit, s", "whole process, s", "Gram error"],
        [
            [f"{m}, {name}", spread(t), spread(w) if w else "–", f"{median(e):.2e}"]
            for m, name, t, w, e in results
        ],
    )


if __name__ == "__main__":
    main()
