"""Selection in PyTorch on the same card, and the table of both sides: the peer's half of scripts/gpu-bench.

    python3 bench/gpu_select.py machine|fisher|js|kcenter|kmeans ROWS.npy [--picks T] [--device cuda] [--limit-s 60]
    python3 bench/gpu_select.py table RESULTS.jsonl          # Markdown, from the JSON lines of both sides

What a user would write: the greedy recursions with all state on the card and no step that waits for the host. fisher is one
product of the rows and a vector a pick (the textbook's quadratic form of every row would take `dim` times that), in float32
and with A, the gains and the sums in float64; js scores every row at every pick; kcenter measures every row's distance to
the newest pick; k-means is Lloyd's iteration in chunks, sums by a product with the one-hot labels. A part ends after
--limit-s seconds, and the table scales its seconds per pick to all picks, and says so: the work of a pick is the same at
every pick. Rows are on the card before the clock starts. Every part prints one line of JSON.
"""
import argparse
import json
import math
import sys
import time

# --- shared ----------------------------------------------------------------------------------------------------------


def emit(part, options, **values):
    print(json.dumps({"part": part, "side": "pytorch", **values, "device": options.name}), flush=True)


def wait(options):
    if options.device != "cpu":
        torch.cuda.synchronize()


def open_torch(options):
    global np, torch
    import numpy as np
    import torch
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no card; try --device cpu")
    options.name = "cpu" if options.device == "cpu" else torch.cuda.get_device_name()


def load_rows(options):
    """The file of rows on the device, in pieces."""
    file = np.load(options.file, mmap_mode="r")
    rows = torch.empty(file.shape, dtype=torch.float32, device=options.device)
    for at in range(0, len(file), 65536):
        rows[at:at + 65536] = torch.from_numpy(np.array(file[at:at + 65536])).to(options.device)
    wait(options)
    return rows


def pick_loop(options, picks, step):
    """Calls step(t) until all picks are made or the time is over; how many, and the seconds they took."""
    step_group = 50
    start = time.perf_counter()
    done = 0
    while done < picks:
        for t in range(done, min(done + step_group, picks)):
            step(t)
        done = min(done + step_group, picks)
        wait(options)
        if time.perf_counter() - start > options.limit_s:
            break
    return done, time.perf_counter() - start


def marks(history):
    """The objective after 1, 2, 5, 10, 20, 50 ... picks."""
    out = {}
    decade = 1
    while decade <= len(history):
        for mark in (decade, 2 * decade, 5 * decade):
            if mark <= len(history):
                out[str(mark)] = float(history[mark - 1])
        decade *= 10
    return out


def report(part, options, rows, run, **more):
    """run(picks) -> (done, seconds, history); once briefly to warm up, then in earnest."""
    run(min(20, options.picks))
    done, seconds, history = run(options.picks)
    history = history[:done].cpu().tolist()
    emit(part, options, rows=rows.shape[0], dim=rows.shape[1], picks=done, of=options.picks, seconds=seconds,
         objective=history[-1], objective_at=marks(history), **more)


# --- the peers -------------------------------------------------------------------------------------------------------


def fisher(options):
    x = load_rows(options)
    n, dim = x.shape
    for dtype, variant in ((torch.float64, "A in float64"), (torch.float32, "float32")):
        start_gains = torch.cat([(part.to(dtype) ** 2).sum(1) for part in x.split(65536)])

        def run(picks, dtype=dtype, start_gains=start_gains):
            inverse = torch.eye(dim, dtype=dtype, device=options.device)
            gains = start_gains.clone()
            total = torch.zeros((), dtype=torch.float64, device=options.device)
            history = torch.zeros(picks, dtype=torch.float64, device=options.device)

            def step(t):
                row = torch.argmax(gains).reshape(1)
                v = x.index_select(0, row)[0].to(dtype)
                u = inverse @ v
                gain = v @ u
                w = u * torch.rsqrt(1 + gain)
                inverse.addr_(w, w, alpha=-1)
                gains.sub_((x @ w.to(torch.float32)).to(dtype) ** 2)
                gains.index_fill_(0, row, -math.inf)
                total.add_(torch.log1p(gain.to(torch.float64)))
                history[t] = total

            return (*pick_loop(options, picks, step), history)

        report("fisher", options, x, run, variant=variant)


def js(options):
    """The distributions of P.npy, which ours wrote: a full scan a pick, in float64, alpha 0.5."""
    file = np.load(options.file, mmap_mode="r")
    p = torch.from_numpy(np.array(file)).to(options.device)
    alpha = 0.5
    h = torch.special.entr(p).sum(1)

    def run(picks):
        taken = torch.zeros_like(h)
        total = torch.zeros_like(h[0])
        mean = torch.zeros_like(p[0])
        history = torch.zeros(picks, dtype=torch.float64, device=options.device)

        def step(t):
            nonlocal mean
            if t == 0:
                score = alpha * h
            else:
                between = torch.special.entr(0.5 * (p + mean)).sum(1)
                own = torch.special.entr(mean).sum()
                score = alpha * h + (1 - alpha) * (between - 0.5 * h - 0.5 * own) + taken
            row = torch.argmax(score).reshape(1)
            total.add_(score.index_select(0, row)[0])
            taken.index_fill_(0, row, -math.inf)
            mean = mean + (p.index_select(0, row)[0] - mean) / (t + 1)
            history[t] = total / (t + 1)

        return (*pick_loop(options, picks, step), history)

    report("js", options, p, run, variant="float64")


def kcenter(options):
    x = load_rows(options)
    norms = torch.cat([(part ** 2).sum(1) for part in x.split(65536)])
    mean = torch.stack([part.sum(0, dtype=torch.float64) for part in x.split(65536)]).sum(0).to(torch.float32) / len(x)
    first = torch.argmin(norms - 2 * (x @ mean)).reshape(1)

    def run(picks):
        nearest = torch.full_like(norms, math.inf)
        history = torch.zeros(picks, dtype=torch.float64, device=options.device)

        def step(t):
            row = first if t == 0 else torch.argmax(nearest).reshape(1)
            if t > 0:
                history[t] = nearest.index_select(0, row)[0].to(torch.float64).sqrt()
            c = x.index_select(0, row)[0]
            torch.minimum(nearest, (norms - 2 * (x @ c) + c @ c).clamp_(min=0), out=nearest)
            nearest.index_fill_(0, row, 0)

        return (*pick_loop(options, picks, step), history)

    report("kcenter", options, x, run, variant="float32")


def kmeans(options):
    x = load_rows(options)
    n, dim = x.shape
    k = min(options.clusters, n)
    chunk = 65536
    mean = torch.stack([part.sum(0, dtype=torch.float64) for part in x.split(chunk)]).sum(0) / n
    for part in x.split(chunk):
        part.sub_(mean)
    total_norm = sum(float((part.to(torch.float64) ** 2).sum()) for part in x.split(chunk))

    def lloyd(iterations):
        centres = x[torch.arange(k, device=options.device) * (n // k)].clone()
        start = time.perf_counter()
        score = None
        for turn in range(iterations + 1):
            sums = torch.zeros_like(centres)
            counts = torch.zeros(k, dtype=torch.float32, device=options.device)
            half = 0.5 * (centres ** 2).sum(1)
            score = torch.zeros((), dtype=torch.float64, device=options.device)
            for part in x.split(chunk):
                best, labels = torch.min(half - part @ centres.T, dim=1)
                score += best.sum(dtype=torch.float64)
                if turn < iterations:
                    hot = torch.nn.functional.one_hot(labels, k).to(torch.float32)
                    sums.addmm_(hot.T, part)
                    counts += hot.sum(0)
            if turn < iterations:
                centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        wait(options)
        return time.perf_counter() - start, total_norm + 2 * float(score)

    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        lloyd(1)
        seconds, inertia = lloyd(options.iterations)
        emit("kmeans", options, rows=n, dim=dim, clusters=k, iterations=options.iterations, seconds=seconds,
             ms_per_iteration=seconds * 1e3 / options.iterations, inertia=inertia,
             variant="tf32" if tf32 else "float32")
    torch.backends.cuda.matmul.allow_tf32 = False


def machine(options):
    """What the card gives: bytes a second of a copy (read and written), and operations a second of a matrix product."""

    def best(work, repeats=10):
        work()
        times = []
        for _ in range(repeats):
            wait(options)
            start = time.perf_counter()
            work()
            wait(options)
            times.append(time.perf_counter() - start)
        return min(times)

    small = options.device == "cpu"
    n = 1 << (22 if small else 29)
    a = torch.ones(n, dtype=torch.float32, device=options.device)
    b = torch.empty_like(a)
    values = {"copy_bytes_per_s": 8 * n / best(lambda: b.copy_(a)), "read_bytes_per_s": 4 * n / best(a.sum)}
    del a, b
    side = 512 if small else 8192
    for name, dtype, tf32 in (("fp32", torch.float32, False), ("tf32", torch.float32, True),
                              ("bf16", torch.bfloat16, False), ("fp64", torch.float64, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a = torch.randn(side, side, device=options.device).to(dtype)
        values[f"{name}_flops"] = 2 * side ** 3 / best(lambda a=a: a @ a, 5)
    torch.backends.cuda.matmul.allow_tf32 = False
    if options.device != "cpu":
        values["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        values["memory_bytes"] = torch.cuda.get_device_properties(0).total_memory
        values["cuda"] = torch.version.cuda
    emit("machine", options, torch=torch.__version__, **values)


# --- the table -------------------------------------------------------------------------------------------------------


def read_lines(path):
    lines = []
    with open(path, encoding="utf-8") as file:
        for text in file:
            if text.startswith("{"):
                try:
                    lines.append(json.loads(text))
                except ValueError:  # cut off in the middle
                    continue
    return lines


def pick_lines(lines, part, side):
    """Whole results; where there is none, the last that a run which was cut off printed."""
    mine = [line for line in lines if line["part"] == part and line["side"] == side]
    return [line for line in mine if "partial" not in line] or mine[-1:]


def scaled(line, picks):
    return line["seconds"] * picks / line["picks"]


def seconds_text(line, picks):
    text = f"{scaled(line, picks):.3g}"
    if line["picks"] < picks:
        text += f" ({line['picks']} picks in {line['seconds']:.3g} s, scaled)"
    return text


def common_objective(a, b):
    """Both objectives after the most picks that both sides tell of."""
    both = sorted(set(a.get("objective_at", {})) & set(b.get("objective_at", {})), key=int)
    if not both:
        return ""
    return f"after {both[-1]}: {a['objective_at'][both[-1]]:.8g} / {b['objective_at'][both[-1]]:.8g}"


def floor_seconds(part, line, peaks):
    """The least the card allows (docs/benchmarks.md): bytes over a copy's bandwidth, or operations over the peak."""
    rows, dim, picks = line["rows"], line["dim"], line.get("picks")
    bandwidth = peaks["copy_bytes_per_s"]
    if part == "fisher":
        return max(math.ceil(picks / 64) * 4 * rows * dim / bandwidth, 2 * rows * dim * picks / (peaks["tf32_flops"] / 3))
    if part == "js":
        return 8 * rows * line.get("clusters", 64) / bandwidth
    return 4 * rows * dim / bandwidth  # kcenter: the rows once; k-means: the rows once an iteration


def find_peaks(lines):
    """Of the part machine; where that is absent, the bandwidth of our own copy, and no number (NaN) for the rest."""
    peaks = dict.fromkeys(["copy_bytes_per_s", "fp32_flops", "tf32_flops", "bf16_flops", "fp64_flops"], math.nan)
    for line in lines:
        if line["part"] == "kernel" and line["name"] == "copy":
            peaks["copy_bytes_per_s"] = line["bytes"] / line["ms"] * 1e3
    for line in lines:
        if line["part"] == "machine":
            peaks.update(line)
    return peaks


def print_machine(lines, peaks):
    names = [line for line in lines if line["part"] == "rows" or "rows" in line]
    if names:
        print(f"{int(names[-1]['rows'])} rows; ", end="")
    ours = [line["device"] for line in lines if line["side"] == "seedcorn" and "device" in line]
    print(f"ours on {ours[-1] if ours else 'nothing'}; PyTorch {peaks.get('torch', '?')}. Measured in the same run: copy "
          f"{peaks['copy_bytes_per_s'] / 1e9:.0f} GB/s (read and written), products of 8,192: "
          + ", ".join(f"{name} {peaks[name + '_flops'] / 1e12:.1f} TFLOP/s" for name in ("fp32", "tf32", "bf16", "fp64"))
          + ".\n")


def print_selections(lines, peaks):
    print("| what | shape | ours, s | PyTorch | PyTorch, s | ratio | floor, s | of the floor | objective, ours / PyTorch |\n"
          "|---|---|--:|---|--:|--:|--:|--:|---|")
    for part in ("fisher", "js", "kcenter"):
        ours, theirs = pick_lines(lines, part, "seedcorn"), pick_lines(lines, part, "pytorch")
        if not ours:
            print(f"| {part} | | not yet measured | | | | | | |")
            continue
        mine = ours[0]
        picks = int(mine["picks"]) if "partial" not in mine else max([int(mine["picks"]), *(t["of"] for t in theirs)])
        floor = floor_seconds(part, {**mine, "picks": picks}, peaks)
        shape = f"{int(mine['rows'])} x {int(mine['dim'])}, {picks} picks{', ours cut off' if 'partial' in mine else ''}"
        for their in theirs or [None]:
            print(f"| {part} | {shape} | {seconds_text(mine, picks)} | "
                  + (f"{their['variant']} | {seconds_text(their, picks)} | {scaled(their, picks) / scaled(mine, picks):.1f} "
                     if their else "not yet measured | | ")
                  + f"| {floor:.3g} | {100 * floor / scaled(mine, picks):.0f} % | "
                  + (common_objective(mine, their) if their else "") + " |")
        if "cluster_seconds" in mine:
            print(f"| {part}: its clusters | K = {int(mine['clusters'])}, {int(mine['cluster_iterations'])} iterations | "
                  f"{mine['cluster_seconds']:.3g}, and {mine['centre_seconds']:.3g} to centre the rows | | | | | | |")
    ours = pick_lines(lines, "kmeans", "seedcorn")
    print("\n| what | shape | ours, ms an iteration | PyTorch | PyTorch, ms | ratio | floor, ms | of the floor | inertia, ours / "
          "PyTorch |\n|---|---|--:|---|--:|--:|--:|--:|---|")
    if not ours:
        print("| k-means | | not yet measured | | | | | | |")
    for mine in ours:
        floor = 1e3 * floor_seconds("kmeans", mine, peaks)
        for their in pick_lines(lines, "kmeans", "pytorch") or [None]:
            print(f"| k-means | {int(mine['rows'])} x {int(mine['dim'])}, K = {int(mine['clusters'])} | "
                  f"{mine['ms_per_iteration']:.2f} | "
                  + (f"{their['variant']} | {their['ms_per_iteration']:.2f} | "
                     f"{their['ms_per_iteration'] / mine['ms_per_iteration']:.1f} " if their else "not yet measured | | ")
                  + f"| {floor:.2f} | {100 * floor / mine['ms_per_iteration']:.0f} % | {mine['inertia']:.8g} / "
                  + (f"{their['inertia']:.8g}" if their else "") + " |")


def print_kernels(lines, peaks):
    of = {"3 x tf32": peaks["tf32_flops"] / 3, "fp64": peaks["fp64_flops"], "fp32": peaks["fp32_flops"],
          "bf16": peaks["bf16_flops"]}
    print("\n| operation | shape | ms | GB/s | of the copy's | TFLOP/s | of the product's |\n|---|---|--:|--:|--:|--:|--:|")
    for line in (line for line in lines if line["part"] == "kernel"):
        rate = line["bytes"] / line["ms"] * 1e3
        flops = line["operations"] / line["ms"] * 1e3
        peak = of.get(line["arithmetic"])
        print(f"| {line['name']} | {line['shape']} | {line['ms']:.3f} | {rate / 1e9:.0f} | "
              f"{100 * rate / peaks['copy_bytes_per_s']:.0f} % | "
              + (f"{flops / 1e12:.2f} | {100 * flops / peak:.0f} % ({line['arithmetic']}) |" if peak else " | |"))


def table(options):
    lines = read_lines(options.file)
    peaks = find_peaks(lines)
    print_machine(lines, peaks)
    print_selections(lines, peaks)
    print_kernels(lines, peaks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["machine", "fisher", "js", "kcenter", "kmeans", "table"])
    parser.add_argument("file", nargs="?", help="rows as .npy; js: the distributions; table: JSON lines; machine: none")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--picks", type=int, default=10000)
    parser.add_argument("--clusters", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--limit-s", type=float, default=60, help="stop a part after so many seconds")
    options = parser.parse_args()
    if options.what != "machine" and not options.file:
        parser.error(f"{options.what} needs a file")
    if options.what == "table":
        table(options)
        return
    open_torch(options)
    with torch.inference_mode():
        globals()[options.what](options)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"gpu_select: {error}")
