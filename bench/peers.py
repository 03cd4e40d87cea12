"""What a user would pick instead, beside ours: transformers and PEFT against `seedcorn bench`, on this machine.

    .venv/bin/python bench/peers.py [--seedcorn BIN] [--model DIR] [--dtype fp32] [--threads N] [--quick] [--json FILE]

Both sides do the same work on the same shapes, each measurement in a process of its own (its peak memory is its
own), in the order ours, theirs, ours, theirs; the better of the two counts. A process warms up once, untimed.
Prints Markdown: the machine, the versions, and a table with ratios and with the floor (docs/benchmarks.md).
Quote ratios: machines differ and are shared. On an idle machine of two cores it takes under ten minutes.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROUNDS = 2  # ours, theirs, ours, theirs
# name, verb's arguments, sequences, tokens a sequence (generate: of the prompt, and new ones)
CASES = [
    ("embed", ["embed"], 8, 256),
    ("train, LoRA r16 on all linear layers", ["train", "--method", "lora"], 4, 256),
    ("train, full", ["train", "--method", "full"], 4, 256),
    ("generate, batch 1", ["generate"], 1, 64),
    ("generate, batch 8", ["generate"], 8, 64),
    ("generate, batch 32", ["generate"], 32, 64),
]
QUICK = {"embed": (2, 32), "train": (1, 32), "generate": (1, 8)}


# --- theirs: one measurement in one process -----------------------------------------------------------------------


def peer(case, rows, tokens, options):
    """Runs one case with transformers; the result has the keys of `seedcorn bench --json`."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype)
    ids = torch.randint(0, model.config.vocab_size, (rows, tokens))
    mask = torch.ones_like(ids)

    def embed():
        with torch.inference_mode():
            model.model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1)

    def train():
        model.zero_grad(set_to_none=False)
        model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()

    def generate():
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens,
                           do_sample=False)

    if case[0] == "train" and case[-1] == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEARS,
                                                 task_type="CAUSAL_LM"))
    work = {"embed": embed, "train": train, "generate": generate}[case[0]]
    model.train(case[0] == "train")
    work()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"units": rows * tokens, "seconds": seconds, "per_second": rows * tokens / seconds, "peak_bytes": peak}


def bandwidth(threads):
    """Bytes per second of reading memory: the sum of half a gigabyte, best of five."""
    import torch

    torch.set_num_threads(threads)
    block = torch.ones(128 * 1024 * 1024)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - start)
    return {"bytes_per_second": block.numel() * 4 / best}


# --- the driver -----------------------------------------------------------------------------------------------


def run_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"peers: {' '.join(command)} ended with code {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def run_ours(case, rows, tokens, options):
    return run_json([options.seedcorn, "bench", *case, "--model", options.model, "--rows", str(rows), "--tokens",
                     str(tokens), "--repeats", "1", "--dtype", options.dtype, "--threads", str(options.threads),
                     "--device", "cpu", "--json", "--quiet"])


def run_theirs(case, rows, tokens, options):
    return run_json([sys.executable, __file__, "--worker", json.dumps([case, rows, tokens]), "--model", options.model,
                     "--dtype", options.dtype, "--threads", str(options.threads)])


def better(a, b):
    """The faster of two results of one side; its memory is the larger, for both did the work."""
    if a is None:
        return b
    fast = dict(a if a["per_second"] >= b["per_second"] else b)
    for key in ("peak_bytes", "peak_gflops"):
        if key in a:
            fast[key] = max(a[key], b[key])
    return fast


def machine():
    fields = {}
    try:
        for line in open("/proc/cpuinfo", encoding="utf-8"):
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    known = ["avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"]
    flags = [flag for flag in known if flag in fields.get("flags", "").split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (f"{fields.get('model name', platform.processor() or platform.machine())} (family "
            f"{fields.get('cpu family', '?')}, model {fields.get('model', '?')}), "
            f"{len(os.sched_getaffinity(0))} cores, {' '.join(flags) or 'no vector extension known here'}, "
            f"{memory:.0f} GB of memory")


def model_numbers(path):
    """Weights of the blocks, of the head, and of the adapter; keys and values of one token; multiply-adds of attention. Of a
    config.json."""
    config = json.loads(pathlib.Path(path).read_text())
    dim, ffn, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or dim // heads
    shapes = [(heads * width, dim), (kv * width, dim), (kv * width, dim), (dim, heads * width), (ffn, dim), (ffn, dim),
              (dim, ffn)]
    return {"blocks": layers * sum(a * b for a, b in shapes), "head": config["vocab_size"] * dim,
            "adapter": layers * sum(16 * (a + b) for a, b in shapes), "kv": 2 * layers * kv * width,
            "attention": 2 * layers * heads * width}


def forward_operations(tokens, n):
    """Of a token in a row of so many, through the blocks: it sees half of them."""
    return 2 * (n["blocks"] + n["attention"] * tokens / 2)


def step_operations(tokens, n):
    """Of a new token behind a prompt of as many tokens, in the mean."""
    return 2 * (n["blocks"] + n["attention"] * 1.5 * tokens + n["head"])


def operations(case, rows, tokens, n):
    """All that a case comes to (docs/benchmarks.md)."""
    forward = forward_operations(tokens, n)
    if case[0] == "train":
        lora = case[-1] == "lora"
        forward = (forward + 2 * n["head"]) * (2 if lora else 3) + (6 * n["adapter"] if lora else 0)
    return rows * tokens * (forward + (step_operations(tokens, n) if case[0] == "generate" else 0))


def floor_rate(case, rows, tokens, n, dtype_bytes, flops, bandwidth_bytes):
    """The most tokens per second that the matrix rate and the memory of this machine allow (docs/benchmarks.md)."""
    if case[0] != "generate":
        return rows * tokens * flops / operations(case, rows, tokens, n)
    step_bytes = dtype_bytes * (n["blocks"] + n["head"] + rows * n["kv"] * 1.5 * tokens)
    prefill = rows * tokens * forward_operations(tokens, n) / flops
    step = max(rows * step_operations(tokens, n) / flops, step_bytes / bandwidth_bytes)
    return rows * tokens / (prefill + tokens * step)


def run_version(seedcorn):
    return subprocess.run([seedcorn, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def measure(options):
    results = []
    for name, case, rows, tokens in CASES:
        if options.only and not any(word in name for word in options.only.split(",")):
            continue
        if options.quick:
            rows, tokens = QUICK[case[0]]
        ours = theirs = None
        for round_no in range(1 if options.quick else ROUNDS):
            print(f"peers: {name}, round {round_no + 1}", file=sys.stderr, flush=True)
            ours = better(ours, run_ours(case, rows, tokens, options))
            theirs = better(theirs, run_theirs(case, rows, tokens, options))
        results.append({"name": name, "case": case, "rows": rows, "tokens": tokens, "ours": ours, "theirs": theirs})
        if options.quick and case[0] == "generate":
            break
    if not results:
        sys.exit(f"peers: no case has a name with '{options.only}': {', '.join(name for name, *_ in CASES)}")
    return results


def print_report(results, facts):
    print(f"{facts['date']}. {facts['machine']}; load {facts['load_before']} before and {facts['load_after']} after.\n"
          f"{facts['versions']}; {facts['dtype']}, {facts['threads']} threads.\n"
          f"Matrix product {facts['flops'] / 1e9:.0f} GFLOP/s, reading memory {facts['bandwidth'] / 1e9:.1f} GB/s.\n"
          f"`{facts['command']}`\n")
    print("| what | shape | ours, tok/s | transformers + PEFT, tok/s | ratio | floor, tok/s | of the floor "
          "| peak memory, ours | theirs |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for r in results:
        a, b = r["ours"], r["theirs"]
        shape = f"{r['rows']} x {r['tokens']}" + (f" + {r['tokens']}" if r["case"][0] == "generate" else "")
        print(f"| {r['name']} | {shape} | {a['per_second']:.1f} | {b['per_second']:.1f} | "
              f"**{a['per_second'] / b['per_second']:.2f}** | {r['floor']:.0f} | "
              f"{100 * a['per_second'] / r['floor']:.0f} % | {a['peak_bytes'] / 1e9:.2f} GB | "
              f"{b['peak_bytes'] / 1e9:.2f} GB |")
    for r in results:
        if r["ours"]["units"] < r["rows"] * r["tokens"]:
            print(f"\n{r['name']}: ours ended after {r['ours']['units']:.0f} of {r['rows'] * r['tokens']} tokens, where "
                  f"the model said so; the rates are per token made.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seedcorn", default=os.environ.get("SEEDCORN_BIN") or str(ROOT / "build/release/bin/seedcorn"))
    parser.add_argument("--model", default=os.environ.get("SEEDCORN_TEST_MODEL")
                        or str(pathlib.Path("~/.cache/seedcorn/smollm2-135m-instruct").expanduser()))
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", help="cases whose name holds one of these words, separated by commas")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, one round: does it run at all")
    parser.add_argument("--json", help="also write everything that was measured to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        case = json.loads(options.worker)
        print(json.dumps(bandwidth(options.threads) if case is None else peer(*case, options)))
        return
    if not os.access(options.seedcorn, os.X_OK):
        sys.exit(f"peers: there is no {options.seedcorn}; scripts/test builds it, or give --seedcorn")
    if not os.path.isfile(os.path.join(options.model, "config.json")):
        sys.exit(f"peers: there is no model in {options.model}; `seedcorn pull smollm2-135m-instruct` fetches it")
    try:
        import peft
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"peers: {error}; scripts/peers makes .venv, run this with .venv/bin/python")
    facts = {"date": datetime.date.today().isoformat(), "machine": machine(), "dtype": options.dtype,
             "threads": options.threads, "load_before": f"{os.getloadavg()[0]:.1f}",
             "command": " ".join(["python", "bench/peers.py", *sys.argv[1:]]),
             "versions": f"{run_version(options.seedcorn)}, torch {torch.__version__}, transformers "
                         f"{transformers.__version__}, peft {peft.__version__}, Python {platform.python_version()}"}
    facts["bandwidth"] = run_json([sys.executable, __file__, "--worker", "null", "--threads",
                                   str(options.threads)])["bytes_per_second"]
    results = measure(options)
    facts["load_after"] = f"{os.getloadavg()[0]:.1f}"
    facts["flops"] = 1e9 * max(r["ours"]["peak_gflops"] for r in results)
    numbers = model_numbers(pathlib.Path(options.model) / "config.json")
    for r in results:
        r["floor"] = floor_rate(r["case"], r["rows"], r["tokens"], numbers, 4 if options.dtype == "fp32" else 2,
                                facts["flops"], facts["bandwidth"])
    print_report(results, facts)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"facts": facts, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
