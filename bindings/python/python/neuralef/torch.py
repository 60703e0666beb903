"""Features Φ of kernels that PyTorch networks define, by torch.func (``pip install neuralef[torch]``).

Samples go to ``.npy`` files row by row, so that they need not fit in memory, and from there to
``NeuralEF(...).fit(X, features=…)`` or ``neuralef fit --features``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import torch
except ImportError as error:
    raise ImportError("neuralef.torch needs PyTorch: pip install neuralef[torch]") from error

__all__ = ["nngp_features", "ntk_features"]


def _rows(x: Any) -> Any:
    return torch.as_tensor(x)


def _output(path: str | os.PathLike[str] | None, shape: tuple[int, int]) -> NDArray[np.float32]:
    if path is None:
        return np.empty(shape, dtype=np.float32)
    return np.lib.format.open_memmap(
        os.fspath(path) + ".part", mode="w+", dtype=np.float32, shape=shape
    )


def _finish(out: NDArray[np.float32], path: str | os.PathLike[str] | None) -> NDArray[np.float32]:
    if path is None:
        return out
    assert isinstance(out, np.memmap)
    out.flush()
    name = os.fspath(path)
    os.replace(name + ".part", name)
    return np.load(name, mmap_mode="r")


def ntk_features(
    module: torch.nn.Module,
    x: Any,
    *,
    n_samples: int = 1000,
    path: str | os.PathLike[str] | None = None,
    batch_size: int = 256,
    distribution: str = "rademacher",
    random_state: int = 0,
) -> NDArray[np.float32]:
    """Features of the neural tangent kernel of a trained network: derivatives along random directions.

    Φ = J(x)v_s for S random directions v in parameters, so that ΦΦᵀ/S → J(x)J(x')ᵀ; exact derivatives,
    by forward mode. The standard error of an entry of the kernel is about √(κ(x,x)κ(x',x')/S).

    Parameters
    ----------
    module : torch.nn.Module
        The network, in evaluation mode (as it is after ``module.eval()``); it is not changed.
    x : tensor or array of shape (n, …)
        Points as the network takes them.
    n_samples : int, default=1000
        S.
    path : path-like, default=None
        A ``.npy`` file to stream to; None: in memory.
    batch_size : int, default=256
        Points at a time.
    distribution : {"rademacher", "gaussian"}, default="rademacher"
    random_state : int, default=0

    Returns
    -------
    features : ndarray of shape (n · C, S)
        Rows for (point, output), C outputs; memory-mapped when there is a path.
    """
    if distribution not in {"rademacher", "gaussian"}:
        raise ValueError(f"distribution: expected rademacher or gaussian, got {distribution!r}")
    _positive("n_samples", n_samples)
    _positive("batch_size", batch_size)
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    buffers = {name: b.detach() for name, b in module.named_buffers()}
    generator = torch.Generator()

    def direction(sample: int) -> dict[str, torch.Tensor]:
        # Drawn anew for every block of points: all directions together are S times the network.
        generator.manual_seed(random_state + (sample << 32))
        drawn = {}
        for name, like in parameters.items():
            shape = tuple(like.shape)
            if distribution == "gaussian":
                values = torch.randn(shape, generator=generator)
            else:
                values = torch.randint(0, 2, shape, generator=generator) * 2.0 - 1.0
            drawn[name] = values.to(like)
        return drawn

    points = _rows(x)
    was_training = module.training
    module.eval()
    out: NDArray[np.float32] | None = None
    try:
        for start in range(0, len(points), batch_size):
            block = points[start : start + batch_size]

            def network(own: dict[str, torch.Tensor], block: Any = block) -> torch.Tensor:
                found = torch.func.functional_call(module, {**own, **buffers}, (block,))
                return found.reshape(len(block), -1)

            columns = []
            for sample in range(n_samples):
                _, derivative = torch.func.jvp(network, (parameters,), (direction(sample),))
                columns.append(derivative.detach().cpu().numpy().reshape(-1))
            rows = np.stack(columns, axis=1)
            c = len(rows) // len(block)
            if out is None:
                out = _output(path, (len(points) * c, n_samples))
            out[start * c : start * c + len(rows)] = rows
    finally:
        module.train(was_training)
    assert out is not None
    return _finish(out, path)


def nngp_features(
    make: Callable[[], torch.nn.Module],
    x: Any,
    *,
    n_samples: int = 1000,
    path: str | os.PathLike[str] | None = None,
    batch_size: int = 256,
    random_state: int = 0,
) -> NDArray[np.float32]:
    """Features of the NN-GP kernel of an architecture: outputs of random networks.

    Φ has the outputs of S networks as ``make`` initialises them, so that ΦΦᵀ/S is the covariance of an
    output over initialisations. Every output of a network is a sample of its own.

    Parameters
    ----------
    make : callable
        Gives a network with new random weights, such as ``lambda: MyNet()``.
    x : tensor or array of shape (n, …)
        Points as the networks take them.
    n_samples : int, default=1000
        Networks.
    path, batch_size, random_state
        As in :func:`ntk_features`; the state of torch's generator is put back.

    Returns
    -------
    features : ndarray of shape (n, n_samples · C)
        Memory-mapped when there is a path.
    """
    _positive("n_samples", n_samples)
    _positive("batch_size", batch_size)
    points = _rows(x)
    state = torch.get_rng_state()
    out: NDArray[np.float32] | None = None
    try:
        torch.manual_seed(random_state)
        with torch.no_grad():
            for s in range(n_samples):
                network = make().eval()
                for start in range(0, len(points), batch_size):
                    block = points[start : start + batch_size]
                    found = network(block).reshape(len(block), -1)
                    c = found.shape[1]
                    if out is None:
                        out = _output(path, (len(points), n_samples * c))
                    out[start : start + len(block), s * c : (s + 1) * c] = found.cpu().numpy()
    finally:
        torch.set_rng_state(state)
    assert out is not None
    return _finish(out, path)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: expected a whole number ≥ 1, got {value}")
