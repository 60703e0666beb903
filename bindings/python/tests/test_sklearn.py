"""scikit-learn's own tests of estimators, all of them, without expected failures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils import estimator_checks as checks
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import neuralef

ESTIMATORS = [
    neuralef.NeuralEF(n_components=2, max_iter=5),
    neuralef.Nystroem(n_components=5),
    neuralef.RandomFourierFeatures(n_components=6),
    neuralef.PositiveFeatures(n_components=6),
    neuralef.KernelPCA(n_components=2, kernel="rbf"),
    neuralef.ScoreEstimator(),
]
MORE = [
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_dataframe_column_names_consistency",
    "check_param_validation",
    "check_n_features_in",
    "check_parameters_default_constructible",
    "check_get_feature_names_out_error",
]


@parametrize_with_checks(ESTIMATORS)
@pytest.mark.filterwarnings("ignore")
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "kind",
    ["NeuralEF", "Nystroem", "RandomFourierFeatures", "PositiveFeatures", "KernelPCA"],
)
@pytest.mark.filterwarnings("ignore")
def test_check_estimator_with_defaults(kind):
    results = check_estimator(getattr(neuralef, kind)(), on_fail=None, on_skip=None)
    failed = [r for r in results if r["status"] == "failed"]
    assert not failed, [(r["check_name"], r["exception"]) for r in failed]
    assert not [r for r in results if r["status"] == "xfail"]


@pytest.mark.parametrize("name", MORE)
@pytest.mark.parametrize("estimator", ESTIMATORS[:-1], ids=lambda e: type(e).__name__)
@pytest.mark.filterwarnings("ignore")
def test_further_checks(estimator, name):
    getattr(checks, name)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.filterwarnings("ignore")
def test_columns_and_parameters_of_all(estimator):
    name = type(estimator).__name__
    checks.check_dataframe_column_names_consistency(name, estimator)
    checks.check_param_validation(name, estimator)
    assert np.isfinite(estimator.fit(np.random.default_rng(0).normal(size=(40, 3))).n_features_in_)
