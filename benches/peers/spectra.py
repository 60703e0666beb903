"""What `fits.py` measures: data sets, exact eigenfunctions, and the errors of the contenders.

Every task is a process of its own: `python spectra.py` reads one JSON object from standard input and
prints one. So a contender's peak memory is its own, and one that is killed takes nothing with it.
"""

import contextlib
import gzip
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from contenders import FITS, gram_matrix, leading, rbf

SAMPLE = 2000  # training points whose median distance is the lengthscale
TRANSFORM = 10_000  # rows that a transform is timed on, at least
TEST = 2000  # held-out points, at most
SMALL = {"train": 1500, "test": 500}  # what `--small` leaves of a data set


# Data sets.


def images(path):
    """Rows of an IDX file of images, in [0, 1]."""
    with gzip.open(path) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    return pixels.reshape(-1, 784).astype(np.float32) / 255


def halved(x, generator):
    """Training and test points of a set without a split: a quarter is held out, 2,000 at most."""
    order, held = generator.permutation(len(x)), min(TEST, len(x) // 4)
    return x[order[held:]], x[order[:held]]


def digits(_, generator):
    return halved(load_digits().data / 16, generator)


def a9a(folder, _):
    table = np.load(folder / "tabular/a9a.npz")
    return table["x_train"], table["x_test"]


def kin8nm(folder, generator):
    train, test = halved(np.load(folder / "tabular/kin8nm.npz")["X"].astype(np.float64), generator)
    mean, scale = train.mean(0), train.std(0)
    return (train - mean) / scale, (test - mean) / scale


def mnist(folder, _):
    return [images(folder / f"mnist/{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]


def mixture(_, generator, rows=1_000_000, width=16, parts=32):
    """Gaussians of different sizes."""
    centres = generator.normal(size=(parts, width))
    scales = generator.uniform(0.2, 0.8, size=parts)
    labels = generator.integers(parts, size=rows + TEST)
    x = generator.standard_normal((rows + TEST, width), dtype=np.float32)
    x = x * scales[labels, None].astype(np.float32) + centres[labels].astype(np.float32)
    return x[:rows], x[rows:]


DATA = {"digits": digits, "a9a": a9a, "kin8nm": kin8nm, "mnist": mnist, "mixture": mixture}


def prepare(task):
    """Writes training and test points, the test points' kernel, and the reference where possible."""
    out, generator = Path(task["out"]), np.random.default_rng(task["seed"])
    train, test = DATA[task["data"]](Path(task["folder"]), generator)
    sizes = SMALL if task["small"] else {"train": len(train), "test": TEST}
    train = train[generator.permutation(len(train))[: sizes["train"]]].astype(np.float32)
    test = test[generator.permutation(len(test))[: sizes["test"]]].astype(np.float32)
    distances = cdist(train[:SAMPLE], train[:SAMPLE], "sqeuclidean")
    gamma = float(1 / (2 * np.median(distances[np.triu_indices(len(distances), 1)])))
    half = len(test) // 2
    np.save(out / "train.npy", train)
    np.save(out / "test.npy", test)
    gram = np.exp(-gamma * cdist(test[:half], test[half : 2 * half], "sqeuclidean"))
    np.save(out / "gram.npy", gram)
    exact = len(train) <= task["exact_rows"]
    if exact:
        reference(train, test, gamma, min(task["k"], len(train)), Path(task["cache"]), out)
    known = {"n": len(train), "width": train.shape[1], "test": len(test), "exact": exact}
    return {**known, "gamma": gamma}


def reference(train, test, gamma, k, cache, out):
    """Exact eigenvalues, and eigenfunctions on the test points, in double precision, kept in `cache`."""
    key = hashlib.sha256(train.tobytes() + test.tobytes() + f"{gamma!r} {k}".encode()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{key[:32]}.npz"
    if not kept.is_file():
        train, test = train.astype(np.float64), test.astype(np.float64)
        values, vectors = leading(gram_matrix(train, gamma), k)
        fresh = kept.with_suffix(f".{os.getpid()}.npz")
        functions = rbf(test, train, gamma) @ (vectors / np.sqrt(values))
        np.savez(fresh, eigenvalues=values / len(train), functions=functions)
        fresh.replace(kept)
    (out / "reference.npz").write_bytes(kept.read_bytes())


# Measures.


def peak():
    """Peak memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def transform_seconds(model, x, repeats=5):
    """Median seconds of a transform of x; the first warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        model.transform(x)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def orthonormal(values):
    """A basis of the columns' span, each first scaled to length 1; zero columns are left out."""
    lengths = np.linalg.norm(values, axis=0)
    return np.linalg.qr(values[:, lengths > 0] / lengths[lengths > 0])[0]


def subspace_error(found, truth):
    """Root mean square sine of the angles between the spans; what was not found counts 1."""
    basis, target = orthonormal(found), orthonormal(truth)
    return np.linalg.norm(target - basis @ (basis.T @ target)) / np.sqrt(target.shape[1])


def mean_cosine(found, truth):
    """Mean |cos| of matching columns; those that were not found count 0."""
    both = min(found.shape[1], truth.shape[1])
    inner = np.abs(np.sum(found[:, :both] * truth[:, :both], axis=0))
    norms = np.linalg.norm(found[:, :both], axis=0) * np.linalg.norm(truth[:, :both], axis=0)
    return np.sum(inner / np.maximum(norms, 1e-300)) / truth.shape[1]


def errors(model, folder, test, k):
    """Errors on held-out points and of eigenvalues; None of what there is no reference for."""
    if model.eigenvalues is None:
        return {}
    found, gram = model.transform(test).astype(np.float64), np.load(folder / "gram.npy")
    half = len(gram)
    difference = found[:half] @ found[half : 2 * half].T - gram
    out = {"gram_error": np.linalg.norm(difference) / np.linalg.norm(gram)}
    if (folder / "reference.npz").is_file():
        exact = np.load(folder / "reference.npz")
        values, truth = exact["eigenvalues"][:k], exact["functions"][:, :k]
        own = np.zeros(len(values))
        own[: len(model.eigenvalues)] = model.eigenvalues[: len(values)]
        out["eigenvalue_error"] = np.max(np.abs(own - values) / values)
        # As many functions as points span everything.
        if 2 * k <= len(test):
            out["subspace_error"] = subspace_error(found, truth)
            out["cosine"] = mean_cosine(found, truth)
    return {name: float(value) for name, value in out.items()}


def run(task):
    """Fits one contender and measures it."""
    folder, k = Path(task["out"]), task["k"]
    train = np.load(folder / "train.npy")[: task["rows"]]
    if task["fit"] == "neuralef":
        importlib.import_module("neuralef")
    square = np.ones((256, 256), np.float32)
    leading(square @ square, 3)
    before, start = peak(), time.perf_counter()
    model = FITS[task["fit"]](train, k, task["m"], task, **task["arguments"])
    seconds, after = time.perf_counter() - start, peak()
    test = np.load(folder / "test.npy")
    many = np.tile(test, (-(-TRANSFORM // len(test)), 1))
    return {
        "fit_seconds": seconds,
        "transform_us": 1e6 * transform_seconds(model, many) / len(many),
        **errors(model, folder, test, k),
        "peak_mib": after,
        "fit_mib": after - before,
        "landmarks": model.m,
        "note": model.note,
    }


def versions(_):
    """Of what takes part, and the machine."""
    found = {"Python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "neuralef"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            with contextlib.suppress(ImportError):
                found[name] = getattr(importlib.import_module(name), "__version__", "unknown")
    return {"versions": found, "machine": platform.machine(), "cores": os.cpu_count()}


TASKS = {"prepare": prepare, "run": run, "versions": versions}


def main():
    task = json.load(sys.stdin)
    try:
        result = TASKS[task["task"]](task)
    except Exception as error:  # noqa: BLE001
        # Any failure of a contender is what its row says.
        lines = str(error).strip().splitlines() or [""]
        result = {"error": f"{type(error).__name__}: {lines[0]}"}
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
