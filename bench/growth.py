"""How selection grows with the number of rows: seconds, passes over the rows, memory beside the file.

    .venv/bin/python bench/growth.py --embeddings REAL.npy [--rows 50000,100000,...] [--only fisher,js] [--out growth.jsonl]
    .venv/bin/python bench/growth.py --limit SHARE ...     the same under a cgroup with SHARE of the file's size as memory
    .venv/bin/python bench/growth.py plot growth.jsonl docs/growth.png

Rows are real embeddings, drawn with replacement, plus noise a third as long as a row's distance from the mean; without
--embeddings a mixture of groups. Never one round cloud: on that every bound fails, and no embeddings look like it. Each
run is a process of its own, `seedcorn bench select`, which maps the file; a thread samples what it holds beside the
mapping (RssAnon). The exponent is the slope of the logarithms between the first and the last size. --limit needs root and
the memory controller (cgroup v1 or v2); the page cache of the file counts there, so less than the file fits.
"""
import argparse
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHUNK = 20_000


def write_rows(path, n, real, dim=576, seed=0):
    """n rows into path, a chunk at a time; the first rows of a larger file are those of a smaller one."""
    dim = dim if real is None else real.shape[1]
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, dim))
    if real is None:
        centres = np.random.default_rng(seed).standard_normal((1000, dim)).astype(np.float32)
        length = math.sqrt(dim)
    else:
        centres = real
        length = float(np.sqrt(np.mean(np.sum((real - real.mean(0)) ** 2, 1))))
    for first in range(0, n, CHUNK):
        random = np.random.default_rng([seed, first])
        count = min(CHUNK, n - first)
        noise = random.standard_normal((CHUNK, dim), dtype=np.float32)[:count] * (length / 3 / math.sqrt(dim))
        rows[first:first + count] = centres[random.integers(0, len(centres), CHUNK)[:count]] + noise
    rows.flush()


def anonymous_bytes(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class Limit:
    """A cgroup with so many bytes of memory, for the processes started in it."""

    def __init__(self, size):
        v1, v2 = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
        self.folder = (v1 if v1.is_dir() else v2) / f"seedcorn-growth-{os.getpid()}"
        self.folder.mkdir()
        (self.folder / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(size))

    def enter(self):
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def close(self):
        for _ in range(50):  # its processes have ended, but may not be gone yet
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.1)


def run(command, limit):
    """The command's JSON, the most anonymous memory that was seen, and its seconds on all processors."""
    most, done = 0, threading.Event()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=limit.enter if limit else None)

    def watch():
        nonlocal most
        while not done.wait(0.01):
            most = max(most, anonymous_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    done.set()
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"growth: {' '.join(map(str, command))} ended with code {process.returncode}: {err.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(out), most, cpu


def exponent(points):
    """Of the least-squares line through the logarithms."""
    x, y = np.log([p[0] for p in points]), np.log([p[1] for p in points])
    return float(np.polyfit(x, y, 1)[0])


def measure(arguments):
    real = np.load(arguments.embeddings).astype(np.float32) if arguments.embeddings else None
    kind = "real + noise" if arguments.embeddings else "clustered"
    out = open(arguments.out, "a") if arguments.out else None
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for n in map(int, arguments.rows.split(",")):
            path = pathlib.Path(folder) / "rows.npy"
            write_rows(path, n, real)
            size = path.stat().st_size
            for strategy in arguments.only.split(","):
                limit = Limit(int(arguments.limit * size)) if arguments.limit else None
                command = [arguments.seedcorn, "bench", "--what", "select", "--strategy", strategy, "--embeddings", path,
                           "--budget", str(arguments.picks), "--repeats", "1", "--no-warm-up", "--json", "--no-progress"]
                try:
                    found, most, cpu = run(command, limit)
                finally:
                    if limit:
                        limit.close()
                line = {"rows": n, "dim": int(np.load(path, mmap_mode="r").shape[1]), "picks": arguments.picks,
                        "strategy": strategy, "data": kind, "file_bytes": size, "limit_bytes": int(arguments.limit * size),
                        "prepare_seconds": found["prepare_seconds"], "seconds": found["seconds"],
                        "passes": found["passes"], "beside_bytes": most, "cpu_seconds": cpu}
                print(json.dumps(line), flush=True)
                if out:
                    print(json.dumps(line), file=out, flush=True)
            path.unlink()


def plot(path, picture):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in open(path)]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), constrained_layout=True)
    panels = [("seconds", "processor seconds, clustering included", lambda l: l["cpu_seconds"]),
              ("passes", "passes over the rows", lambda l: l["passes"]),
              ("memory", "memory beside the file, share of it", lambda l: l["beside_bytes"] / l["file_bytes"])]
    for axis, (name, label, value) in zip(axes, panels):
        for strategy in dict.fromkeys(l["strategy"] for l in lines):
            for kind, style in (("real + noise", "-o"), ("clustered", "--s")):
                points = sorted((l["rows"], value(l)) for l in lines
                                if l["strategy"] == strategy and l["data"] == kind and not l["limit_bytes"])
                if len(points) < 2:
                    continue
                name_of = f"{strategy}, {kind}"
                if name == "seconds":
                    name_of += f": N^{exponent(points):.2f}"
                axis.plot(*zip(*points), style, label=name_of, markersize=4)
        axis.set_xscale("log")
        sizes = sorted({l["rows"] for l in lines})
        axis.set_xticks(sizes, [f"{n / 1e6:g}M" if n >= 1_000_000 else f"{n // 1000}k" for n in sizes])
        axis.minorticks_off()
        if name == "seconds":
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        if name == "memory":
            axis.axhline(0.1, color="grey", linewidth=0.8)
        axis.set_xlabel("rows N")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(picture, dpi=110)


def main():
    if sys.argv[1:2] == ["plot"]:
        plot(*sys.argv[2:4])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seedcorn", default=ROOT / "build/release/bin/seedcorn")
    parser.add_argument("--embeddings", help="real rows, float32 .npy")
    parser.add_argument("--rows", default="50000,100000,200000,500000,1000000")
    parser.add_argument("--picks", type=int, default=2000)
    parser.add_argument("--only", default="fisher,js", help="strategies")
    parser.add_argument("--limit", type=float, default=0, help="memory, as a share of the file; 0: all there is")
    parser.add_argument("--folder", help="where the rows are written; the system's folder for temporary files")
    parser.add_argument("--out", help="JSONL to append to")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
