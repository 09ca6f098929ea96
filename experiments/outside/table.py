"""Prints the certificates and advice of measure.sh as the tables of docs/results/encoders.md.

    python experiments/outside/table.py RESULTS
"""

import json
import sys
from pathlib import Path

SETS = [
    ("images", "EfficientNet-lite0 -> lite2, CIFAR-10, class-like"),
    ("text-class", "wordllama -> MiniLM-L6, WordNet categories, class-like"),
    ("text-item", "wordllama -> MiniLM-L6, words and their definitions, item-like"),
    ("neardup", "EfficientNet-lite0 -> lite2, altered CIFAR-10 images, item-like"),
    ("emoji", "EfficientNet-lite0 -> lite2, emoji of two vendors, item-like"),
]
ROUTES = ["own", "bridged", "mapped", "dual"]


def deciding(measures):
    return [one for one in measures if one["decides"]]


def interval(one, confidence=0.95):
    return next(i for i in one["intervals"] if i["confidence"] == confidence)


def bounds(one):
    found = interval(one)
    low, high = (found["low"], found["high"]) if "low" in found else (found["bounds"]["low"], found["bounds"]["high"])
    return f"{one['margin']:+.3f} [{low:+.3f}, {high:+.3f}]"


def certificates(results, name):
    rows, measures = [], []
    for route in ROUTES:
        path = results / f"{name}-{route}.json"
        if not path.exists():
            continue
        certificate = json.loads(path.read_text())
        task = certificate["tasks"][0]
        measures = deciding(task["measures"])
        if not rows:
            names = [one["measure"] for one in measures]
            head = "| | " + " | ".join(f"{name} | margin" for name in names) + " | finding |"
            rows += [head, "|---|" + "---|" * (2 * len(names) + 1)]
            before = " | ".join(f"{one['old']:.3f} |" for one in measures)
            rows.append(f"| old encoder, nothing changed | {before} | |")
        cells = " | ".join(f"{one['new']:.3f} | {bounds(one)}" for one in measures)
        rows.append(f"| {certificate['route']['kind']} | {cells} | {task['finding']} |")
    if not rows:
        return rows
    again = " | ".join("-" if one.get("new_self_test") is None else f"{one['new_self_test']:.3f} |" for one in measures)
    rows.append(f"| everything embedded again | {again} | |")
    return rows


def advice(results, name):
    path = results / f"{name}-advice.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())["tasks"][0]["recommendation"]
    return ["", f"Advice: **{found['way']}**: {found['reason'].rstrip('.')}."]


def main():
    results = Path(sys.argv[1])
    found = [(title, certificates(results, name) + advice(results, name)) for name, title in SETS]
    if not any(lines for _, lines in found):
        sys.exit(f"{results} holds no certificate of measure.sh")
    for title, lines in found:
        # What is missing is left out.
        if lines:
            print(f"\n### {title}\n")
            print("\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] == "--help":
        sys.exit(__doc__)
    main()
