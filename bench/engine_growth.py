"""How the engine's speed grows with the length of a row, with the batch, and with threads, beside transformers and PEFT.

    .venv/bin/python bench/engine_growth.py [--dtype bf16] [--only length,batch,threads] [--out engine.jsonl]
    .venv/bin/python bench/engine_growth.py plot engine.jsonl docs/pictures/engine.png

Each measurement is a process of its own, as in bench/peers.py: ours and theirs in turn, the better of two. Rows of 256 to 4,096
tokens come 4,096 at a time; LoRA's stop where --longest-training says, for theirs keeps all scores and logits. Batches of 1 to 32
generate 64 tokens; threads are 1, 2, 4 ... up to those of the machine.
"""
import argparse
import json
import os
import pathlib
import sys

import peers

LENGTHS, BATCHES, TOKENS = [256, 512, 1024, 2048, 4096], [1, 2, 4, 8, 16, 32], 4096


def thread_counts():
    most, counts = len(os.sched_getaffinity(0)), [1]
    while counts[-1] < most:
        counts.append(min(2 * counts[-1], most))
    return counts


def plan(options):
    """What is measured: the series, its x, then the case, rows and tokens as in peers.py, and threads."""
    lora = ["train", "--method", "lora"]
    threads = options.threads
    for n in LENGTHS:
        yield "length", "embed", n, ["embed"], TOKENS // n, n, threads
        if n <= options.longest_training:
            yield "length", "train, LoRA", n, lora, max(1, 1024 // n), n, threads
    for n in BATCHES:
        yield "batch", "generate", n, ["generate"], n, 64, threads
    for n in thread_counts():
        yield "threads", "embed", n, ["embed"], 8, 256, n
        yield "threads", "train, LoRA", n, lora, 4, 256, n
        yield "threads", "generate, batch 8", n, ["generate"], 8, 64, n


def measure(options):
    with open(options.out, "w", encoding="utf-8") as out:
        for axis, name, x, case, rows, tokens, threads in plan(options):
            if axis not in options.only.split(","):
                continue
            print(f"engine_growth: {name}, {axis} {x}", file=sys.stderr, flush=True)
            at = argparse.Namespace(**{**vars(options), "threads": threads})
            ours = theirs = None
            for _ in range(peers.ROUNDS):
                ours = peers.better(ours, peers.run_ours(case, rows, tokens, at))
                theirs = peers.better(theirs, peers.run_theirs(case, rows, tokens, at))
            row = {"axis": axis, "name": name, "x": x, "rows": rows, "tokens": tokens, "threads": threads,
                   "dtype": options.dtype, "ours": ours["per_second"], "theirs": theirs["per_second"],
                   "ours_bytes": ours["peak_bytes"], "theirs_bytes": theirs["peak_bytes"]}
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(f"| {name} | {axis} {x} | {row['ours']:.0f} | {row['theirs']:.0f} | {row['ours'] / row['theirs']:.2f} | "
                  f"{row['ours_bytes'] / 1e9:.2f} GB | {row['theirs_bytes'] / 1e9:.2f} GB |", flush=True)


def plot(source, target):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in pathlib.Path(source).read_text().splitlines()]
    axes = [axis for axis in ("length", "batch", "threads") if any(r["axis"] == axis for r in rows)]
    figure, panels = pyplot.subplots(1, len(axes), figsize=(4.6 * len(axes), 3.8), squeeze=False)
    labels = {"length": "tokens a row", "batch": "rows generated at once", "threads": "threads"}
    for panel, axis in zip(panels[0], axes):
        mine = [r for r in rows if r["axis"] == axis]
        for colour, name in enumerate(dict.fromkeys(r["name"] for r in mine)):
            series = [r for r in mine if r["name"] == name]
            xs = [r["x"] for r in series]
            panel.plot(xs, [r["ours"] for r in series], "o-", color=f"C{colour}", label=f"{name}, ours")
            panel.plot(xs, [r["theirs"] for r in series], "x--", color=f"C{colour}", label=f"{name}, theirs")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(sorted({r["x"] for r in mine}), [str(x) for x in sorted({r["x"] for r in mine})])
        panel.set_xlabel(labels[axis])
        panel.set_ylabel("tokens a second")
        panel.grid(True, which="both", alpha=0.3)
        panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    print(f"engine_growth: {target}")


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "plot":
        plot(sys.argv[2], sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seedcorn", default=os.environ.get("SEEDCORN_BIN")
                        or str(peers.ROOT / "build/release/bin/seedcorn"))
    parser.add_argument("--model", default=os.environ.get("SEEDCORN_TEST_MODEL")
                        or str(pathlib.Path("~/.cache/seedcorn/smollm2-135m-instruct").expanduser()))
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="length,batch,threads")
    parser.add_argument("--longest-training", type=int, default=2048)
    parser.add_argument("--out", default="engine.jsonl")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
