"""Every strategy on every view of one data set: seconds, what was reached, and what kind of reviews were chosen.

    .venv/bin/python bench/every_view.py --data DATASET --embeddings REVIEWS.npy --item-embeddings ITEMS.npy --out FOLDER \
        [--budget 200] [--only fisher,js] [--model MODEL]

Runs `seedcorn select` for each pair, writes the selections to FOLDER/STRATEGY-VIEW.jsonl and a table to stdout. `nll`
runs only with --model, which it asks how surprised it is. Seconds are those of the whole command, views made anew.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
STRATEGIES = "random,popularity,entropy,nll,js,fisher,bait,kcenter,kmeans,facility"
VIEWS = "semantic,metadata,user,semantic+metadata+user"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seedcorn", default=ROOT / "build/release/bin/seedcorn")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--embeddings", required=True)
    parser.add_argument("--item-embeddings", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--only", default=STRATEGIES)
    parser.add_argument("--views", default=VIEWS)
    parser.add_argument("--model", help="for nll")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    reviews = [json.loads(line) for line in open(arguments.data / "reviews.jsonl")]
    print(f"| strategy | view | columns | s | objective | items | mean stars | mean length |\n|---|---|{'--:|' * 6}")
    for strategy in arguments.only.split(","):
        if strategy == "nll" and not arguments.model:
            continue
        for view in arguments.views.split(","):
            out = arguments.out / f"{strategy}-{view}.jsonl"
            command = [arguments.seedcorn, "select", "--data", arguments.data, "--embeddings", arguments.embeddings,
                       "--strategy", strategy, "--view", view, "--budget", str(arguments.budget), "--out", out, "--json",
                       "--no-progress", "--quiet"]
            if "metadata" in view:
                command += ["--item-embeddings", arguments.item_embeddings]
            if strategy == "nll":
                command += ["--model", arguments.model]
            start = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{strategy} on {view}: code {done.returncode}: {done.stderr.strip()}")
            seconds = time.monotonic() - start
            result = json.loads(done.stdout)
            rows = [json.loads(line)["row"] for line in open(out)]
            if len(rows) != arguments.budget or len(set(rows)) != len(rows):
                sys.exit(f"{strategy} on {view}: {len(rows)} reviews, {len(set(rows))} distinct")
            chosen = [reviews[row] for row in rows]
            stars = sum(review["rating"] for review in chosen) / len(chosen)
            length = sum(len(review["text"]) for review in chosen) / len(chosen)
            items = len({review["parent_asin"] for review in chosen})
            print(f"| {strategy} | {view} | {result['dim']} | {seconds:.1f} | {result['objective']:.6g} | {items} | "
                  f"{stars:.2f} | {length:.0f} |", flush=True)


if __name__ == "__main__":
    main()
