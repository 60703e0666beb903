"""Writes neural-tangents' values of nngp, ntk, cnn_gp and cntk, which the kernels' tests compare with.

    pip install -r benches/peers/goldens/requirements-kernels.txt
    python benches/peers/goldens/infinite_kernels.py \
        > crates/neuralef/src/kernel/infinite/goldens/infinite.json

Double precision, neural-tangents' "ntk" parameterisation: weights N(0, W_std²/fan_in), biases
N(0, b_std²), fan_in the whole window also where padding cuts it, as here. Points are rounded to
single precision, so that both sides start from the same numbers, and images are given by channel,
row and column, as rows of data are here; neural-tangents takes them by row, column and channel. A
convolution of stride 2 with padding "SAME" has the odd sizes at which JAX pads both sides alike.

Each point is compared with other points only: neural-tangents takes the angle of a point with
itself from a cosine, which is 1e-8 off in double precision.
"""

import json
import math
import sys

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import neural_tangents as nt  # noqa: E402
from neural_tangents import stax  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHTS, BIASES = [1.5, 2.0, 1.2, 0.8, 1.7], [0.3, 0.1, 0.2, 0.05, 0.0]

ACTIVATIONS = {
    "relu": stax.Relu,
    # The networks' leak is in single precision.
    "leaky_relu": lambda: stax.LeakyRelu(float(np.float32(0.01))),
    "erf": stax.Erf,
    "gelu": stax.Gelu,
    # E sin(u + π/4)sin(v + π/4) = ½E cos(u − v), and so for the derivatives: half sin, half cos.
    "sin_cos": lambda: stax.Sin(c=math.pi / 4),
}


def dense(l):
    return stax.Dense(1, W_std=WEIGHTS[l] ** 0.5, b_std=BIASES[l] ** 0.5)


def fully_connected(depth, name):
    layers = []
    for l in range(depth):
        layers += [dense(l), ACTIVATIONS[name]()]
    return stax.serial(*layers, dense(depth))


def convolutional(kernels, strides, padding, pools, average, hidden, name):
    layers = []
    for l, (k, s, p) in enumerate(zip(kernels, strides, pools)):
        layers.append(
            stax.Conv(1, (k, k), (s, s), padding, WEIGHTS[l] ** 0.5, BIASES[l] ** 0.5)
        )
        layers.append(ACTIVATIONS[name]())
        if p > 1:
            layers.append(stax.AvgPool((p, p), strides=(p, p)))
    layers.append(stax.GlobalAvgPool() if average else stax.Flatten())
    for l in range(len(kernels), len(kernels) + hidden):
        layers += [dense(l), ACTIVATIONS[name]()]
    return stax.serial(*layers, dense(len(kernels) + hidden))


def variances(count):
    return f"weight_var={WEIGHTS[:count]}, bias_var={BIASES[:count]}"


POINTS = {}


def points(shape):
    """Three points and two others, by channel, row and column."""
    key = "x".join(map(str, shape))
    if key not in POINTS:
        size = math.prod(shape)
        draw = RNG.uniform(-1.5, 1.5, (5, size)).astype(np.float32)
        # A blank corner, as many images have.
        draw[:, : size // 5] *= len(shape) == 1
        POINTS[key] = draw
    return key, POINTS[key][:3].astype(np.float64), POINTS[key][3:].astype(np.float64)


CASES = []


def case(network, shape, texts):
    kernel = network[2]
    key, x, y = points(shape)
    if len(shape) == 3:
        h, w, c = shape
        x, y = (v.reshape(-1, c, h, w).transpose(0, 2, 3, 1) for v in (x, y))
    values = kernel(x, y, ("nngp", "ntk"))
    for kind, text in zip(("nngp", "ntk"), texts):
        rows = np.asarray(getattr(values, kind)).flatten().tolist()
        CASES.append({"kernel": text, "points": key, "values": rows})


for name in ACTIVATIONS:
    for depth in (1, 3):
        rest = f"(depth={depth}, activation={name}, {variances(depth + 1)})"
        case(fully_connected(depth, name), (4,), ["nngp" + rest, "ntk" + rest])

# (image, kernels, strides, padding, pools, average, hidden)
SHAPES = [
    ((4, 5, 2), [3, 3], [1, 1], "same", [1, 1], False, 0),
    ((4, 5, 2), [2, 3], [1, 1], "same", [1, 1], False, 1),
    ((6, 6, 1), [3, 3], [1, 1], "valid", [1, 1], False, 0),
    ((5, 5, 2), [3, 3], [2, 2], "same", [1, 1], False, 0),
    ((6, 6, 1), [3, 2], [2, 1], "valid", [1, 1], False, 0),
    ((6, 6, 1), [3, 3], [1, 1], "same", [2, 1], False, 0),
    ((6, 6, 1), [3, 3, 3], [1, 1, 1], "same", [2, 1, 3], False, 1),
    ((5, 5, 2), [3, 3], [1, 2], "same", [1, 1], True, 0),
    ((6, 6, 1), [5, 3], [1, 1], "same", [2, 1], True, 1),
]
for name in ACTIVATIONS:
    for image, kernels, strides, padding, pools, average, hidden in SHAPES:
        readout = "average" if average else "flatten"
        rest = (
            f"(image={list(image)}, kernel={kernels}, stride={strides}, padding={padding}, "
            f"pool={pools}, readout={readout}, hidden={hidden}, activation={name}, "
            f"{variances(len(kernels) + hidden + 1)})"
        )
        network = convolutional(kernels, strides, padding.upper(), pools, average, hidden, name)
        case(network, image, ["cnn_gp" + rest, "cntk" + rest])

json.dump(
    {
        "neural_tangents": nt.__version__,
        "jax": jax.__version__,
        "points": {key: [float(v) for v in draw.flatten()] for key, draw in POINTS.items()},
        "cases": CASES,
    },
    sys.stdout,
    separators=(",", ":"),
)
print()
