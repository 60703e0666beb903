"""Callbacks and progress of fits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

#: What callbacks are told: ``{"event": "step", "step": 10, "loss": …, "eigenvalues": […]}``; events are
#: ``phase`` (name), ``training`` (step, total), ``step``, ``progress`` (done, total) and ``check`` (step,
#: residual), a look of ``max_iter="auto"`` at held-out points.
Event = dict[str, Any]
Callback = Callable[[Event], object]


class _Bar:
    """A tqdm bar of training steps, or lines where tqdm is not installed."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm  # noqa: PLC0415
        except ImportError:
            tqdm = None
        self.make = tqdm
        self.bar: Any = None

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if self.make is None:
            if kind == "phase":
                print(f"[neuralef] {event['name']}", file=sys.stderr)
            elif kind == "check":
                print(
                    f"[neuralef] step {event['step']}: held-out residual {event['residual']:.3g}",
                    file=sys.stderr,
                )
            return
        if kind == "training":
            self.close()
            self.bar = self.make(total=event["total"], initial=event["step"], unit="step")
        elif kind == "step" and self.bar is not None:
            self.bar.update(event["step"] - self.bar.n)
            if event["step"] % 10 == 0:
                self.bar.set_postfix(loss=f"{event['loss']:.3g}", refresh=False)
        elif kind == "phase" and self.bar is not None:
            self.bar.set_description(event["name"])
        elif kind == "phase":
            self.bar = self.make(unit="part", desc=event["name"])
        elif kind == "progress" and self.bar is not None and self.bar.unit == "part":
            self.bar.total = event["total"]
            self.bar.update(event["done"] - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class Watch:
    """Everything that wants to know how a fit goes: a context manager that gives one callback."""

    def __init__(self, verbose: int | bool, callbacks: Sequence[Callback] | None) -> None:
        for callback in callbacks or []:
            if not callable(callback):
                raise TypeError(f"callbacks: expected functions of an event, got {callback!r}")
        self.bar = _Bar() if verbose else None
        self.callbacks: list[Callback] = [*([self.bar] if self.bar else []), *(callbacks or [])]

    def __enter__(self) -> Callback | None:
        return self.tell if self.callbacks else None

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def tell(self, event: Event) -> None:
        """Pass an event to all."""
        for callback in self.callbacks:
            callback(event)
