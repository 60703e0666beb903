"""Recipe C: ten eigenfunctions of a Gaussian kernel, neuralef beside eager PyTorch.

    x ~ U[-2, 2], N = 8,192, rbf(lengthscale=1), k = 10 separate networks 1-32-32-1, sine on the
    first half of each hidden layer and cosine on the second, L2 batch normalisation, batch 256,
    2,000 steps, Adam 1e-3 with a cosine schedule, the NeuralEF gradient (Deng, Shi and Zhu 2022,
    eq. 18) with the kernel evaluated on the batch.

PyTorch runs it three ways, all eager, and the fastest is the peer:
    loop     ten nn.Sequential models, one after the other, as a straightforward script would
    batched  the ten networks as one, by torch.baddbmm
    fused    as batched, with the fused implementation of Adam

Reported for each side, as medians of runs taken in turn:
    training   the training loop alone
    whole run  start of the process to the saved model; for PyTorch without and with the time that
               importing it takes. neuralef's includes its readout, which PyTorch's has not.
    right      eigenfunctions with |cos| > 0.99 to the population's, by quadrature
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

K, WIDTH, N, BATCH, STEPS, RATE, LENGTHSCALE, HALF_WIDTH = 10, 32, 8192, 256, 2000, 1e-3, 1.0, 2.0
TEST_POINTS = 4096
VARIANTS = ("loop", "batched", "fused")


def peer(variant, data, output, test, threads, seed, steps):
    """One PyTorch run, in a process of its own. Returns its timings and its values at `test`."""
    start = time.perf_counter()
    import numpy as np
    import torch
    from torch import nn

    imported = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)

    class SinCos(nn.Module):
        def forward(self, z):
            a, b = z.chunk(2, dim=-1)
            return torch.cat([a.sin(), b.cos()], dim=-1)

    class Loop(nn.Module):
        """Ten separate networks."""

        def __init__(self):
            super().__init__()
            self.networks = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(1, WIDTH), SinCos(), nn.Linear(WIDTH, WIDTH), SinCos(),
                    nn.Linear(WIDTH, 1),
                )
                for _ in range(K)
            )

        def forward(self, x):
            return torch.cat([network(x) for network in self.networks], dim=1)

    class Batched(nn.Module):
        """The same ten networks as three batched products."""

        def __init__(self):
            super().__init__()
            sizes = [(1, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)]
            self.weights = nn.ParameterList(torch.empty(K, i, o) for i, o in sizes)
            self.biases = nn.ParameterList(torch.empty(K, 1, o) for _, o in sizes)
            for weight, bias, (fan_in, _) in zip(self.weights, self.biases, sizes):
                bound = 1 / math.sqrt(fan_in)
                nn.init.uniform_(weight, -bound, bound)
                nn.init.uniform_(bias, -bound, bound)
            self.activation = SinCos()

        def forward(self, x):
            h = x.expand(K, *x.shape)
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                h = torch.baddbmm(bias, h, weight)
                if layer < 2:
                    h = self.activation(h)
            return h.squeeze(-1).T

    x = torch.from_numpy(np.load(data))
    model = Loop() if variant == "loop" else Batched()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=variant == "fused")
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    identity = torch.eye(K)
    mean_square, momentum = torch.zeros(K), 0.99
    order, cursor = torch.randperm(N), 0

    loop_start, loop_start_cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        if cursor + BATCH > N:
            order, cursor = torch.randperm(N), 0
        batch = x[order[cursor : cursor + BATCH]]
        cursor += BATCH
        h = model(batch)
        square = h.square().mean(0)
        psi = h / square.sqrt()
        with torch.no_grad():
            gram = torch.exp((batch - batch.T).square() * (-0.5 / LENGTHSCALE**2))
            values = psi.detach()
            image = gram @ values
            r = values.T @ image
            # Column j: image_j - sum over i < j of (r_ij / r_ii) image_i.
            direction = image @ (identity - torch.triu(r / r.diagonal()[:, None], 1))
            cotangent = direction * (-2 / BATCH**2)
            mean_square.lerp_(square, 1 - momentum)
        optimiser.zero_grad(set_to_none=True)
        psi.backward(cotangent)
        optimiser.step()
        schedule.step()
    trained, trained_cpu = time.perf_counter(), time.process_time()
    torch.save({"model": model.state_dict(), "mean_square": mean_square}, output)
    done = time.perf_counter()
    with torch.no_grad():
        values = model(torch.from_numpy(np.load(test)))
    np.save(f"{output}.npy", values.numpy())
    return {
        "import_seconds": imported - start,
        "training_seconds": trained - loop_start,
        "training_cpu_seconds": trained_cpu - loop_start_cpu,
        "run_seconds": done - imported,
        "run_with_import_seconds": done - start,
    }


def population(points):
    """The population's eigenfunctions at `points`, by 200-point Gauss-Legendre quadrature."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(200)
    nodes, weights = HALF_WIDTH * nodes, weights / 2
    kernel = lambda a, b: np.exp(-0.5 * ((a[:, None] - b[None, :]) / LENGTHSCALE) ** 2)
    root = np.sqrt(weights)
    values, vectors = np.linalg.eigh(root[:, None] * kernel(nodes, nodes) * root)
    values, vectors = values[::-1][:K], vectors[:, ::-1][:, :K]
    return values, kernel(points, nodes) @ (root[:, None] * vectors) / values


def main():
    from common import cosines, eigenvalues, median, neuralef, parser, require_binary, spread, table

    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--peer-only", action="store_true", help="run only the PyTorch side")
    options.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.child:
        variant, data, output, test = options.child
        report = peer(variant, data, output, test, options.threads, options.seed, options.steps)
        print(json.dumps(report))
        return

    import numpy as np

    binary = None if options.peer_only else require_binary(options.neuralef)
    generator = np.random.default_rng(options.seed)
    draw = lambda n: generator.uniform(-HALF_WIDTH, HALF_WIDTH, (n, 1)).astype(np.float32)
    runs = {name: [] for name in VARIANTS}
    ours = []
    right = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data, test = folder / "x.npy", folder / "test.npy"
        np.save(data, draw(N))
        points = draw(TEST_POINTS)
        np.save(test, points)
        exact_values, exact = population(points[:, 0].astype(np.float64))
        # One round more than asked for: the first, with cold caches, does not count.
        for repeat in range(options.repeats + 1):
            for variant in VARIANTS:
                output = folder / f"{variant}.pt"
                command = [sys.executable, __file__, "--child", variant, data, output, test]
                command += ["--threads", options.threads, "--seed", options.seed]
                command += ["--steps", options.steps]
                start = time.perf_counter()
                done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
                seconds = time.perf_counter() - start
                if done.returncode != 0:
                    sys.exit(f"PyTorch ({variant}) failed:\n{done.stderr}")
                report = json.loads(done.stdout) | {"process_seconds": seconds}
                values = np.load(f"{output}.npy").astype(np.float64)
                right[variant] = int((cosines(values, exact) > 0.99).sum())
                if repeat > 0:
                    runs[variant].append(report)
            if binary is not None:
                model, out = folder / "model.safetensors", folder / "psi.npy"
                network = f"mlp(hidden=[{WIDTH},{WIDTH}], activation=sin_cos)"
                report, seconds = neuralef(
                    binary, "fit", data, "--kernel", f"rbf(lengthscale={LENGTHSCALE})", "-k", K,
                    "--network", network, "--steps", options.steps, "--batch-size", BATCH,
                    "--optimizer", f"adam(lr={RATE})", "--schedule", "cosine",
                    "--seed", options.seed, "--threads", options.threads, "-o", model,
                    "--plot", "none", "--validation", f"uniform(n=1024, d=1, low=-2, high=2, seed={options.seed + 1})",
                )
                neuralef(binary, "transform", model, test, "-o", out, "--eigenfunctions")
                values = np.load(out).astype(np.float64)
                right["neuralef"] = int((cosines(values, exact) > 0.99).sum())
                error = np.abs(eigenvalues(report) / exact_values - 1).max()
                if repeat > 0:
                    ours.append(
                        {
                            "training_seconds": report["timings"]["training_seconds"],
                            "run_seconds": seconds,
                            "largest_relative_eigenvalue_error": error,
                        }
                    )

    column = lambda reports, key: [report[key] for report in reports]
    medians = {
        name: {key: median(column(reports, key)) for key in reports[0]}
        for name, reports in {**runs, "neuralef": ours}.items()
        if reports
    }
    fastest = min(VARIANTS, key=lambda v: medians[v]["training_seconds"])
    result = {
        "repeats": options.repeats,
        "threads": options.threads,
        "steps": options.steps,
        "peer": fastest,
        "medians": medians,
        "right_of_ten": right,
    }
    if ours:
        best, mine = medians[fastest], medians["neuralef"]
        result["ratios"] = {
            "training": best["training_seconds"] / mine["training_seconds"],
            "whole_run": best["run_seconds"] / mine["run_seconds"],
            "whole_run_with_import": best["run_with_import_seconds"] / mine["run_seconds"],
        }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    rows = [
        [
            f"PyTorch, {name}" + (" (the peer)" if name == fastest else ""),
            spread(column(runs[name], "training_seconds")),
            spread(column(runs[name], "run_seconds")),
            spread(column(runs[name], "run_with_import_seconds")),
            right[name],
        ]
        for name in VARIANTS
    ]
    if ours:
        whole = spread(column(ours, "run_seconds"))
        rows.append(
            ["neuralef", spread(column(ours, "training_seconds")), whole, whole, right["neuralef"]]
        )
    print(f"seconds, median (least … largest) of {options.repeats}; {options.threads} threads\n")
    table(["", "training", "whole run", "with import", "right of 10"], rows)
    for name, ratio in result.get("ratios", {}).items():
        print(f"{name.replace('_', ' ')}: PyTorch / neuralef = {ratio:.2f}")


if __name__ == "__main__":
    main()
