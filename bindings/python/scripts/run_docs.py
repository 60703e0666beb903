"""Run the Python blocks of pages, in order, one program for each page."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    pages = [Path(name).resolve() for name in sys.argv[1:]]
    os.chdir(tempfile.mkdtemp())
    for page in pages:
        text, names = page.read_text(encoding="utf-8"), {"__name__": "__page__"}
        for block in BLOCK.finditer(text):
            line = text[: block.start(1)].count("\n")
            # So that messages have the line of the page.
            code = compile("\n" * line + block.group(1), str(page), "exec")
            try:
                exec(code, names)
            except Exception:
                traceback.print_exc()
                print(f"{page.name}: the block at line {line + 1} failed", file=sys.stderr)
                return 1
        print(f"{page.name}: runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
