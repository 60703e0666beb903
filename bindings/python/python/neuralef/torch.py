"""Features Φ of kernels that PyTorch networks define, by torch.func (``pip install neuralef[torch]``).

Samples go to ``.npy`` files row by row, so that they need not fit in memory, and from there by their path to
``NeuralEF(...).fit(X, features=path)`` or ``neuralef fit --features``.
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


#: Numbers of directions that are held at a time, about: 128 MiB.
_HELD = 1 << 25


def _rows(x: Any) -> Any:
    return torch.as_tensor(x)


def _output(path: str | os.PathLike[str] | None, shape: tuple[int, int]) -> NDArray[np.float32]:
    if path is None:
        return np.empty(shape, dtype=np.float32)
    mapped: NDArray[np.float32] = np.lib.format.open_memmap(
        os.fspath(path) + ".part", mode="w+", dtype=np.float32, shape=shape
    )
    return mapped


def _finish(out: NDArray[np.float32], path: str | os.PathLike[str] | None) -> NDArray[np.float32]:
    if path is None:
        return out
    assert isinstance(out, np.memmap)
    out.flush()
    name = os.fspath(path)
    os.replace(name + ".part", name)
    stored: NDArray[np.float32] = np.load(name, mmap_mode="r")
    return stored


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
    first = int(np.random.SeedSequence(random_state).generate_state(1)[0])
    size = sum(p.numel() for p in parameters.values())
    together = max(1, min(64, _HELD // max(1, size), 1024 // batch_size))

    def direction(sample: int) -> dict[str, torch.Tensor]:
        # Drawn anew for every block of points: all directions together are S times the network. Torch's
        # generator looks at 32 bits of its seed.
        generator.manual_seed((first + sample) % 2**32)
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
    _positive("x", len(points))
    like = next(iter(parameters.values()), None)
    if like is not None and points.is_floating_point():
        points = points.to(like)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    out: NDArray[np.float32] | None = None
    try:
        for start in range(0, len(points), batch_size):
            block = points[start : start + batch_size]

            def network(own: dict[str, torch.Tensor], block: Any = block) -> torch.Tensor:
                found = torch.func.functional_call(module, {**own, **buffers}, (block,))
                return found.reshape(len(block), -1)

            def derivative(
                tangent: dict[str, torch.Tensor], network: Any = network
            ) -> torch.Tensor:
                found: torch.Tensor = torch.func.jvp(network, (parameters,), (tangent,))[1]
                return found

            parts = []
            for low in range(0, n_samples, together):
                some = [direction(s) for s in range(low, min(low + together, n_samples))]
                stacked = {name: torch.stack([d[name] for d in some]) for name in parameters}
                found = torch.func.vmap(derivative)(stacked)
                parts.append(found.detach().cpu().numpy().reshape(len(some), -1))
            rows = np.concatenate(parts).T
            c = len(rows) // len(block)
            if out is None:
                out = _output(path, (len(points) * c, n_samples))
            out[start * c : start * c + len(rows)] = rows
    finally:
        for part, training in modes:
            part.training = training
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
    _positive("x", len(points))
    if points.is_floating_point():
        points = points.to(torch.get_default_dtype())
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
        what = "at least one point" if name == "x" else "a whole number ≥ 1"
        raise ValueError(f"{name}: expected {what}, got {value}")
