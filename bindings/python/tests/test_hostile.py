"""Whatever comes in, what comes out is a result or one of four errors that names the parameter."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import neuralef
from neuralef import _core

ALLOWED = (ValueError, TypeError, np.linalg.LinAlgError, OSError)
# The same examples in every run: a gate is no place for surprises. Raise the number to look for some.
hostile = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
values = st.one_of(
    st.floats(width=64, allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e-45, 1e-300, 1e38, 3.5e38, 1e300, -1e300]),
)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    values,
    st.text(max_size=20),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=1),
)
KINDS = ["NeuralEF", "Nystroem", "RandomFourierFeatures", "PositiveFeatures", "KernelPCA"]


def attempt(work, *names):
    """What the work gives, or None for an error that names one of ``names``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return work()
        except ALLOWED as error:
            assert str(error)
            assert not names or any(name in str(error) for name in names), str(error)
            return None


def make(kind, **parameters):
    if kind == "NeuralEF":
        parameters = {"max_iter": 2, "network": "shared_mlp(hidden=[8])", **parameters}
    return getattr(neuralef, kind)(**{"n_components": 2, "n_jobs": 1, **parameters})


@pytest.mark.parametrize("kind", KINDS)
@hostile
@given(x=arrays(np.float64, array_shapes(min_dims=1, max_dims=3, max_side=24), elements=values))
def test_any_array(kind, x):
    found = attempt(lambda: make(kind).fit(x).transform(x))
    assert found is None or np.isfinite(found).all()


@pytest.mark.parametrize("kind", KINDS)
@hostile
@given(data=st.data())
def test_any_parameter(kind, data):
    model = make(kind)
    name = data.draw(st.sampled_from(sorted(model.get_params())))
    value = data.draw(anything)
    X = np.random.default_rng(0).normal(size=(30, 2))
    # What a tiny lengthscale or two of one feature run into has names of its own.
    near = ["kernel", "n_components", "frequencies", "memory_budget"]
    found = attempt(lambda: model.set_params(**{name: value}).fit(X).transform(X), name, *near)
    assert found is None or np.isfinite(found).all()


@hostile
@given(text=st.text(alphabet="rbfmatern()=,*+0123456789.e-_ lengthscale[]", max_size=40))
def test_any_kernel_text(text):
    X = np.random.default_rng(0).normal(size=(20, 2))
    attempt(lambda: neuralef.kernel_matrix(text, X))
    attempt(lambda: neuralef.Nystroem(2, kernel=text).fit(X))


@hostile
@given(raw=st.binary(max_size=200))
def test_any_bytes_as_a_model(raw, tmp_path):
    for kind in [_core.Model, _core.Laplace, _core.SpectralStein]:
        with pytest.raises(ValueError, match="not a usable neuralef file"):
            kind.from_bytes(raw)
    path = tmp_path / "file"
    path.write_bytes(raw)
    for kind in [neuralef.NeuralEF, neuralef.Laplace, neuralef.ScoreEstimator]:
        with pytest.raises(ValueError, match="file"):
            kind.load(path)


@pytest.mark.parametrize("at", [8, 100, 1000, -20])
def test_damaged_models(at):
    X = np.random.default_rng(0).normal(size=(30, 2))
    raw = bytearray(make("NeuralEF").fit(X)._model.to_bytes())
    raw[at] ^= 0xFF
    attempt(lambda: _core.Model.from_bytes(bytes(raw)))
    with pytest.raises(ValueError, match="not a usable"):
        _core.Model.from_bytes(bytes(raw[:at]))


@pytest.mark.parametrize("kind", KINDS)
def test_errors_have_the_class_and_name_the_parameter(kind, tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(ValueError, match="NaN"):
        make(kind).fit(np.where(X > 2, np.nan, X) * [np.nan, 1])
    with pytest.raises(ValueError, match="beyond single precision"):
        make(kind).fit(X * 1e200)
    with pytest.raises(ValueError, match="kernel: unknown kernel `rbg`, did you mean `rbf`"):
        make(kind, kernel="rbg").fit(X)
    with pytest.raises(ValueError, match="'n_components' parameter"):
        make(kind, n_components=0).fit(X)
    with pytest.raises(ValueError, match="lengthscale"):
        make(kind, kernel="rbf(lengthscale=-1)").fit(X)
    with pytest.raises(ValueError, match="memory_budget"):
        make(kind, n_components=30_000, memory_budget=1).fit(np.tile(X, (1500, 1)))
    with pytest.raises(ValueError, match="4 samples"):
        make(kind).fit(X[:3])
    model = make(kind).fit(X)
    with pytest.raises(ValueError, match="features"):
        model.transform(X[:, :1])
    with pytest.raises(FileNotFoundError, match=r"nowhere"):
        model.save(tmp_path / "nowhere" / "m")
    with pytest.raises(FileNotFoundError):
        type(model).load(tmp_path / "nothing")
    with pytest.raises((OSError, ValueError), match="directory"):
        type(model).load(tmp_path)


def test_divergence_is_an_error_of_linear_algebra():
    X = np.random.default_rng(0).normal(size=(60, 2))
    model = neuralef.NeuralEF(2, max_iter=50, optimizer="sgd", learning_rate=1e30, readout="none")
    with pytest.raises(np.linalg.LinAlgError, match="diverged"):
        model.fit(X)


def test_text_parameters_name_themselves():
    X = np.random.default_rng(0).normal(size=(60, 2))
    for name, value, word in [
        ("network", "mpl", "network"),
        ("objective", "neural", "objective"),
        ("optimizer", "adaam", "optimizer"),
        ("schedule", "cosinus", "schedule"),
    ]:
        with pytest.raises(ValueError, match=word):
            neuralef.NeuralEF(2, max_iter=1, **{name: value}).fit(X)
