"""Writes the goldens that the tests of calibration compare with: scikit-learn's scores, and the
calibration errors by their definitions in NumPy.

    pip install -r benches/peers/goldens/requirements.txt
    python benches/peers/goldens/calibration.py > crates/neuralef/src/calibration/goldens/calibration.json
"""

import json

import numpy as np
import sklearn
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score, roc_curve

rng = np.random.default_rng(0)


def gap(confidence, right):
    return abs(right.mean() - confidence.mean())


def ece(confidence, right, bins):
    """Guo et al. 2017: intervals (l, u] of one width, weighted by their share of points."""
    total = 0.0
    for lower, upper in zip(np.arange(bins) / bins, np.arange(1, bins + 1) / bins):
        inside = (confidence > lower) & (confidence <= upper)
        if inside.any():
            total += inside.mean() * gap(confidence[inside], right[inside])
    return float(total)


def adaptive(confidence, right, bins):
    """Pieces of equal numbers of points in order of confidence."""
    order = np.argsort(confidence, kind="stable")
    pieces = np.array_split(order, bins)
    return float(sum(len(p) / len(order) * gap(confidence[p], right[p]) for p in pieces))


logits = np.round(3 * rng.normal(size=(250, 4)), 6)
labels = np.array([rng.choice(4, p=softmax(0.6 * z)) for z in logits])
p = softmax(logits, axis=1)
confidence, right = p.max(1), p.argmax(1) == labels
nll = lambda t: -log_softmax(logits / t, axis=1)[np.arange(250), labels].mean()
best = minimize_scalar(nll, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-12})
# To the last digits: the zero of the slope in β = 1/T, by Newton's method.
beta = 1 / best.x
for _ in range(5):
    q = softmax(beta * logits, axis=1)
    mean = (q * logits).sum(1)
    slope = (mean - logits[np.arange(250), labels]).mean()
    beta -= slope / ((q * logits**2).sum(1) - mean**2).mean()
classifier = {
    "logits": logits.ravel().tolist(),
    "labels": labels.tolist(),
    "accuracy": float(right.mean()),
    "nll": float(log_loss(labels, p)),
    "brier": float(((p - np.eye(4)[labels]) ** 2).sum(1).mean()),
    "ece15": ece(confidence, right, 15),
    "ece10": ece(confidence, right, 10),
    "adaptive15": adaptive(confidence, right, 15),
    "temperature": float(1 / beta),
    "nll_after": float(nll(1 / beta)),
    "entropy": float(-(p * np.log(p)).sum(1).mean()),
}

detection = []
for n, m, decimals in [(60, 40, 6), (60, 40, 1), (30, 80, 0), (20, 20, 6)]:
    inside = np.round(rng.normal(size=n), decimals)
    outside = np.round(rng.normal(size=m) + 1, decimals)
    scores = np.concatenate([inside, outside])
    out = np.concatenate([np.zeros(n), np.ones(m)])
    fpr, tpr, _ = roc_curve(1 - out, -scores, drop_intermediate=False)
    detection.append({
        "inside": inside.tolist(), "outside": outside.tolist(),
        "auroc": float(roc_auc_score(out, scores)),
        "aupr_out": float(average_precision_score(out, scores)),
        "aupr_in": float(average_precision_score(1 - out, -scores)),
        "fpr95": float(fpr[np.argmax(tpr >= 0.95)]),
    })

print(json.dumps(
    {"sklearn": sklearn.__version__, "classifier": classifier, "detection": detection},
    separators=(",", ":"),
))
