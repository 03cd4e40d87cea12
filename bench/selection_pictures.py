"""What each strategy picks, drawn: the pictures of docs/selection.md.

    .venv/bin/python bench/selection_pictures.py --data DATASET OUT.png SELECTION.jsonl [SELECTION.jsonl ...]

Each selection is what `seedcorn select` wrote; beside it lie selection_map.npy, the rows on their first two principal
components, and its .json. One panel a selection: all reviews in grey, the chosen ones in colour, the first bright and
the last dark; below them the chosen reviews' lengths and stars beside those of all. No text of a review is drawn.
"""
import argparse
import json
import pathlib

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ALL, CHOSEN = "#b8b8b8", "#b0413e"


def shares(axis, values, chosen, edges, label):
    """Two outlines of shares over the same classes."""
    for of, colour in ((values, ALL), (values[chosen], CHOSEN)):
        counts, _ = np.histogram(of, edges)
        axis.stairs(counts / max(counts.sum(), 1), edges, color=colour, fill=colour == ALL, linewidth=1.4)
    axis.set_yticks([])
    axis.tick_params(labelsize=6, length=2)
    axis.set_xlabel(label, fontsize=7, labelpad=1)
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)


def draw(figure, place, path, reviews):
    settings = json.loads(path.with_suffix(".json").read_text())["settings"]
    rows = np.array([json.loads(line)["row"] for line in open(path)])
    points = np.load(path.with_name(path.stem + "_map.npy"))
    inner = place.subgridspec(2, 2, height_ratios=(3.2, 1), hspace=0.12, wspace=0.15)
    axis = figure.add_subplot(inner[0, :])
    axis.scatter(*points.T, s=0.5, color=ALL, linewidths=0, rasterized=True)
    axis.scatter(*points[rows[::-1]].T, s=9, c=np.arange(len(rows))[::-1], cmap="inferno_r", linewidths=0)
    low, high = np.percentile(points, (0.2, 99.8), axis=0)
    room = 0.15 * (high - low)
    low, high = np.minimum(low - room, points[rows].min(0)), np.maximum(high + room, points[rows].max(0))
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(low[1], high[1])
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(f"{settings['strategy']}, {settings['view']}", fontsize=9)
    shares(figure.add_subplot(inner[1, 0]), reviews["length"], rows, np.linspace(0, 2500, 26), "characters")
    shares(figure.add_subplot(inner[1, 1]), reviews["stars"], rows, np.arange(0.25, 5.5, 0.5), "stars")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("picture")
    parser.add_argument("selection", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in open(arguments.data / "reviews.jsonl")]
    reviews = {"length": np.array([len(line["text"]) for line in lines]),
               "stars": np.array([line["rating"] for line in lines], float)}
    columns = min(arguments.columns, len(arguments.selection))
    rows = -(-len(arguments.selection) // columns)
    figure = plt.figure(figsize=(3.1 * columns, 3.5 * rows))
    grid = figure.add_gridspec(rows, columns, hspace=0.28, wspace=0.12, left=0.02, right=0.98, top=0.96, bottom=0.05)
    for i, path in enumerate(arguments.selection):
        draw(figure, grid[i // columns, i % columns], path, reviews)
    figure.savefig(arguments.picture, dpi=100, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
