"""Fits, transforms and errors of eigenfunctions of one kernel, all contenders in one run.

    python benches/peers/fits.py --data kin8nm --components 10
    python benches/peers/fits.py --seeds 5 --equal-transform

Every contender has the same float32 points, the same rbf kernel (its lengthscale the median distance of
2,000 training points) and the same threads, and every fit is a process of its own, taken in turn.
Test points (2,000, or a quarter of a small set) are given to none of them.

Contenders are named in the table CONTENDERS below, with the arguments that ours are constructed with:
neuralef's estimators; scikit-learn's Nystroem with the eigenproblem of its features over all points;
the same by NumPy, with landmarks drawn uniformly or by accelerated randomly pivoted Cholesky; SciPy's
eigsh on the whole Gram matrix; and scikit-learn's KernelPCA, which centres the kernel, so that its
eigenfunctions are others and only its times and memory are shown. Nystroem and pivoted Cholesky fit in
double precision, and those named float32 in single, which equal or many landmarks spoil. m is the
number of landmarks: "ours" is what neuralef.Nystroem took by itself, or a number of at least k.

fit s: around `fit` from an array in memory, median of the runs; libraries are loaded before, and BLAS
    is warm.
transform µs: a point, the test points repeated to 10,000 rows, median of 5 after a warm-up; NumPy's and
    scikit-learn's in blocks of 2,048 rows, which favours them.
Gram error: ‖φφᵀ − K‖/‖K‖ (Frobenius) of one half of the test points with the other.
eigenvalue error: the largest |μ̂ − μ|/μ of the k, against those of the Gram matrix of all training
    points divided by n, in double precision.
subspace error: root mean square sine of the angles between the spans of the k eigenfunctions and of the
    exact ones, on the test points; not shown where there are fewer than 2k of those.
mean |cos|: of matching eigenfunctions, on the test points. Close eigenvalues lower it, where the
    subspace error shows that nothing is lost.
peak MiB: of the process, and in parentheses what the fit added to the highest before it.

What needs exact eigenvalues is empty above --exact-rows training points. Errors are means over --seeds
seeds, ± the standard deviation.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
GIB = 2**30
MEMORY = 12 * GIB
SETS = ["digits", "a9a", "kin8nm", "mnist", "mixture"]

# By name: how it is fitted (a key of FITS in contenders.py), and its arguments; for neuralef the class and
# what it is constructed with. "wide" is added above WIDE components, "landmarks" names the
# argument that takes a number of landmarks; contenders with it are shown for every m.
LANDMARKS = "n_landmarks"
WIDE = 10
NETWORK = {"network": "shared_mlp(hidden=[512], activation=sin_cos)"}
CONTENDERS = {
    "nystroem": {
        "label": "neuralef.Nystroem",
        "fit": "neuralef",
        "estimator": "Nystroem",
        "keywords": {"selection": "auto", "certificate": False},
        "landmarks": LANDMARKS,
    },
    "nystroem-certificate": {
        "label": "neuralef.Nystroem, certificate",
        "fit": "neuralef",
        "estimator": "Nystroem",
        "keywords": {LANDMARKS: "auto", "selection": "auto", "certificate": True},
    },
    "neuralef": {
        "label": "neuralef.NeuralEF",
        "fit": "neuralef",
        "estimator": "NeuralEF",
        "keywords": {},
        "wide": NETWORK,
    },
    "best": {
        "label": "neuralef.NeuralEF, best",
        "fit": "neuralef",
        "estimator": "NeuralEF",
        "keywords": {"method": "best"},
        "wide": NETWORK,
    },
    "sklearn": {
        "label": "scikit-learn Nystroem",
        "fit": "nystroem",
        "arguments": {"dtype": "float64"},
        "landmarks": "m",
    },
    "sklearn-float32": {
        "label": "scikit-learn Nystroem, float32",
        "fit": "nystroem",
        "arguments": {"dtype": "float32"},
        "landmarks": "m",
    },
    "numpy": {"label": "NumPy, uniform", "fit": "uniform", "landmarks": "m"},
    "rpcholesky": {
        "label": "NumPy, RPCholesky",
        "fit": "rpcholesky",
        "arguments": {"dtype": "float64"},
        "landmarks": "m",
    },
    "rpcholesky-float32": {
        "label": "NumPy, RPCholesky, float32",
        "fit": "rpcholesky",
        "arguments": {"dtype": "float32"},
        "landmarks": "m",
    },
    "exact": {"label": "SciPy eigsh, exact", "fit": "exact", "square": 16},
    "kpca-arpack": {
        "label": "KernelPCA, arpack",
        "fit": "kernel_pca",
        "arguments": {"solver": "arpack"},
        "square": 24,
    },
    "kpca-randomized": {
        "label": "KernelPCA, randomized",
        "fit": "kernel_pca",
        "arguments": {"solver": "randomized"},
        "square": 24,
    },
}
BEST = ["nystroem", "neuralef", "best"]
# Whose landmarks are chosen to transform as fast as NeuralEF.
EQUAL = ["nystroem", "sklearn", "numpy", "rpcholesky"]
ERRORS = ["gram_error", "eigenvalue_error", "subspace_error", "cosine"]
HEADER = [
    "data", "k", "contender", "m", "fit s", "transform µs", "Gram error", "eigenvalue error",
    "subspace error", "mean \\|cos\\|", "peak MiB (fit)",
]  # fmt: skip


def parse():
    out = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument("--data", nargs="+", choices=SETS, default=SETS)
    out.add_argument("--folder", default=os.environ.get("NEURALEF_DATA"), help="of the data sets")
    out.add_argument("--components", type=int, nargs="+", help="default: 10 100 500")
    out.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    out.add_argument("--landmarks", nargs="+", default=["ours", "300", "1000"])
    out.add_argument("--seeds", type=int, default=1, help="how many, one a run")
    out.add_argument("--seed", type=int, default=0, help="the first of them")
    out.add_argument("--repeats", type=int, default=3, help="runs of each, at least --seeds")
    out.add_argument("--threads", type=int, default=2, help="of every contender")
    out.add_argument("--exact-rows", type=int, default=20_000, help="the most for Gram matrices")
    out.add_argument("--timeout", type=float, default=3600, help="seconds that a run may take")
    out.add_argument("--equal-transform", action="store_true", help="rows as fast as NeuralEF")
    out.add_argument("--best", action="store_true", help=f"only {', '.join(BEST)}, side by side")
    out.add_argument("--small", action="store_true", help="1,500 points of each set, once, k = 10")
    out.add_argument("--cache", default=Path(tempfile.gettempdir()) / "neuralef-fits", type=Path)
    out.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = out.parse_args()
    options.folder = options.folder or HERE.parents[1] / "../shared/data"
    options.components = options.components or ([10] if options.small else [10, 100, 500])
    options.contenders = BEST if options.best else options.contenders
    options.repeats = 1 if options.small else options.repeats
    return options


class Bench:
    """Runs tasks of spectra.py and keeps rows of results."""

    def __init__(self, options, out):
        self.options, self.out, self.known, self.name = options, out, {}, ""
        threads = ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMEXPR")
        self.environment = os.environ | {f"{t}_NUM_THREADS": str(options.threads) for t in threads}

    def task(self, name, **fields):
        """What the process of a task prints, or why it printed nothing."""
        try:
            done = subprocess.run(
                [sys.executable, str(HERE / "spectra.py")],
                input=json.dumps({"task": name, "out": self.out, **fields}),
                capture_output=True,
                text=True,
                check=False,
                timeout=self.options.timeout,
                env=self.environment,
            )
        except subprocess.TimeoutExpired as error:
            return {"error": f"took more than {error.timeout:.0f} s"}
        if done.returncode != 0 or not done.stdout.strip():
            lines = done.stderr.strip().splitlines() or ["no message"]
            return {"error": f"ended with code {done.returncode}: {lines[-1]}"}
        return json.loads(done.stdout.splitlines()[-1])

    def prepare(self, name):
        options = self.options
        self.name = name
        self.known = self.task(
            "prepare", data=name, folder=str(options.folder), cache=str(options.cache),
            small=options.small, seed=options.seed, k=max(options.components),
            exact_rows=options.exact_rows,
        )  # fmt: skip
        return self.known

    def row(self, name, k, m=None, label=None):
        """A row without runs, with the reason if there cannot be any."""
        n, width, contender = self.known["n"], self.known["width"], CONTENDERS[name]
        bytes_wanted = contender.get("square", 0) * n**2 + 8 * n * width
        if contender["fit"] == "rpcholesky":
            size = 8 if contender["arguments"]["dtype"] == "float64" else 4
            bytes_wanted += size * n * ((m or 0) + 300)
        elif m:
            bytes_wanted += 32 * m**2
        reason = None
        if "square" in contender and n > self.options.exact_rows:
            reason = f"{n:,} points, more than {self.options.exact_rows:,}"
        elif bytes_wanted > MEMORY:
            reason = f"would need about {bytes_wanted / GIB:.0f} GiB"
        elif k >= n:
            reason = f"only {n} points"
        label = label or contender["label"]
        return {
            "data": self.name, "k": k, "name": name, "label": label, "m": m, "runs": [],
            "reason": reason,
        }  # fmt: skip

    def run(self, row, turn=0, rows=None):
        """One fit of a row's contender; one that fails is not run again."""
        if row["reason"] or len(row["runs"]) > turn:
            return
        contender, k, m = CONTENDERS[row["name"]], row["k"], row["m"]
        arguments = dict(contender.get("arguments", {}))
        if contender["fit"] == "neuralef":
            keywords = contender["keywords"] | (contender.get("wide", {}) if k > WIDE else {})
            if "landmarks" in contender:
                keywords = keywords | {contender["landmarks"]: m or "auto"}
            arguments = {"estimator": contender["estimator"], "keywords": keywords}
        print(f"{self.name}, k = {k}: {row['label']}, m = {m}, {turn}", file=sys.stderr, flush=True)
        found = self.task(
            "run", fit=contender["fit"], arguments=arguments, k=k, m=m, rows=rows,
            gamma=self.known["gamma"], threads=self.options.threads,
            seed=self.options.seed + turn % self.options.seeds,
        )  # fmt: skip
        if "error" in found:
            row["reason"] = found["error"]
        else:
            row["runs"].append(found)

    def turns(self, rows):
        for turn in range(max(self.options.repeats, self.options.seeds)):
            for row in rows:
                # Only landmarks and networks depend on a seed.
                if turn < self.options.repeats or "square" not in CONTENDERS[row["name"]]:
                    self.run(row, turn)

    def section(self, k):
        """Rows of one number of components."""
        chosen, rows, ours = self.options.contenders, [], None
        if "nystroem" in chosen:
            rows.append(self.row("nystroem", k))
            self.run(rows[0])
            ours = rows[0]["runs"][0]["landmarks"] if rows[0]["runs"] else None
        for name in chosen:
            rows += self.rows_of(name, k, ours)
        self.turns(rows)
        if self.options.equal_transform:
            rows += self.equal(k, rows)
        return rows

    def rows_of(self, name, k, ours):
        if "landmarks" not in CONTENDERS[name]:
            return [self.row(name, k)]
        # Ours is there already with the number that it took.
        given = [ours if m == "ours" else int(m) for m in self.options.landmarks]
        sizes = {m for m in given if m and k <= m <= self.known["n"]}
        return [self.row(name, k, m) for m in sorted(sizes) if (name, m) != ("nystroem", ours)]

    def equal(self, k, rows):
        """Rows with as many landmarks as transform in NeuralEF's time, by a line through two sizes."""
        (goal,) = [r for r in rows if r["name"] == "neuralef"] or [None]
        if goal is None or not goal["runs"]:
            return []
        time, n = median(goal, "transform_us"), self.known["n"]
        out = []
        for name in EQUAL:
            if name not in self.options.contenders:
                continue
            label = f"{CONTENDERS[name]['label']}, transform as NeuralEF"
            low, high = min(max(k, 100), n // 2), min(max(4 * k, 1000), n)
            pair = [self.row(name, k, m) for m in (low, high)]
            for row in pair:
                self.run(row, rows=max(5000, 2 * high))
            if not all(row["runs"] for row in pair):
                out.append(self.row(name, k, label=label) | {"reason": "its time is not known"})
                continue
            first, second = (median(row, "transform_us") for row in pair)
            slope = (second - first) / (high - low)
            m = min(n, int(low + (time - first) / slope)) if slope > 0 else n
            row = self.row(name, k, max(m, k), label)
            if m < k:
                row["reason"] = f"{k} landmarks take longer than NeuralEF's {time:.2f} µs"
            out.append(row)
        self.turns(out)
        return out


def median(row, field):
    return statistics.median(run[field] for run in row["runs"])


def mean(row, field, seeds):
    """`mean ± sd` over seeds."""
    values = [run[field] for run in row["runs"][:seeds] if field in run]
    if not values:
        return ""
    form = ".4f" if field == "cosine" else ".2e"
    text = f"{statistics.mean(values):{form}}"
    return f"{text} ± {statistics.stdev(values):.0e}" if len(values) > 1 else text


def cells(row, seeds):
    """A row of the table: numbers, or the reason why there are none."""
    first = [row["data"], str(row["k"]), row["label"]]
    if row["reason"]:
        return [*first, str(row["m"] or ""), row["reason"].replace("|", "\\|"), *[""] * 6]
    notes = sorted({run["note"] for run in row["runs"] if run["note"]})
    landmarks = sorted({run["landmarks"] for run in row["runs"] if run["landmarks"]})
    return [
        *first[:2],
        f"{row['label']} ({', '.join(notes)})" if notes else row["label"],
        "–".join(str(m) for m in sorted({*landmarks[:1], *landmarks[-1:]})),
        f"{median(row, 'fit_seconds'):.2f}",
        f"{median(row, 'transform_us'):.2f}",
        *[mean(row, field, seeds) for field in ERRORS],
        f"{median(row, 'peak_mib'):.0f} ({median(row, 'fit_mib'):.0f})",
    ]


def side_by_side(rows, seeds):
    """Gram errors on test points of the best and of what it chooses from."""
    lines = []
    for data, k in dict.fromkeys((row["data"], row["k"]) for row in rows):
        here = [row for row in rows if (row["data"], row["k"]) == (data, k)]
        three = [next((r for r in here if r["name"] == name), None) for name in BEST]
        if three[2] is not None:
            shown = [mean(r, "gram_error", seeds) if r else "" for r in three]
            found = [median(r, "gram_error") if r and r["runs"] else None for r in three]
            ratio = f"{found[2] / min(found[:2]):.2f}" if None not in found else ""
            lines.append([data, str(k), *shown, ratio])
    return lines


def show(cells_of_row):
    print("| " + " | ".join(cells_of_row) + " |", flush=True)


def main():
    options = parse()
    rows = []
    with tempfile.TemporaryDirectory() as out:
        bench = Bench(options, out)
        about = bench.task("versions")
        about |= {"threads": options.threads, "seed": options.seed, "seeds": options.seeds}
        about["command"] = shlex.join(["python", "benches/peers/fits.py", *sys.argv[1:]])
        if not options.json:
            print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
            seeds = f"seeds {options.seed} … {options.seed + options.seeds - 1}"
            print(f"{about['machine']}, {about['cores']} cores, {options.threads} threads, {seeds}")
            print(f"`{about['command']}`\n")
            show(HEADER)
            show(["---"] * 3 + ["--:"] * (len(HEADER) - 3))
        for name in options.data:
            known = bench.prepare(name)
            if "error" in known:
                rows.append(
                    {"data": name, "k": "", "name": "", "label": "", "m": None, "runs": [],
                     "reason": known["error"]}
                )  # fmt: skip
                if not options.json:
                    show(cells(rows[-1], options.seeds))
                continue
            for k in options.components:
                found = bench.section(k)
                rows += found
                if not options.json:
                    for row in found:
                        show(cells(row, options.seeds))
    if options.json:
        print(json.dumps({**about, "rows": rows}, indent=2))
        return
    lines = side_by_side(rows, options.seeds)
    if lines:
        print("\nGram error on test points:\n")
        show(["data", "k", *[CONTENDERS[name]["label"] for name in BEST], "best over the lower"])
        show(["---", "--:", "--:", "--:", "--:", "--:"])
        for line in lines:
            show(line)


if __name__ == "__main__":
    main()
