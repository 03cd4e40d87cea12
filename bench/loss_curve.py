"""The losses of a training run as a small SVG.

    python bench/loss_curve.py OUT/events.jsonl > docs/training.svg
"""
import json
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 260, 52, 40, 16, 16


def main(path):
    events = [json.loads(line) for line in open(path, encoding="utf-8")]
    steps = [(e["step"], e["loss"]) for e in events if "loss" in e]
    held = [(e["step"], e["validation_loss"]) for e in events if "validation_loss" in e]
    values = [y for _, y in steps + held]
    last = max(x for x, _ in steps + held)
    low, high = min(values), max(values)
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)

    def place(point):
        x = LEFT + point[0] / last * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - point[1]) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    def text(x, y, words, anchor="middle"):
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="12" fill="#333">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for i in range(5):
        value = low + (high - low) * i / 4
        _, y = place((0, value)).split(",")
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        out.append(text(LEFT - 8, float(y) + 4, f"{value:.2f}", "end"))
    for step in range(0, last + 1, max(1, last // 9)):
        x, _ = place((step, low)).split(",")
        out.append(text(x, HEIGHT - BOTTOM + 18, step))
    out.append(text(WIDTH / 2, HEIGHT - 6, "step"))
    for points, colour, name, row in ((steps, "#9db4d0", "training, one step", 0), (held, "#c0392b", "held back", 1)):
        if not points:
            continue
        line = " ".join(place(p) for p in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{WIDTH - RIGHT - 8}" y="{TOP + 14 + 16 * row}" text-anchor="end" fill="{colour}">{name}</text>')
    out.append(text(LEFT, TOP - 4, "nats per supervised token", "start"))
    print("\n".join(out + ["</svg>"]))


if __name__ == "__main__":
    main(sys.argv[1])
