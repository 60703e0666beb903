"""What the peer comparisons share: running the neuralef binary, medians, and the report."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def parser(description):
    """Options every comparison has."""
    out = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument(
        "--neuralef",
        default="target/release/neuralef",
        help="path of the neuralef binary (default: %(default)s)",
    )
    out.add_argument("--threads", type=int, default=2, help="threads for both sides")
    out.add_argument("--repeats", type=int, default=5, help="runs of each side, taken in turn")
    out.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return out


def require_binary(path):
    """The binary's path, or an error that says how to get it."""
    path = Path(path)
    if not path.is_file():
        sys.exit(f"{path}: no such file; build it with `cargo build --release -p neuralef-cli`")
    return str(path.resolve())


def neuralef(binary, *arguments):
    """Runs the binary with --json. Returns its JSON object and the wall time of the process."""
    command = [binary, *map(str, arguments), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with code {done.returncode}: {done.stderr.strip()}")
    try:
        return json.loads(done.stdout), seconds
    except json.JSONDecodeError as error:
        sys.exit(f"{' '.join(command)}\nprinted no JSON object: {error}")


def eigenvalues(report):
    """Eigenvalues of a fit report, descending."""
    return np.array(report["info"]["eigenvalues"], dtype=np.float64)


def median(values):
    return statistics.median(values)


def spread(values):
    """`median (least … largest)` in seconds."""
    return f"{median(values):.3f} ({min(values):.3f} … {max(values):.3f})"


def table(header, rows):
    """Prints an aligned table: first column left, the others right."""
    rows = [header, *[[str(c) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for number, row in enumerate(rows):
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * w for w in widths))


def cosines(values, reference):
    """|cos| of matching columns."""
    inner = np.abs(np.sum(values * reference, axis=0))
    return inner / (np.linalg.norm(values, axis=0) * np.linalg.norm(reference, axis=0))


def squared_distances(x, y):
    """Squared Euclidean distances in double precision, exactly zero at equal points."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    out = np.zeros((len(x), len(y)))
    for column in range(x.shape[1]):
        out += (x[:, column, None] - y[None, :, column]) ** 2
    return out
