"""NeuralEF beside scikit-learn's Nystroem: fit, transform, and what a linear model makes of the features.

    python bench/nystroem.py [--data DIR] [--threads 2] [--repeats 3]

Both have the same rbf kernel, with the median distance as lengthscale, and the same linear model:
logistic regression or ridge regression on features of unit variance, its penalty chosen on a fifth of the
training points. Rows of equal feature count have Nystroem's landmarks equal to NeuralEF's components; the
row "same time" is the largest Nystroem whose transform takes no longer than that of the NeuralEF above.
Transforms are timed on the test points, by turns, the median of repeats. a9a and kin8nm are read from
DIR/tabular (default: $NEURALEF_DATA, or ../shared/data).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from neuralef import NeuralEF

PENALTIES = [1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]


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
    print("| data | features by | k | fit s | transform µs/point | quality |")
    print("|---|---|--:|--:|--:|--:|")
    with threadpool_limits(limits=options.threads):
        for name, (train, y_train, test, y_test), kind in datasets(Path(options.data)):
            sample = train[np.random.default_rng(0).permutation(len(train))[:2000]]
            squares = ((sample[:, None, :1000] - sample[None, :200]) ** 2).sum(-1)
            gamma = 1 / (2 * np.median(squares[squares > 0]))

            def learned(k, gamma=gamma):
                return NeuralEF(
                    k,
                    kernel="rbf",
                    gamma=float(gamma),
                    random_state=options.seed,
                    n_jobs=options.threads,
                    network="mlp(hidden=[64, 64], activation=sin_cos)"
                    if k <= 10
                    else "shared_mlp(hidden=[512], activation=sin_cos)",
                )

            def landmarks(m, gamma=gamma):
                return Nystroem(n_components=m, gamma=gamma, random_state=options.seed)

            rows = [(f"NeuralEF, {c}", learned(c)) for c in options.components]
            sizes = sorted({*options.components, 100, 300, 1000})
            rows += [("Nystroem", landmarks(m)) for m in sizes if m <= len(train)]
            fitted = []
            for label, estimator in rows:
                seconds, _ = clock(lambda e=estimator, x=train: e.fit(x))
                fitted.append((label, estimator, seconds))
            times = transform_times([e for _, e, _ in fitted], test, options.repeats)
            data = (train, y_train, test, y_test)
            for (label, estimator, took), spent in zip(fitted, times, strict=True):
                show(name, label, estimator, took, spent, data, kind)
                if not label.startswith("NeuralEF"):
                    continue
                low, high = 1, min(3000, len(train))
                while high - low > max(2, low // 20):
                    middle = (low + high) // 2
                    other = landmarks(middle).fit(train)
                    own, theirs = transform_times([estimator, other], test, options.repeats)
                    low, high = (middle, high) if theirs <= own else (low, middle)
                seconds, other = clock(lambda m=low, x=train: landmarks(m).fit(x))
                (theirs,) = transform_times([other], test, options.repeats)
                show(name, f"Nystroem, same time as {label}", other, seconds, theirs, data, kind)


def show(name, label, estimator, seconds, spent, data, kind):
    train, y_train, test, y_test = data
    found = quality(estimator.transform(train), y_train, estimator.transform(test), y_test, kind)
    k = estimator.transform(test[:1]).shape[1]
    per_point = 1e6 * spent / len(test)
    print(
        f"| {name} | {label} | {k} | {seconds:.2f} | {per_point:.1f} | {kind} {found:.4f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
