"""k-means beside FAISS and scikit-learn: the same rows, the same given centres, ten iterations each.

    scripts/peers --selection
    .venv/bin/python bench/peers/kmeans_peers.py [--rows 24000,100000] [--clusters 64,1024] [--data clustered,spread]
    .venv/bin/python bench/peers/kmeans_peers.py --embeddings embeddings.npy [--clusters 64,1024]

All run in one process, by turns, each `--repeats` times; the best of each counts. What is timed is the whole call on rows
in memory: checking, centring, the iterations, and the labels of all rows at the end. FAISS's train() gives no labels, so
its time is train() and the search for them; train() alone is shown beside. CPU seconds are those of all threads:
where other work shares the cores they say more than the clock does. The objective is computed from each one's
labels and centres, in float64, outside of what is timed.

The floor is 2 rows x clusters x dim operations for each pass over all rows, eleven of them (the last gives the labels), at the rate that numpy's sgemm
reaches at that shape in the same process. Bounds spare passes, so a time may lie below it. `clustered` are 64 groups that lie well apart;
`spread` is one cloud whose variance falls off slowly, in which no bound spares much; embeddings of real texts lie between the two. SEEDCORN_LIBRARY names another
build of ours. Quote ratios, not seconds.
"""
import argparse
import os
import pathlib
import sys
import time

THREADS = len(os.sched_getaffinity(0))
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, str(THREADS))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # so that one library's idle threads leave the cores to another

import numpy as np  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

import seedcorn  # noqa: E402

ITERATIONS = 10


def make_rows(kind, n, dim, seed=0):
    random = np.random.default_rng(seed)
    if kind == "clustered":
        centres = random.standard_normal((64, dim), dtype=np.float32)
        return centres[random.integers(0, 64, n)] + np.float32(0.5) * random.standard_normal((n, dim), dtype=np.float32)
    return random.standard_normal((n, dim), dtype=np.float32) / np.sqrt(1 + np.arange(dim, dtype=np.float32))


def ours(x, centres):
    fitted = seedcorn.KMeans(len(centres), max_iter=ITERATIONS, tol=0, init=centres, threads=THREADS).fit(x)
    return fitted.labels_, fitted.cluster_centers_, fitted.n_iter_, None


def faiss_engine():
    import faiss

    faiss.omp_set_num_threads(THREADS)

    def run(x, centres):
        k, dim = centres.shape
        model = faiss.Kmeans(dim, k, niter=ITERATIONS, max_points_per_centroid=len(x), min_points_per_centroid=1)
        start = time.perf_counter()
        model.train(x, init_centroids=centres)
        trained = time.perf_counter() - start
        _, labels = model.index.search(x, 1)
        return labels[:, 0], model.centroids, ITERATIONS, trained

    return f"FAISS {faiss.__version__}", run


def sklearn_engine():
    import sklearn
    import sklearn.cluster

    def run(x, centres):
        model = sklearn.cluster.KMeans(len(centres), init=centres, n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd")
        model.fit(x)
        return model.labels_, model.cluster_centers_, model.n_iter_, None

    return f"scikit-learn {sklearn.__version__}", run


def objective(x, labels, centres):
    total = 0.0
    for at in range(0, len(x), 4096):
        gap = x[at:at + 4096].astype(np.float64) - centres[labels[at:at + 4096]].astype(np.float64)
        total += float(np.einsum("ij,ij->", gap, gap))
    return total


def sgemm_seconds(x, centres, repeats=3):
    best = np.inf
    out = np.empty((len(x), len(centres)), np.float32)
    for _ in range(repeats):
        start = time.perf_counter()
        np.matmul(x, centres.T, out=out)
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="24000,100000")
    parser.add_argument("--dim", type=int, default=576)
    parser.add_argument("--clusters", default="64,1024")
    parser.add_argument("--data", default="clustered,spread")
    parser.add_argument("--embeddings", type=pathlib.Path, help="float32 rows of a .npy file, instead of made ones")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    engines = [(f"seedcorn {seedcorn.version()}", ours)]
    for make in (faiss_engine, sklearn_engine):
        try:
            engines.append(make())
        except ImportError as error:
            print(f"kmeans_peers: {error.name} is not installed and is left out; `scripts/peers --selection` installs it",
                  file=sys.stderr)
    if options.embeddings:
        sets = [(options.embeddings.stem, np.load(options.embeddings))]
        options.dim = sets[0][1].shape[1]
    else:
        sets = ((kind, make_rows(kind, int(n), options.dim))
                for n in options.rows.split(",") for kind in options.data.split(","))
    print(f"{ITERATIONS} iterations, {options.dim} columns, {THREADS} threads, best of {options.repeats}\n")
    print("| rows | clusters | data | | seconds | beside ours | CPU seconds | beside ours | of them training | iterations | "
          "objective beside ours | floor, s |\n|--:|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for kind, x in sets:
        n = len(x)
        for k in map(int, options.clusters.split(",")):
            centres = x[np.random.default_rng(1).choice(n, k, replace=False)].copy()
            floor = (ITERATIONS + 1) * sgemm_seconds(x, centres)
            best, cpu = {}, {}
            for _ in range(options.repeats):
                for name, run in engines:
                    time.sleep(0.2)
                    start, used = time.perf_counter(), time.process_time()
                    labels, found, iterations, trained = run(x, centres)
                    seconds, used = time.perf_counter() - start, time.process_time() - used
                    cpu[name] = min(used, cpu.get(name, used))
                    if name not in best or seconds < best[name][0]:
                        best[name] = (seconds, trained, iterations, labels, found)
            first = engines[0][0]
            mine = objective(x, *best[first][3:])
            for name, (seconds, trained, iterations, labels, found) in best.items():
                print(f"| {n} | {k} | {kind} | {name} | {seconds:.3f} | {seconds / best[first][0]:.2f} | "
                      f"{cpu[name]:.3f} | {cpu[name] / cpu[first]:.2f} | "
                      f"{'' if trained is None else f'{trained:.3f}'} | {iterations} | "
                      f"{objective(x, labels, found) / mine - 1:+.1e} | {floor:.3f} |", flush=True)


if __name__ == "__main__":
    main()
