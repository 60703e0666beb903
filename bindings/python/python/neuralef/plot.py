"""Pictures of fitted estimators, by matplotlib (``pip install neuralef[plot]``).

Every function draws into ``ax``, or into a new figure, and returns the axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from neuralef._base import EigenFeatures, KernelFeatures


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("neuralef.plot needs matplotlib: pip install neuralef[plot]") from error
    return plt


def _expect_eigenpairs(estimator: Any) -> None:
    check_is_fitted(estimator)
    if not hasattr(estimator, "eigenvalues_") or not hasattr(estimator, "eigenfunctions"):
        raise ValueError(f"estimator: {type(estimator).__name__} has no eigenfunctions")


def spectrum(estimator: EigenFeatures, *, ax: Any = None) -> Any:
    """Draw the eigenvalues with their standard errors, on a logarithmic scale.

    Parameters
    ----------
    estimator : fitted NeuralEF, Nystroem or KernelPCA
    ax : matplotlib Axes, default=None

    Returns
    -------
    ax : matplotlib Axes
    """
    _expect_eigenpairs(estimator)
    if ax is None:
        _, ax = _pyplot().subplots(layout="constrained")
    values, errors = estimator.eigenvalues_, estimator.eigenvalue_errors_
    index = np.arange(1, len(values) + 1)
    # An error as large as the value would reach zero, which has no place on this scale.
    below = np.minimum(errors, 0.99 * values)
    ax.errorbar(index, values, yerr=[below, errors], fmt="o", capsize=3)
    ax.set(yscale="log", xlabel="component", ylabel="eigenvalue")
    if len(values) <= 20:
        ax.set_xticks(index)
    return ax


def eigenfunctions(
    estimator: EigenFeatures,
    X: ArrayLike,
    *,
    components: int | None = None,
    resolution: int = 100,
    ax: Any = None,
) -> Any:
    """Draw eigenfunctions over points of one or two columns.

    One column: curves over the range of X, with the points below. Two: one panel of contours for each
    component, with the points on them.

    Parameters
    ----------
    estimator : fitted NeuralEF, Nystroem or KernelPCA
    X : array-like of shape (n_samples, 1 or 2)
    components : int, default=None
        How many; None: up to 6.
    resolution : int, default=100
        Points on each axis of the grid.
    ax : Axes, or array of Axes (two columns), default=None

    Returns
    -------
    ax : Axes, or ndarray of Axes for two columns
    """
    _expect_eigenpairs(estimator)
    x: NDArray[Any] = check_array(X, dtype=np.float64)
    d = x.shape[1]
    if d not in {1, 2}:
        raise ValueError(f"X: expected 1 or 2 columns, got {d}")
    k = min(components or 6, estimator.n_components_)
    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.05 * np.maximum(high - low, 1e-12)
    axes = [np.linspace(a, b, resolution) for a, b in zip(low - margin, high + margin, strict=True)]
    if d == 1:
        if ax is None:
            _, ax = _pyplot().subplots(layout="constrained")
        values = estimator.eigenfunctions(axes[0][:, None])
        for j in range(k):
            ax.plot(axes[0], values[:, j], label=f"ψ{j + 1}, μ = {estimator.eigenvalues_[j]:.3g}")
        ax.plot(x[:, 0], np.full(len(x), ax.get_ylim()[0]), "|", color="0.5", alpha=0.3)
        ax.set(xlabel="x", ylabel="ψ(x)")
        ax.legend(fontsize="small")
        return ax
    if ax is None:
        columns = min(k, 3)
        rows = -(-k // columns)
        _, ax = _pyplot().subplots(
            rows, columns, figsize=(3 * columns, 2.8 * rows), layout="constrained", squeeze=False
        )
    panels = np.asarray(ax).ravel()
    if len(panels) < k:
        raise ValueError(f"ax: expected {k} axes, got {len(panels)}")
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    values = estimator.eigenfunctions(grid.reshape(-1, 2)).reshape(resolution, resolution, -1)
    for j, panel in enumerate(panels):
        if j >= k:
            panel.set_axis_off()
            continue
        most = np.abs(values[..., j]).max() or 1.0
        levels = np.linspace(-most, most, 21)
        panel.contourf(*axes, values[..., j], levels=levels, cmap="RdBu_r")
        panel.plot(*x.T, ".", color="k", markersize=1, alpha=0.4)
        panel.set_title(f"ψ{j + 1}, μ = {estimator.eigenvalues_[j]:.3g}", fontsize="small")
    return np.asarray(ax)


def embedding(
    estimator: KernelFeatures,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    components: tuple[int, ...] = (0, 1),
    ax: Any = None,
) -> Any:
    """Draw points by two (or three) of their features, coloured by ``y``.

    Parameters
    ----------
    estimator : any fitted estimator of features
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), default=None
        Labels or numbers.
    components : tuple of 2 or 3 ints, default=(0, 1)
        Which features, from 0.
    ax : matplotlib Axes, default=None

    Returns
    -------
    ax : matplotlib Axes
    """
    if len(components) not in {2, 3}:
        raise ValueError(f"components: expected 2 or 3 of them, got {len(components)}")
    check_is_fitted(estimator)
    bad = [c for c in components if not 0 <= c < estimator.n_components_]
    if bad:
        raise ValueError(
            f"components: expected numbers from 0 to {estimator.n_components_ - 1}, got {bad[0]}"
        )
    features = np.asarray(estimator.transform(X))[:, list(components)]
    names = None
    if y is not None and not np.issubdtype(np.asarray(y).dtype, np.number):
        names, y = np.unique(np.asarray(y), return_inverse=True)
    if ax is None:
        projection = "3d" if len(components) == 3 else None
        _, ax = _pyplot().subplots(layout="constrained", subplot_kw={"projection": projection})
    drawn = ax.scatter(*features.T, c=y, s=8, cmap="tab10" if _few(y) else "viridis")
    for axis, component in zip("xyz", components, strict=False):
        getattr(ax, f"set_{axis}label")(f"φ{component + 1}")
    if y is not None and _few(y):
        handles, labels = drawn.legend_elements()
        ax.legend(handles, labels if names is None else names, fontsize="small")
    return ax


def _few(y: ArrayLike | None) -> bool:
    if y is None:
        return False
    values = np.asarray(y)
    return bool(np.issubdtype(values.dtype, np.integer) and len(np.unique(values)) <= 10)
