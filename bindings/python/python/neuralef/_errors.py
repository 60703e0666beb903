"""Errors of the core in the names that users of an estimator know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from neuralef._core import ParameterError


@contextlib.contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """Give errors of the core an estimator's names of parameters, by the core's."""
    try:
        yield
    except ParameterError as error:
        sentence = _sentence(error, names)
        error.parameter = names.get(error.parameter or "", error.parameter)
        error.field = names.get(error.field or "", error.field)
        error.args = (sentence,)
        raise


def _sentence(error: ParameterError, names: Mapping[str, str]) -> str:
    """Say what is wrong, in an estimator's names."""
    if error.kind == "MemoryBudget":
        return f"{error.what} needs {error.expected}, memory_budget is {error.got}"
    name = names.get(error.parameter or "")
    if name is None:
        field = names.get(error.field or "")
        return str(error) if field is None else f"{field}: {error.message}"
    if error.kind == "Parse":
        column = error.column or 1
        place = f"at column {column}\n  {error.text}\n  {'^':>{column}}"
        return f"`{name}` must be {error.expected} {place}"
    shape = "shape " if error.kind == "Shape" else ""
    return f"{name}: expected {shape}{error.expected}, got {error.got}"
