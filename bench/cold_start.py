"""From nothing to the first embedding: a new process embeds one review, beside transformers doing the same.

    .venv/bin/python bench/cold_start.py [--seedcorn BIN] [--model DIR] [--dtype bf16] [--rounds 3]

Before each run the system forgets the files that it holds in memory (as root: /proc/sys/vm/drop_caches; else that is said and
both sides start warm), so reading the program, its libraries and the weights counts. Ours is `seedcorn embed`, tokenizer to file;
theirs imports transformers, loads tokenizer and model, embeds the same text and writes it with numpy.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TEXT = "A slow film about a lighthouse keeper, with a score that I still hum; the ending alone is worth the ticket."
THEIRS = """
import sys
import numpy, torch, transformers
model, dtype, threads, out, text = sys.argv[1:]
torch.set_num_threads(int(threads))
tokens = transformers.AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
body = transformers.AutoModel.from_pretrained(model, dtype=getattr(torch, dtype))
with torch.inference_mode():
    numpy.save(out, body(**tokens).last_hidden_state.mean(1).float().numpy())
"""


def forget_files():
    """Whether the page cache could be emptied."""
    try:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False


def timed(command):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True,
                          env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    if done.returncode != 0:
        sys.exit(f"cold_start: {' '.join(command[:3])} ... ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seedcorn", default=os.environ.get("SEEDCORN_BIN") or str(ROOT / "build/release/bin/seedcorn"))
    parser.add_argument("--model", default=os.environ.get("SEEDCORN_TEST_MODEL")
                        or str(pathlib.Path("~/.cache/seedcorn/smollm2-135m-instruct").expanduser()))
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not os.path.isfile(os.path.join(options.model, "config.json")):
        sys.exit(f"cold_start: there is no model in {options.model}; `seedcorn pull smollm2-135m-instruct` fetches it")
    with tempfile.TemporaryDirectory() as folder:
        reviews, data, out = (os.path.join(folder, name) for name in ("reviews.jsonl", "data", "out.npy"))
        pathlib.Path(reviews).write_text(json.dumps({"user_id": "u", "parent_asin": "i", "text": TEXT, "rating": 5.0, "timestamp": 1}) + "\n")
        timed([options.seedcorn, "import", "reviews", "--reviews", reviews, "--out", data, "--quiet"])
        threads = str(options.threads)
        ours = [options.seedcorn, "embed", "--data", data, "--model", options.model, "--out", out, "--dtype",
                options.dtype, "--threads", threads, "--device", "cpu", "--quiet"]
        dtype = {"fp32": "float32", "bf16": "bfloat16"}[options.dtype]
        theirs = [sys.executable, "-c", THEIRS, options.model, dtype, threads, os.path.join(folder, "theirs.npy"), TEXT]
        seconds, cold = {"ours": [], "theirs": []}, True
        for _ in range(options.rounds):
            for name, command in (("ours", ours), ("theirs", theirs)):
                cold = forget_files() and cold
                pathlib.Path(out).unlink(missing_ok=True)
                seconds[name].append(timed(command))
    mine, other = (statistics.median(seconds[name]) for name in ("ours", "theirs"))
    print(f"{'cold' if cold else 'warm (the page cache cannot be emptied here)'}, {options.dtype}, {threads} threads, the "
          f"middle of {options.rounds}: ours {mine:.2f} s, transformers {other:.2f} s, ratio {other / mine:.1f}")


if __name__ == "__main__":
    main()
