"""Embeddings of a data set by all-MiniLM-L6-v2, an encoder that our engine does not run, for `seedcorn select`.

    .venv/bin/python bench/minilm_embeddings.py --data DATASET --model MINILM --out REVIEWS.npy [--text item] [--max-tokens 128]

Mean over the last states, scaled to length 1, as sentence-transformers does for this model; longest texts first, so that a
batch pads little. Row i is line i of reviews.jsonl (or of items.jsonl: title, categories, description).
"""
import argparse
import json
import os
import pathlib
import sys
import time

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def texts_of(folder, which):
    for line in open(folder / f"{which}s.jsonl", encoding="utf-8"):
        row = json.loads(line)
        if which == "review":
            yield f"{row['title']}\n{row['text']}" if row.get("title") else row["text"]
        else:
            yield " ".join([row["title"], *row.get("categories", []), *row.get("description", [])])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--text", choices=["review", "item"], default="review")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModel.from_pretrained(arguments.model).eval()
    texts = list(texts_of(arguments.data, arguments.text))
    ids = [tokenizer(t, truncation=True, max_length=arguments.max_tokens).input_ids for t in texts]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    out = np.empty((len(ids), model.config.hidden_size), np.float32)
    told = time.monotonic()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for at in range(0, len(order), arguments.batch):
            rows = order[at : at + arguments.batch]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            states = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1)
            out[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
            if time.monotonic() - told > 20:
                told = time.monotonic()
                print(f"{at + len(rows)} of {len(order)}", file=sys.stderr, flush=True)
    with open(arguments.out + ".tmp", "wb") as file:
        np.save(file, out)
    os.replace(arguments.out + ".tmp", arguments.out)
    print(f"{arguments.out}: {out.shape[0]} x {out.shape[1]}")


if __name__ == "__main__":
    main()
