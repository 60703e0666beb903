"""Writes the scikit-learn goldens that the tests of linear models and of clusterings compare with.

    pip install -r benches/peers/goldens/requirements.txt
    python benches/peers/goldens/probe.py > crates/neuralef/src/probe/goldens/probe.json

Features are rounded to single precision, so that both sides start from the same numbers.
"""

import json

import numpy as np
import sklearn
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    confusion_matrix,
    log_loss,
    normalized_mutual_info_score,
)

rng = np.random.default_rng(0)


def rounded(a, digits=12):
    return [float(f"{v:.{digits}g}") for v in np.asarray(a, dtype=float).ravel()]


def blobs(n, k, labels):
    """Overlapping classes, features of very different scales."""
    y = rng.integers(len(labels), size=n)
    centres = rng.normal(size=(len(labels), k))
    x = (centres[y] + rng.normal(size=(n, k))) * 10.0 ** np.linspace(0, -2, k)
    x = np.array([float(f"{v:.7g}") for v in x.ravel()], dtype=np.float32).reshape(n, k)
    return x, np.asarray(labels)[y]


logistic = []
for labels in [[-3, 0, 7], [1, 2], [0, 1, 2, 3, 4]]:
    x, y = blobs(60, 3, labels)
    for c, intercept in [(1.0, True), (0.1, False), (1000.0, True)]:
        model = LogisticRegression(C=c, fit_intercept=intercept, tol=1e-12, max_iter=100000)
        # L-BFGS first, then Newton's method from there to the last digits.
        model.fit(x.astype(float), y)
        model.set_params(solver="newton-cg", warm_start=True, tol=1e-13)
        model.fit(x.astype(float), y)
        p = model.predict_proba(x.astype(float))
        logistic.append({
            "x": rounded(x, 9), "columns": 3, "labels": y.tolist(), "c": c, "intercept": intercept,
            "coefficients": rounded(model.coef_), "intercepts": rounded(model.intercept_),
            "probabilities": rounded(p), "log_loss": float(log_loss(y, p, labels=model.classes_)),
            "accuracy": float(model.score(x, y)),
        })

x, y = load_digits(return_X_y=True)
model = LogisticRegression(C=0.05, tol=1e-12, max_iter=100000).fit(x[:1000] / 16, y[:1000])
p = model.predict_proba(x[1000:] / 16)
digits = {
    "c": 0.05, "norm": float(np.linalg.norm(model.coef_)), "log_loss": float(log_loss(y[1000:], p)),
    "accuracy": float(model.score(x[1000:] / 16, y[1000:])), "probabilities": rounded(p[:5]),
    "inertia": float(KMeans(10, n_init=100, random_state=0, tol=0).fit(x / 16).inertia_),
}

clusterings = []
for n, ka, kb in [(50, 3, 3), (200, 10, 4), (200, 4, 10), (30, 1, 5), (20, 1, 1), (40, 40, 2)]:
    a = rng.integers(ka, size=n)
    b = np.where(rng.random(n) < 0.7, a % kb, rng.integers(kb, size=n))
    table = confusion_matrix(a, b)
    rows, columns = linear_sum_assignment(-table)
    clusterings.append({
        "a": a.tolist(), "b": b.tolist(), "ari": float(adjusted_rand_score(a, b)),
        "nmi": float(normalized_mutual_info_score(a, b)),
        "accuracy": float(table[rows, columns].sum() / n),
    })

print(json.dumps(
    {"sklearn": sklearn.__version__, "logistic": logistic, "digits": digits,
     "clusterings": clusterings},
    separators=(",", ":"),
))
