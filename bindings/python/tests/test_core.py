"""The seam to the core: text forms, parameters of kernels, errors with fields."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import pairwise

import neuralef
from neuralef import KernelPCA, NeuralEF, Nystroem, RandomFourierFeatures, _core, catalogue

SHARED = {"lengthscale": 0.75, "gamma": 0.75, "degree": 2, "coef0": 0.5}
# Whose own coef0 is 0, and scikit-learn's has none.
NOT_SHARED = {("linear", "coef0")}


@pytest.fixture
def X():
    return np.random.default_rng(0).uniform(0.1, 1.0, size=(40, 3))


@pytest.mark.parametrize(
    ("kernel", "parameter"),
    [
        (kernel, parameter)
        for kernel, entry in catalogue()["kernels"].items()
        for parameter in SHARED
        if parameter in entry["parameters"] and (kernel, parameter) not in NOT_SHARED
    ],
)
def test_every_kernel_takes_its_parameters_from_the_estimator(kernel, parameter, X):
    value = SHARED[parameter]
    found = KernelPCA(2, kernel=kernel, **{parameter: value}).fit(X)
    expected = KernelPCA(2, kernel=f"{kernel}({parameter}={value})").fit(X)
    assert found.kernel_ == expected.kernel_
    np.testing.assert_array_equal(found.eigenvalues_, expected.eigenvalues_)
    default = KernelPCA(2, kernel=kernel).fit(X)
    assert default.kernel_ == KernelPCA(2, kernel=f"{kernel}()").fit(X).kernel_
    assert default.kernel_ != found.kernel_


def test_the_catalogue_has_the_parameters_that_estimators_share():
    kernels = catalogue()["kernels"]
    taken = {name for entry in kernels.values() for name in entry["parameters"]}
    assert set(SHARED) <= taken
    assert all(parameter in kernels[kernel]["parameters"] for kernel, parameter in NOT_SHARED)


def test_parameters_of_other_kernels_are_not_meant():
    X = np.random.default_rng(0).normal(size=(30, 2))
    model = KernelPCA(2, kernel="linear", coef0=5.0, degree=7, gamma=2.0, lengthscale=3.0).fit(X)
    assert model.kernel_ == KernelPCA(2, kernel="linear()").fit(X).kernel_


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2, "2"),
        (np.int64(2), "2"),
        (2.0, "2"),
        (np.float32(0.5), "0.5"),
        (1e-12, "1e-12"),
        (True, "true"),
        (np.bool_(False), "false"),
        ("median", "median"),
        ([32, np.float64(16.0)], "[32, 16]"),
        (np.array([1.5, 2.5]), "[1.5, 2.5]"),
        ("mlp(hidden=[3])", "mlp(hidden=[3])"),
        (Path("a b/net.onnx"), '"a b/net.onnx"'),
    ],
)
def test_values_have_text_forms(value, text):
    assert _core.text_form("field", "f", {"p": value}) == f"f(p={text})"
    assert _core.text_form("field", "f(a=1)", {"p": value}) == f"f(a=1, p={text})"


def test_text_forms_are_read_back():
    text = 'f(a=1, b=0.5, c=true, d=median, e=[1, 2], g="a b.onnx", h=mlp(hidden=[3]))'
    name, parameters = _core.parse_text_form("field", text)
    assert name == "f"
    assert parameters == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": "median",
        "e": [1, 2],
        "g": Path("a b.onnx"),
        "h": "mlp(hidden=[3])",
    }
    assert _core.text_form("field", name, parameters) == text
    assert _core.parse_text_form("field", "rbf + 2*linear") is None
    for bad in ["", "rbf(", "rbf(3)"]:
        with pytest.raises(_core.ParameterError, match="field: "):
            _core.parse_text_form("field", bad)


def test_values_without_a_text_form_are_refused():
    endless = []
    endless.append(endless)
    for value in [None, object(), float("inf"), float("nan"), 10**400, endless, "1, q=2"]:
        with pytest.raises(ValueError, match="field: ") as caught:
            _core.text_form("field", "f", {"p": value})
        assert caught.value.field == "field"
    with pytest.raises(ValueError, match="field: name: expected letters"):
        _core.text_form("field", "f", {"a=1, b": 2})


def test_errors_have_fields(X):
    with pytest.raises(_core.ParameterError) as caught:
        NeuralEF(2, kernel="rbg").fit(X)
    error = caught.value
    assert (error.kind, error.field, error.got) == ("UnknownName", "kernel", "rbg")
    assert "rbf" in error.expected
    with pytest.raises(_core.ParameterError) as caught:
        NeuralEF(2, kernel="rbf(lengthscale=-1)").fit(X)
    error = caught.value
    assert (error.kind, error.field) == ("Parse", "kernel")
    assert (error.text, error.column) == ("rbf(lengthscale=-1)", 17)
    assert (error.parameter, error.got) == ("lengthscale", "-1")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.column) == (str(error), 17)
    with pytest.raises(_core.ParameterError) as caught:
        NeuralEF(30_000, memory_budget=1).fit(np.tile(X, (1000, 1)))
    error = caught.value
    assert (error.kind, error.parameter, error.got) == ("MemoryBudget", "memory_budget", "1 MiB")
    assert str(error) == f"{error.what} needs {error.expected}, memory_budget is 1 MiB"


def test_errors_name_the_estimators_parameters(X):
    with pytest.raises(_core.ParameterError) as caught:
        NeuralEF(2, max_iter="never").set_params(max_iter=-1)._fit(X)
    assert caught.value.field == "max_iter"
    assert str(caught.value).startswith("max_iter: ")
    with pytest.raises(ValueError, match="^`n_frequencies` must be a whole number") as caught:
        RandomFourierFeatures(4, n_frequencies=10**12).fit(X)
    assert caught.value.parameter == "n_frequencies"
    assert "\n" in str(caught.value)
    with pytest.raises(ValueError, match="^optimizer: expected no lr, which is learning_rate"):
        NeuralEF(2, optimizer="adam(lr=1)").fit(X)


def test_every_text_field_names_itself(X):
    for name in ["network", "objective", "optimizer", "schedule", "kernel"]:
        for text in ["nothing_like_it", "a b", "1 +", "("]:
            with pytest.raises(ValueError, match=f"^{name}: ") as caught:
                NeuralEF(2, **{name: text}).fit(X)
            assert caught.value.field == name


def test_parameters_of_nystroem_and_neuralef_reach_the_core(X):
    model = Nystroem(3, n_landmarks=20, selection="kmeans", eigenproblem="landmarks").fit(X)
    spec = model._info["spec"]
    text = "nystrom(landmarks=20, selection=kmeans, eigenproblem=landmarks)"
    assert (spec["method"], spec["validation_fraction"]) == (text, 0.1)
    assert (model.n_landmarks_, model.remainder_) == (20, None)
    _, arguments = _core.parse_text_form("method", Nystroem(3).fit(X)._info["spec"]["method"])
    assert arguments == {"landmarks": "auto", "selection": "auto", "eigenproblem": "all_points"}
    model = NeuralEF(2, max_iter=0).fit(X)
    assert (model.method_, model.network_) == ("neuralef", "auto")
    assert model._info["spec"].get("certificate", True)
    assert model.set_params(certificate=False).fit(X)._info["spec"]["certificate"] is False
    with pytest.raises(ValueError, match="^n_landmarks: expected at least n_components=5, got 4"):
        Nystroem(5, n_landmarks=4).fit(X)
    with pytest.raises(ValueError, match="'n_landmarks' parameter"):
        Nystroem(5, n_landmarks=None).fit(X)


def test_at_most_1024_points_are_held_out():
    assert _core.training_points('{"validation_fraction": 0.5}', 10_000) == 10_000 - 1024
    assert _core.training_points('{"validation_fraction": 0.1}', 1000) == 900
    X = np.random.default_rng(0).normal(size=(2500, 2))
    model = Nystroem(5, validation_fraction=0.5, random_state=0).fit(X)
    certificate = model.certificate_
    assert certificate["held_out_points"] == 512
    assert certificate["training_points"] == 2500 - 1024
    # All of them are in the final solve.
    assert certificate["eigenvalue_points"] == 2500


def test_precomputed_rows_are_known_by_their_numbers(X, tmp_path):
    K = pairwise.rbf_kernel(X, gamma=0.5)
    for model in [KernelPCA(3, kernel="precomputed"), Nystroem(3, kernel="precomputed")]:
        assert model.set_params(validation_fraction=0.2).fit(K).n_features_in_ == 40
        path = tmp_path / "m.safetensors"
        model.save(path)
        # Files count the row numbers as one more column, as they always have.
        assert _core.Model.width(str(path)) == 41
        again = type(model).load(path, kernel="precomputed")
        np.testing.assert_array_equal(again.transform(K[:5]), model.transform(K[:5]))
    spread = Nystroem(8, kernel="precomputed", selection="kmeans", random_state=0).fit(K)
    assert spread.transform(K[:5]).shape == (5, spread.n_components_)
    assert neuralef.NeuralEF(2, kernel="precomputed", max_iter=0).fit(K).n_features_in_ == 40
