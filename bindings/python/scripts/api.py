"""Write docs/api.md from the docstrings, or check that it is what they say (`--check`)."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import neuralef
import neuralef.plot

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
HEAD = """# API reference

Made from the docstrings by `scripts/api.py`.
"""


def section(level: int, title: str, thing: object) -> list[str]:
    doc = inspect.getdoc(thing) or ""
    return [f"{'#' * level} {title}", "", "```text", doc, "```", ""]


def signature(thing: object) -> str:
    try:
        return str(inspect.signature(thing)).replace("'", "")  # type: ignore[arg-type]
    except ValueError:
        return "(…)"


def methods(kind: type) -> list[tuple[str, object]]:
    own = []
    for name in dir(kind):
        thing = inspect.getattr_static(kind, name)
        module = getattr(getattr(kind, name, None), "__module__", None)
        fget = getattr(thing, "fget", None)
        if isinstance(thing, property):
            module = getattr(fget, "__module__", None)
        ours = (module or "").startswith("neuralef")
        if ours and (
            not name.startswith("_") or (name == "__call__" and inspect.isfunction(thing))
        ):
            own.append((name, thing.__func__ if isinstance(thing, classmethod) else thing))
    return own


def page() -> str:
    lines = [HEAD]
    for name in neuralef.__all__:
        thing = getattr(neuralef, name)
        if inspect.isclass(thing):
            lines += section(2, f"neuralef.{name}", thing)
            for method, function in methods(thing):
                title = (
                    method if isinstance(function, property) else f"{method}{signature(function)}"
                )
                lines += section(3, f"`{name}.{title}`", function)
        elif callable(thing):
            lines += section(2, f"`neuralef.{name}{signature(thing)}`", thing)
    for name in ("spectrum", "eigenfunctions", "embedding"):
        thing = getattr(neuralef.plot, name)
        lines += section(2, f"`neuralef.plot.{name}{signature(thing)}`", thing)
    return "\n".join(lines)


def main() -> int:
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page():
        return 0
    print("docs/api.md is not what the docstrings say: run scripts/api.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
