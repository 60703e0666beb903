"""Inside scikit-learn's and dask-ml's tools."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from neuralef import KernelPCA, NeuralEF, Nystroem, RandomFourierFeatures, ScoreEstimator


def pipeline(**parameters):
    model = NeuralEF(10, max_iter=0, random_state=0, **parameters)
    return make_pipeline(StandardScaler(), model, LogisticRegression(C=100, max_iter=500))


def test_pipeline(digits):
    X, y = digits
    model = pipeline().set_params(neuralef__n_components=40)
    model.fit(X[:1200], y[:1200])
    # A linear model on the same 64 columns has about 90 %; forty features of a local kernel more.
    assert model.score(X[1200:], y[1200:]) > 0.9
    assert list(model[:-1].get_feature_names_out())[:2] == ["neuralef0", "neuralef1"]


def test_grid_search_in_two_processes(digits):
    X, y = digits
    grid = GridSearchCV(
        pipeline(), {"neuralef__n_components": [2, 20]}, cv=3, n_jobs=2, error_score="raise"
    )
    grid.fit(X[:600], y[:600])
    assert grid.best_params_ == {"neuralef__n_components": 20}


def test_search_by_own_score():
    X = np.random.default_rng(0).normal(size=(300, 3))
    grid = GridSearchCV(Nystroem(random_state=0), {"n_components": [2, 100]}, cv=3, n_jobs=2)
    assert grid.fit(X).best_params_ == {"n_components": 100}
    grid = GridSearchCV(ScoreEstimator(random_state=0), {"lengthscale": [0.05, 2.0]}, cv=3)
    assert grid.fit(X).best_params_ == {"lengthscale": 2.0}


def test_cross_validation_slices_precomputed_kernels():
    X = np.random.default_rng(0).normal(size=(150, 3))
    y = np.sin(X[:, 0]) + X[:, 1] ** 2
    from sklearn.metrics.pairwise import rbf_kernel

    named = make_pipeline(KernelPCA(30, kernel="rbf", gamma=0.3), Ridge(1e-3))
    values = make_pipeline(KernelPCA(30, kernel="precomputed"), Ridge(1e-3))
    expected = cross_val_score(named, X, y, cv=3)
    found = cross_val_score(values, rbf_kernel(X, gamma=0.3), y, cv=3)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert expected.mean() > 0.8


def test_column_transformer_and_union():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 4)), columns=list("abcd"))
    columns = ColumnTransformer(
        [
            ("nystroem", Nystroem(5, random_state=0), ["a", "b"]),
            ("fourier", RandomFourierFeatures(4, random_state=0), ["c", "d"]),
        ]
    )
    found = columns.set_output(transform="pandas").fit_transform(frame)
    assert found.shape == (100, 9)
    assert found.columns[0] == "nystroem__nystroem0"
    union = FeatureUnion([("a", Nystroem(5)), ("b", KernelPCA(2))])
    assert union.fit_transform(frame).shape == (100, 7)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(backend):
    X = np.random.default_rng(0).normal(size=(200, 3))
    model = NeuralEF(3, max_iter=10, random_state=0).fit(X)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        parts = joblib.Parallel()(joblib.delayed(model.transform)(part) for part in np.split(X, 4))
        fits = joblib.Parallel()(
            joblib.delayed(NeuralEF(3, max_iter=10, random_state=s).fit)(X) for s in [0, 1]
        )
    np.testing.assert_array_equal(np.vstack(parts), model.transform(X))
    np.testing.assert_array_equal(fits[0].transform(X), model.transform(X))


def test_dask_parallel_post_fit():
    da = pytest.importorskip("dask.array")
    wrappers = pytest.importorskip("dask_ml.wrappers")
    X = np.random.default_rng(0).normal(size=(200, 3))
    model = wrappers.ParallelPostFit(estimator=NeuralEF(3, max_iter=10, random_state=0)).fit(X)
    lazy = model.transform(da.from_array(X, chunks=(50, 3)))
    np.testing.assert_array_equal(lazy.compute(), model.estimator.transform(X))


def test_parameters_of_nested_steps_can_be_set():
    model = Pipeline([("features", NeuralEF()), ("linear", Ridge())])
    model.set_params(features__kernel="matern", features__kernel_params={"nu": 2.5})
    X = np.random.default_rng(0).normal(size=(60, 2))
    model.set_params(features__max_iter=0, features__n_components=3).fit(X, X[:, 0])
    assert model[0].kernel_.startswith("matern(")
    assert "nu=2.5" in model[0].kernel_
