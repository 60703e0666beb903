"""NeuralEF and Nystroem beside scikit-learn's: fit, transform, and what a linear model makes of the features.

    python bench/nystroem.py [--data DIR] [--threads 2] [--repeats 3]

All have the same rbf kernel, with the median distance as lengthscale, and the same linear model:
logistic regression or ridge regression on features of unit variance, its penalty chosen on a fifth of the
training points. scikit-learn's Nystroem with m landmarks is there in two forms: its m features as they are,
and the best k of them, by the eigenproblem of their second moments over all training points: the strong
form. m is what neuralef.Nystroem takes by itself, 300 and 1,000; in the row "same time" it is the largest
whose k features take no longer to transform than those of the NeuralEF above. Transforms are timed on the
test points, by turns, the median of repeats. a9a and kin8nm are read from DIR/tabular (default:
$NEURALEF_DATA, or ../shared/data).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from scipy.linalg import eigh
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem as TheirNystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from neuralef import NeuralEF, Nystroem

PENALTIES = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]
LANDMARKS = [300, 1000]


def datasets(folder: Path):
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:1347], order[1347:]
    yield "digits", (X[train] / 16, y[train], X[test] / 16, y[test]), "accuracy"
    if not (folder / "tabular").is_dir():
        print(f"no data at {folder / 'tabular'}: digits only")
        return
    a9a = np.load(folder / "tabular/a9a.npz")
    parts = [a9a[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    parts[0], parts[2] = parts[0].astype(np.float32), parts[2].astype(np.float32)
    yield "a9a", tuple(parts), "accuracy"
    kin = np.load(folder / "tabular/kin8nm.npz")
    test = kin["test_mask"][0].astype(bool)
    X, y = kin["X"].astype(np.float64), kin["y"].ravel().astype(np.float64)
    X = (X - X[~test].mean(0)) / X[~test].std(0)
    yield "kin8nm", (X[~test], y[~test], X[test], y[test]), "R²"


def best_of_landmarks(X, k, **parameters):
    """scikit-learn's Nystroem whose projection is on the best k of its features over all points."""
    made = TheirNystroem(**parameters).fit(X)
    # By blocks, so that only the moments grow with the landmarks.
    blocks = (X[start : start + 2048] for start in range(0, len(X), 2048))
    moments = sum(features.T @ features for features in map(made.transform, blocks))
    m = len(moments)
    _, vectors = eigh(moments, subset_by_index=(max(m - k, 0), m - 1))
    made.normalization_ = vectors.T[::-1] @ made.normalization_
    return made


def quality(train, y_train, test, y_test, kind):
    """Of the linear model, its penalty chosen on the last fifth of the training points."""
    cut = len(train) * 4 // 5

    def model(penalty):
        classifier = LogisticRegression(C=1 / penalty, max_iter=300)
        linear = classifier if kind == "accuracy" else Ridge(penalty)
        return make_pipeline(StandardScaler(), linear)

    scores = [
        model(p).fit(train[:cut], y_train[:cut]).score(train[cut:], y_train[cut:])
        for p in PENALTIES
    ]
    best = PENALTIES[int(np.argmax(scores))]
    return model(best).fit(train, y_train).score(test, y_test)


def clock(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def transform_times(estimators, X, repeats):
    """Median seconds of each, by turns; the first turn warms up."""
    times = [[] for _ in estimators]
    for turn in range(repeats + 1):
        for estimator, own in zip(estimators, times, strict=True):
            seconds, _ = clock(lambda e=estimator: e.transform(X))
            if turn:
                own.append(seconds)
    return [float(np.median(own)) for own in times]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("NEURALEF_DATA", "../shared/data")
    options.add_argument("--data", type=Path, default=default)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--components", type=int, nargs="+", default=[10, 100])
    options = options.parse_args()
    print(f"{options.threads} threads, seed {options.seed}\n")
    print("| data | features by | k | landmarks | fit s | transform µs/point | quality |")
    print("|---|---|--:|--:|--:|--:|--:|")
    with threadpool_limits(limits=options.threads):
        for name, data, kind in datasets(Path(options.data)):
            compare(name, data, kind, options)


def compare(name, data, kind, options):
    train, test = data[0], data[2]
    sample = train[np.random.default_rng(0).permutation(len(train))[:2000]]
    squares = ((sample[:, None, :1000] - sample[None, :200]) ** 2).sum(-1)
    gamma = float(1 / (2 * np.median(squares[squares > 0])))
    theirs = {"gamma": gamma, "random_state": options.seed}
    ours = {**theirs, "n_jobs": options.threads}
    fitted = []

    def fit(label, work, *arguments):
        seconds, estimator = clock(lambda: work(*arguments))
        fitted.append((label, estimator, seconds))
        return estimator

    def best(k, m):
        return best_of_landmarks(train, k, n_components=m, **theirs)

    for k in options.components:
        learned = fit("NeuralEF", NeuralEF(k, **ours).fit, train)
        taken = fit("neuralef.Nystroem", Nystroem(k, **ours).fit, train).n_landmarks_
        for m in sorted({taken, *LANDMARKS}):
            if k <= m <= len(train):
                fit("scikit-learn, best k of m", best, k, m)
        low, high = k, min(3000, len(train))
        while high - low > max(2, low // 20):
            middle = (low + high) // 2
            own, other = transform_times([learned, best(k, middle)], test, options.repeats)
            low, high = (middle, high) if other <= own else (low, middle)
        fit("scikit-learn, best k of m, same time", best, k, low)
    for m in sorted({*options.components, *LANDMARKS}):
        if m <= len(train):
            fit("scikit-learn, m features", TheirNystroem(n_components=m, **theirs).fit, train)
    times = transform_times([estimator for _, estimator, _ in fitted], test, options.repeats)
    for (label, estimator, took), spent in zip(fitted, times, strict=True):
        show(name, label, estimator, took, spent, data, kind)


def show(name, label, estimator, seconds, spent, data, kind):
    train, y_train, test, y_test = data
    found = quality(estimator.transform(train), y_train, estimator.transform(test), y_test, kind)
    k = estimator.transform(test[:1]).shape[1]
    m = getattr(estimator, "n_landmarks_", None) or len(getattr(estimator, "components_", []))
    per_point = 1e6 * spent / len(test)
    print(
        f"| {name} | {label} | {k} | {m or '–'} | {seconds:.2f} | {per_point:.1f} "
        f"| {kind} {found:.4f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
