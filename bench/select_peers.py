"""Selection beside what a user would write instead: numpy, one pass over the rows for every pick.

    .venv/bin/python bench/select_peers.py [--seedcorn BIN] [--rows 24000] [--dim 576] [--picks 2000] [--only fisher,js]

Both sides read the same file of rows (clustered, as embeddings are, and never isotropic). numpy works in float64, for
the sequence of picks is to be that of float64; fisher in float32 is shown beside. `fisher` is the recursion with one
product of a matrix and a vector a pick, `fisher, textbook` the quadratic form of every row at every pick (a few picks
are timed and scaled), `js` a full scan a pick, `kcenter` the distances of all rows to the newest pick, `bait` (at most
500 picks) both quadratic forms of every row. The objective of both sides is printed: equal to the last digits, or the
comparison means nothing. Quote ratios, not seconds.

Two libraries stand beside, where they are installed (`scripts/peers --selection`), on 6,000 rows, through our Python driver
(SEEDCORN_LIBRARY names its library): `fisher submodlib` is its LogDeterminant over the matrix of all products, whose
making counts, and must choose the same rows; `facility apricot` its FacilityLocation over all cosines, beside ours with
the `neighbours` nearest ones, both judged by the likeness over all rows.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]


def make_rows(n, dim, groups=64, seed=0):
    random = np.random.default_rng(seed)
    centres = random.standard_normal((groups, dim))
    return (centres[random.integers(0, groups, n)] + 0.5 * random.standard_normal((n, dim))).astype(np.float32)


# --- numpy ---------------------------------------------------------------------------------------------------------


def fisher(x, picks, dtype=np.float64):
    """Greedy D-optimal by the recursion; returns log det S - log det S_0 (lambda 1)."""
    x = x.astype(dtype)
    inverse = np.eye(x.shape[1], dtype=dtype)
    gains = np.einsum("ij,ij->i", x, x)
    total = 0.0
    for _ in range(picks):
        row = int(np.argmax(gains))
        gain = float(gains[row])
        total += np.log1p(gain)
        u = inverse @ x[row]
        w = u / np.sqrt(1 + x[row] @ u)
        inverse -= np.outer(w, w)
        gains -= (x @ w) ** 2
        gains[row] = -np.inf
    return total


def fisher_textbook(x, picks):
    """The quadratic form of every row, at every pick."""
    x = x.astype(np.float64)
    s = np.eye(x.shape[1])
    for _ in range(picks):
        gains = np.einsum("ij,ij->i", x @ np.linalg.inv(s), x)
        row = x[int(np.argmax(gains))]
        s += np.outer(row, row)


def entropy(p):
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=-1)


def js(p, picks, alpha=0.5):
    """alpha H + (1 - alpha) JS to the mean of the chosen, by a full scan; returns the mean score."""
    h = entropy(p)
    row = int(np.argmax(h))
    total, mean = alpha * h[row], p[row].copy()
    taken = np.zeros(len(p), bool)
    taken[row] = True
    for t in range(1, picks):
        score = alpha * h + (1 - alpha) * (entropy((p + mean) / 2) - h / 2 - entropy(mean) / 2)
        score[taken] = -np.inf
        row = int(np.argmax(score))
        total += score[row]
        taken[row] = True
        mean += (p[row] - mean) / (t + 1)
    return total / picks


def kcenter(x, picks):
    """The farthest row, from the one nearest to the mean on; returns the last distance."""
    x = x.astype(np.float64)
    norms = np.einsum("ij,ij->i", x, x)
    row = int(np.argmin(np.sum((x - x.mean(0)) ** 2, 1)))
    nearest = np.full(len(x), np.inf)
    distance = 0.0
    for t in range(picks):
        if t > 0:
            row = int(np.argmax(nearest))
            distance = float(np.sqrt(nearest[row]))
        nearest = np.minimum(nearest, np.maximum(norms - 2 * (x @ x[row]) + norms[row], 0))
        nearest[row] = 0
    return distance


def bait(x, picks):
    """The pick that lowers tr(F A) most, both quadratic forms of every row anew at every pick; returns tr(F A)."""
    x = x.astype(np.float64)
    f = x.T @ x / len(x)
    s = np.eye(x.shape[1])
    taken = np.zeros(len(x), bool)
    for _ in range(picks):
        xa = x @ np.linalg.inv(s)
        fall = np.einsum("ij,ij->i", xa @ f, xa) / (1 + np.einsum("ij,ij->i", xa, x))
        fall[taken] = -np.inf
        row = int(np.argmax(fall))
        taken[row] = True
        s += np.outer(x[row], x[row])
    return float(np.sum(f * np.linalg.inv(s)))


def distributions(x, k=64, seed=0):
    """Softmax over the distances to k rows: the shape that js gets; which centres they are is all one to its time."""
    centres = x[np.random.default_rng(seed).choice(len(x), k, replace=False)].astype(np.float64)
    x = x.astype(np.float64)
    d2 = np.einsum("ij,ij->i", x, x)[:, None] - 2 * x @ centres.T + np.einsum("ij,ij->i", centres, centres)
    energy = np.sqrt(np.maximum(d2, 0))
    p = np.exp(energy.min(1, keepdims=True) - energy)
    return p / p.sum(1, keepdims=True)


# --- libraries -----------------------------------------------------------------------------------------------------


def chosen_by_ours(strategy, x, picks, threads):
    sys.path.insert(0, str(ROOT / "python"))
    import seedcorn

    return seedcorn.Selector(strategy, picks, threads=threads).fit(x).rows_.tolist()


def submodlib_fisher(x, picks):
    from submodlib.functions.logDeterminant import LogDeterminantFunction

    function = LogDeterminantFunction(n=len(x), mode="dense", lambdaVal=1, sijs=x @ x.T)
    return [row for row, _ in function.maximize(picks, show_progress=False)]


def cosines(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.maximum(unit @ unit.T, 0)


def apricot_facility(x, picks):
    import apricot

    return apricot.FacilityLocationSelection(picks, metric="precomputed").fit(cosines(x)).ranking.tolist()


def log_det(x, rows):
    chosen = x[rows].astype(np.float64)
    return float(np.linalg.slogdet(np.eye(len(rows)) + chosen @ chosen.T)[1])


def served(x, rows):
    return float(cosines(x)[:, rows].max(axis=1).mean())


LIBRARIES = {"fisher submodlib": ("submodlib", submodlib_fisher, log_det),
             "facility apricot": ("apricot", apricot_facility, served)}


def beside_library(name, x, picks, threads):
    package, function, judge = LIBRARIES[name]
    try:
        __import__(package)
    except ImportError:
        print(f"select_peers: {package} is not installed, {name} is left out; `scripts/peers --selection` installs it",
              file=sys.stderr)
        return
    strategy = name.split()[0]
    function(x[:200], 5)  # compiled, loaded
    seconds, theirs_rows = timed(function, x, picks)
    ours_seconds, rows = min(timed(chosen_by_ours, strategy, x, picks, threads) for _ in range(3))
    same = sum(a == b for a, b in zip(rows, theirs_rows))
    print(f"| {name} | {ours_seconds:.2f} | {len(x)} rows, {same} of {picks} picks the same | {seconds:.1f} | "
          f"**{seconds / ours_seconds:.1f}** | {judge(x, rows):.8g} | {judge(x, theirs_rows):.8g} |", flush=True)


# --- the driver ------------------------------------------------------------------------------------------------------


def run_ours(options, path, strategy, picks):
    command = [options.seedcorn, "bench", "select", "--strategy", strategy, "--embeddings", path, "--budget",
               str(picks), "--repeats", "1", "--threads", str(options.threads), "--no-progress", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"select_peers: {' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout)
    result["objective"] = float(done.stderr.split("objective ")[-1].split(",")[0])
    return result


def timed(function, *arguments):
    start = time.perf_counter()
    value = function(*arguments)
    return time.perf_counter() - start, value


def theirs(name, x, picks):
    if name == "fisher":
        seconds, value = timed(fisher, x, picks)
        return [("float64", seconds, value), ("float32", *timed(fisher, x, picks, np.float32))]
    if name == "js":
        p = distributions(x)
        few = min(picks, 200)
        seconds, value = timed(js, p, few)
        return [(f"float64, {few} picks scaled", seconds * picks / few, None)]
    if name == "bait":
        few = min(picks, 4)
        seconds, _ = timed(bait, x, few)
        return [(f"every form anew, {few} picks scaled", seconds * picks / few, None)]
    if name == "kcenter":
        return [("float64", *timed(kcenter, x, picks))]
    few = 3
    seconds, _ = timed(fisher_textbook, x, few)
    return [(f"textbook, {few} picks scaled", seconds * picks / few, None)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seedcorn", default=os.environ.get("SEEDCORN_BIN") or str(ROOT / "build/release/bin/seedcorn"))
    parser.add_argument("--rows", type=int, default=24000)
    parser.add_argument("--dim", type=int, default=576)
    parser.add_argument("--picks", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="fisher,fisher textbook,js,kcenter,bait,fisher submodlib,facility apricot",
                        help="names, separated by commas")
    options = parser.parse_args()
    x = make_rows(options.rows, options.dim)
    print(f"{options.rows} x {options.dim}, {options.picks} picks, {options.threads} threads, numpy {np.__version__}\n")
    print("| strategy | ours, s | numpy | numpy, s | ratio | objective, ours | numpy |\n|---|--:|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.npy")
        np.save(path, x)
        for name in options.only.split(","):
            if name in LIBRARIES:
                beside_library(name, x[:6000], min(options.picks, 500), options.threads)
                continue
            picks = min(options.picks, 500) if name == "bait" else options.picks
            ours = run_ours(options, path, name.split()[0], picks)
            for what, seconds, value in theirs(name, x, picks):
                print(f"| {name} | {ours['seconds']:.2f} | {what} | {seconds:.1f} | **{seconds / ours['seconds']:.1f}** | "
                      f"{ours['objective']:.8g} | {'' if value is None else f'{value:.8g}'} |", flush=True)


if __name__ == "__main__":
    main()
