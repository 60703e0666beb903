"""Dtypes, layouts, frames, pickles, files, interrupts, callbacks, threads."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import signal
import subprocess
import threading
import time
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import pairwise

from neuralef import (
    KernelPCA,
    NeuralEF,
    Nystroem,
    PositiveFeatures,
    RandomFourierFeatures,
    ScoreEstimator,
)

ALL = [
    NeuralEF(3, max_iter=20, random_state=0),
    Nystroem(10, random_state=0),
    KernelPCA(3, kernel="rbf", random_state=0),
    RandomFourierFeatures(10, random_state=0),
    PositiveFeatures(10, random_state=0),
]
each = pytest.mark.parametrize("estimator", ALL, ids=lambda e: type(e).__name__)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(120, 3))


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_goes_through(estimator, X, dtype):
    found = clone(estimator).fit(X.astype(dtype)).transform(X.astype(dtype))
    assert found.dtype == dtype


@each
def test_layouts_do_not_matter(estimator, X):
    expected = clone(estimator).fit_transform(X)
    read_only = X.copy()
    read_only.setflags(write=False)
    wide = np.zeros((120, 6))
    wide[:, ::2] = X
    backwards = np.ascontiguousarray(X[::-1])[::-1]
    for other in [np.asfortranarray(X), read_only, wide[:, ::2], backwards, X.tolist()]:
        np.testing.assert_array_equal(clone(estimator).fit_transform(other), expected)


@each
def test_frames_in_and_out(estimator, X):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = clone(estimator).set_output(transform="pandas").fit(frame)
    found = model.transform(frame)
    name = type(estimator).__name__.lower()
    assert list(found.columns) == [f"{name}{j}" for j in range(model.n_components_)]
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    out = clone(estimator).set_output(transform="polars").fit(pl.from_pandas(frame))
    assert isinstance(out.transform(pl.from_pandas(frame)), pl.DataFrame)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame.rename(columns={"a": "z"}))


@each
def test_pickle_joblib_copy_and_files_keep_every_bit(estimator, X, tmp_path):
    model = clone(estimator).fit(X)
    expected = model.transform(X)
    path = tmp_path / "model.safetensors"
    model.save(path)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    for other in [
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        joblib.load(file),
        type(model).load(path),
    ]:
        np.testing.assert_array_equal(other.transform(X), expected)
        assert other.n_features_in_ == 3
        assert other.n_components_ == model.n_components_
    with pytest.raises(ValueError, match="path: expected a model of method"):
        wrong = KernelPCA if isinstance(model, NeuralEF) else NeuralEF
        wrong.load(path)


@each
def test_command_line_reads_what_python_writes(estimator, X, tmp_path, binary):
    model = clone(estimator).fit(X)
    model.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    command = [binary, "transform", "model.safetensors", "x.npy", "-o", "features.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = np.load(tmp_path / "features.npy")
    np.testing.assert_array_equal(found, model.transform(X.astype(np.float32)))


def test_python_reads_what_the_command_line_writes(tmp_path, binary, digits):
    command = [binary, "fit", "digits", "-k", "4", "--steps", "0", "-o", "m.safetensors"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    command = [binary, "transform", "m.safetensors", "digits", "-o", "f.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    model = NeuralEF.load(tmp_path / "m.safetensors")
    found = model.transform(digits[0].astype(np.float32))
    np.testing.assert_array_equal(found, np.load(tmp_path / "f.npy"))
    out = subprocess.run(
        [binary, "--json", "inspect", "m.safetensors"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert json.loads(out.stdout)


def test_pickles_of_functions_and_values(X):
    K = pairwise.rbf_kernel(X)
    for kind in [KernelPCA, Nystroem]:
        function = kind(3, kernel=pairwise.rbf_kernel).fit(X)
        again = pickle.loads(pickle.dumps(function))
        np.testing.assert_array_equal(again.transform(X), function.transform(X))
        values = kind(3, kernel="precomputed").fit(K)
        again = pickle.loads(pickle.dumps(values))
        np.testing.assert_array_equal(again.transform(K[:5]), values.transform(K[:5]))


def of_points(x, y):
    return np.exp(-0.3 * np.sum((x - y) ** 2))


@pytest.mark.parametrize(
    ("kernel", "parameters"),
    [(pairwise.rbf_kernel, None), (pairwise.rbf_kernel, {"gamma": 2.0}), (of_points, None)],
)
def test_files_of_functions_need_the_function(X, tmp_path, kernel, parameters):
    model = KernelPCA(3, kernel=kernel, kernel_params=parameters).fit(X)
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="needs the kernel"):
        KernelPCA.load(tmp_path / "m.safetensors")
    again = KernelPCA.load(tmp_path / "m.safetensors", kernel=kernel, kernel_params=parameters)
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


@pytest.mark.parametrize("kind", [KernelPCA, Nystroem])
def test_files_of_precomputed_values(X, tmp_path, kind):
    K = pairwise.rbf_kernel(X)
    model = kind(3, kernel="precomputed").fit(K)
    model.save(tmp_path / "m.safetensors")
    again = kind.load(tmp_path / "m.safetensors", kernel="precomputed")
    np.testing.assert_array_equal(again.transform(K[:9]), model.transform(K[:9]))
    assert again.n_features_in_ == 120


@each
def test_parameters_come_back_from_files(estimator, X, tmp_path):
    model = clone(estimator).set_params(random_state=3, n_components=4, standardize=True).fit(X)
    model.save(tmp_path / "m.safetensors")
    again = type(model).load(tmp_path / "m.safetensors")
    refitted = clone(again).fit(X)
    np.testing.assert_allclose(refitted.transform(X), model.transform(X), atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", of_points])
def test_landmarks_that_were_kept_have_the_manners_of_networks(X, tmp_path, kernel):
    model = NeuralEF(3, kernel=kernel, network="shared_mlp(hidden=[4])", max_iter=10, method="best")
    model.set_params(random_state=0, warm_start=True).fit(X)
    assert model.method_ == "nystrom"
    assert (model.n_steps_, model.network_) == (0, model.network)
    assert model.n_iter_ >= 1
    expected = model.transform(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), expected)
    assert (again.method_, again.beside_) == ("nystrom", model.beside_)
    model.save(tmp_path / "m.safetensors")
    function = {"kernel": kernel} if callable(kernel) else {}
    for kind in [NeuralEF, Nystroem]:
        other = kind.load(tmp_path / "m.safetensors", **function)
        np.testing.assert_array_equal(other.transform(X), expected)
    again = NeuralEF.load(tmp_path / "m.safetensors", **function)
    assert (again.method, again.method_, again.n_steps_) == ("best", "nystrom", 0)
    # There are no networks to start from.
    np.testing.assert_array_equal(model.fit(X).transform(X), expected)


@each
def test_without_a_certificate_nothing_is_measured(estimator, X, tmp_path):
    measured = clone(estimator).fit(X)
    model = clone(estimator).set_params(certificate=False).fit(X)
    assert (model.certificate_["pairs"], model.certificate_["held_out_points"]) == ([], 0)
    model.save(tmp_path / "m.safetensors")
    again = type(model).load(tmp_path / "m.safetensors")
    assert not again.certificate
    for found in [model, again, pickle.loads(pickle.dumps(model))]:
        np.testing.assert_array_equal(found.transform(X), model.transform(X))
        if not hasattr(measured, "eigenvalues_"):
            assert np.isfinite(measured.captured_trace_)
            assert np.isnan(found.captured_trace_)
            continue
        np.testing.assert_allclose(found.eigenvalues_, measured.eigenvalues_, rtol=0.1)
        np.testing.assert_allclose(found.captured_trace_, measured.captured_trace_, rtol=0.1)
        for figures in [found.eigenvalue_errors_, found.residuals_]:
            assert figures.shape == (found.n_components_,)
            assert np.isnan(figures).all()
    assert np.isfinite(model.score(X))


@each
def test_a_certificate_is_a_phase_of_its_own(estimator, X):
    for certificate in [True, False]:
        events = []
        model = clone(estimator).set_params(certificate=certificate, callbacks=[events.append])
        model.fit(X)
        names = [e["name"] for e in events if e["event"] == "phase"]
        assert ("certificate" in names) == certificate


@each
def test_few_points_are_said_to_measure_coarsely_where_they_measure(estimator, X):
    model = clone(estimator).set_params(n_components=2, certificate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X[:20])
    if getattr(model, "validation_fraction", 0):
        with pytest.warns(UserWarning, match="certificate is coarse"):
            model.set_params(certificate=True).fit(X[:20])


def broken_kernel(x, y):
    raise RuntimeError("no")


def test_failed_refits_and_new_parameters_leave_the_model_whole(X):
    model = Nystroem(5, random_state=0).fit(X)
    expected = model.transform(X)
    with pytest.raises(RuntimeError, match="no"):
        model.set_params(kernel=broken_kernel).fit(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), expected)
    model.set_params(kernel="precomputed")
    np.testing.assert_array_equal(model.transform(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), expected)


def test_features_in_files_are_read_by_path(X, tmp_path):
    phi = np.tanh(X @ np.random.default_rng(1).normal(size=(3, 30))).astype(np.float32)
    np.save(tmp_path / "phi.npy", phi)
    here = NeuralEF(3, max_iter=0, random_state=0).fit(X, features=phi)
    there = NeuralEF(3, max_iter=0, random_state=0).fit(X, features=tmp_path / "phi.npy")
    np.testing.assert_array_equal(here.transform(X), there.transform(X))
    again = pickle.loads(pickle.dumps(there))
    np.testing.assert_array_equal(again.transform(X), there.transform(X))


def test_columns_far_from_zero_are_warned_of(X):
    with pytest.warns(UserWarning, match="column 1 .* single precision"):
        KernelPCA(2, kernel="rbf").fit(X + np.array([0, 1e7, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KernelPCA(2, kernel="rbf").fit(X + np.array([0, 100, 0]))


@each
def test_same_bits_for_any_number_of_threads(estimator):
    # More rows than a block, so that they are shared out.
    X = np.random.default_rng(0).normal(size=(3000, 3))
    expected = clone(estimator).set_params(n_jobs=1).fit(X).transform(X)
    for jobs in [2, 3, -1, None]:
        found = clone(estimator).set_params(n_jobs=jobs).fit(X).transform(X)
        np.testing.assert_array_equal(found, expected)


@each
def test_seeds(estimator, X):
    if isinstance(estimator, KernelPCA):
        pytest.skip("nothing is random")

    def features(seed):
        return clone(estimator).set_params(random_state=seed).fit_transform(X)

    np.testing.assert_array_equal(features(1), features(1))
    assert not np.array_equal(features(1), features(2))
    state = np.random.RandomState(3)
    assert np.isfinite(features(state)).all()


@each
def test_rows_do_not_depend_on_each_other(estimator, X):
    model = clone(estimator).fit(X)
    whole = model.transform(X)
    np.testing.assert_array_equal(np.vstack([model.transform(x[None]) for x in X[:9]]), whole[:9])
    np.testing.assert_array_equal(model.transform(X[::-1]), whole[::-1])


@each
def test_sparse_and_unfitted_are_refused(estimator, X):
    with pytest.raises(TypeError, match="[Ss]parse"):
        clone(estimator).fit(sparse.csr_matrix(X))
    with pytest.raises(NotFittedError):
        clone(estimator).transform(X)


def test_callbacks_see_the_fit_in_order(X):
    events = []
    NeuralEF(2, max_iter=30, random_state=0, callbacks=[events.append]).fit(X)
    steps = [e["step"] for e in events if e["event"] == "step"]
    assert steps == list(range(1, 31))
    assert all(np.isfinite(e["loss"]) for e in events if e["event"] == "step")
    assert {"training", "phase"} <= {e["event"] for e in events}
    names = [e["name"] for e in events if e["event"] == "phase"]
    assert names.index("readout") < names.index("certificate")


def test_what_a_callback_raises_comes_out_and_ends_the_fit(X):
    class EnoughError(Exception):
        pass

    seen = []

    def stop(event):
        seen.append(event)
        if event["event"] == "step" and event["step"] == 5:
            raise EnoughError

    with pytest.raises(EnoughError):
        NeuralEF(2, max_iter=10_000, callbacks=[stop]).fit(X)
    assert [e["step"] for e in seen if e["event"] == "step"] == [1, 2, 3, 4, 5]

    def at_once(event):
        seen.append(event)
        raise EnoughError

    seen.clear()
    with pytest.raises(EnoughError):
        NeuralEF(2, max_iter=10_000, callbacks=[at_once]).fit(X)
    assert len(seen) == 1


def test_what_a_kernel_raises_late_comes_out_too(X):
    calls = []

    def count(x, y):
        calls.append(None)
        return pairwise.rbf_kernel(x, y)

    KernelPCA(2, kernel=count, n_jobs=1).fit(X)
    for last in [len(calls), len(calls) - 1]:
        done = []

        def breaks(x, y, last=last, done=done):
            done.append(None)
            if len(done) == last:
                raise KeyError("late")
            return pairwise.rbf_kernel(x, y)

        with pytest.raises(KeyError, match="late"):
            KernelPCA(2, kernel=breaks, n_jobs=1).fit(X)


def test_what_a_kernel_raises_comes_out(X):
    def broken(x, y):
        if len(x) > 10:
            raise KeyError("no such thing")
        return pairwise.rbf_kernel(x, y)

    with pytest.raises(KeyError, match="no such thing"):
        NeuralEF(2, kernel=broken, max_iter=5).fit(X)
    with pytest.raises(ValueError, match="kernel"):
        KernelPCA(2, kernel=lambda x, y: np.nan).fit(X)
    with pytest.raises(ValueError, match="gamma: expected None"):
        KernelPCA(2, kernel=pairwise.rbf_kernel, gamma=3.0).fit(X)
    with pytest.raises(ValueError, match="kernel: expected a function"):
        KernelPCA(2, kernel=lambda x, y: np.zeros(7)).fit(X)


@pytest.mark.parametrize(
    ("estimator", "n"),
    [
        (NeuralEF(10, max_iter=10_000_000), 20_000),
        (NeuralEF(10, max_iter=10_000_000, callbacks=[lambda e: None]), 20_000),
        (KernelPCA(50, kernel="rbf", eigen_solver="matrix_free"), 20_000),
        (KernelPCA(kernel="rbf"), 5000),
        (Nystroem(5000), 5000),
        (Nystroem(2000, kernel=of_points), 2000),
        (ScoreEstimator(), 6000),
    ],
    ids=["training", "callbacks", "matrix-free", "dense", "nystroem", "function", "score"],
)
def test_an_interrupt_is_heard_within_a_second(estimator, n):
    X = np.random.default_rng(0).normal(size=(n, 20))
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(1.0, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert time.monotonic() - sent[0] < 1.0
    assert not estimator.__sklearn_is_fitted__()


def test_other_threads_run_during_a_fit():
    X = np.random.default_rng(0).normal(size=(2000, 10))
    ticks = []
    done = threading.Event()

    def tick():
        while not done.wait(0.01):
            ticks.append(None)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.monotonic()
    NeuralEF(5, max_iter=300, n_jobs=1).fit(X)
    seconds = time.monotonic() - start
    done.set()
    thread.join()
    # A hundred a second, were this thread alone; a held lock would leave next to none.
    assert len(ticks) > 20 * seconds


def test_progress_is_shown_on_request(X, capfd):
    NeuralEF(2, max_iter=20, verbose=1).fit(X)
    assert "20/20" in capfd.readouterr().err
    KernelPCA(2, kernel="rbf", verbose=1).fit(X)
    assert "kernel_pca" in capfd.readouterr().err
    NeuralEF(2, max_iter=20).fit(X)
    assert capfd.readouterr().err == ""


def test_warm_start_goes_on_from_the_last_networks(X):
    cold = NeuralEF(2, max_iter=0, readout="none", random_state=0).fit(X)
    warm = NeuralEF(2, max_iter=200, readout="none", random_state=0, warm_start=True).fit(X)
    trained = warm.eigenfunctions(X)
    warm.set_params(max_iter=0).fit(X)
    np.testing.assert_allclose(warm.eigenfunctions(X), trained, atol=1e-6)
    assert not np.allclose(cold.eigenfunctions(X), trained, atol=1e-2)
    with pytest.raises(ValueError, match="network"):
        warm.set_params(n_components=3).fit(X)


def test_iterations_are_counted(X):
    model = NeuralEF(2, max_iter=30, random_state=0).fit(X)
    assert (model.n_iter_, model.n_steps_) == (30, 30)
    auto = NeuralEF(2, random_state=0).fit(X)
    assert auto.n_iter_ >= 1
    assert auto.n_iter_ >= auto.n_steps_


def test_more_components_than_samples_is_said(X):
    with pytest.warns(UserWarning, match="n_components=200 is more than the 108"):
        model = Nystroem(200, random_state=0).fit(X)
    assert model.n_components_ <= 108
    with pytest.warns(UserWarning, match="n_components=500"):
        NeuralEF(500, max_iter=0, network="shared_mlp(hidden=[512])").fit(X)


def test_all_components_are_as_many_as_points_to_learn_from(X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KernelPCA(kernel="rbf", validation_fraction=0.1).fit(X[:40])
    assert model.n_components_ == 32
