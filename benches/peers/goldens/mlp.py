"""Writes the PyTorch goldens that the network tests compare with.

    pip install -r benches/peers/goldens/requirements.txt
    python benches/peers/goldens/mlp.py > crates/neuralef/src/nn/goldens/mlp.json

Two separate perceptrons 3-4-6-1 in double precision. Weights, inputs and cotangents are drawn once
(rounded to single precision, so that both sides start from the same numbers) and used with every
activation; the optimisers make three full-batch steps on <cotangent, h> with tanh.
"""

import json

import torch

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
INPUTS, HIDDEN, UNITS, BATCH = 3, [4, 6], 2, 5
WIDTHS = [INPUTS, *HIDDEN, 1]


def single(*shape):
    return torch.randn(*shape, dtype=torch.float32).double()


START = [
    [(single(i, o) * i**-0.5, single(o) * 0.5) for i, o in zip(WIDTHS, WIDTHS[1:])]
    for _ in range(UNITS)
]
# Products such as i**-0.5 leave single precision again.
START = [[(w.float().double(), b.float().double()) for w, b in unit] for unit in START]
X, COTANGENT = single(BATCH, INPUTS), single(BATCH, UNITS)

ACTIVATIONS = {
    "relu": torch.relu,
    "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, 0.01),
    "tanh": torch.tanh,
    "erf": torch.erf,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "sin_cos": lambda z: torch.cat(
        [torch.sin(z[:, : z.shape[1] // 2]), torch.cos(z[:, z.shape[1] // 2 :])], dim=1
    ),
}
OPTIMIZERS = {
    "adam(lr=0.01)": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw(lr=0.01, weight_decay=0.1)": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "sgd(lr=0.01, momentum=0.9)": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "sgd(lr=0.01, momentum=0.9, nesterov=true)": lambda p: torch.optim.SGD(
        p, lr=0.01, momentum=0.9, nesterov=True
    ),
}


def leaves():
    return [[(w.clone().requires_grad_(), b.clone().requires_grad_()) for w, b in u] for u in START]


def network(units, activation):
    columns = []
    for unit in units:
        a = X
        for w, b in unit[:-1]:
            a = activation(a @ w + b)
        w, b = unit[-1]
        columns.append(a @ w + b)
    return torch.cat(columns, dim=1)


def flat(units):
    return [
        [float(f"{v:.10g}") for t in unit for part in t for v in part.detach().flatten().tolist()]
        for unit in units
    ]


def rows(matrix):
    return [float(f"{v:.10g}") for v in matrix.detach().flatten().tolist()]


golden = {
    "torch": torch.__version__,
    "parameters": flat(START),
    "x": rows(X),
    "cotangent": rows(COTANGENT),
    "activations": {},
    "optimizers": {},
}
for name, activation in ACTIVATIONS.items():
    units = leaves()
    h = network(units, activation)
    (h * COTANGENT).sum().backward()
    gradient = [[(w.grad, b.grad) for w, b in unit] for unit in units]
    golden["activations"][name] = {"output": rows(h), "gradient": flat(gradient)}
for name, make in OPTIMIZERS.items():
    units = leaves()
    optimizer = make([t for unit in units for pair in unit for t in pair])
    for _ in range(3):
        optimizer.zero_grad()
        (network(units, torch.tanh) * COTANGENT).sum().backward()
        optimizer.step()
    golden["optimizers"][name] = flat(units)
print(json.dumps(golden, separators=(",", ":")))
