#!/usr/bin/env python3
"""Where the softmax of a run's classifier puts its mass, by task: at the end of its first epoch and at the end of its last.

    experiments/softmax-shares.py runs/NAME...

Reads `softmax` in metrics.jsonl (docs/methods.md); prints Markdown.
"""

import json
import sys
from pathlib import Path

COLUMNS = ["right", "new", "old", "pretrained", "unused", "embedding_norm", "concentration"]


def main():
    if len(sys.argv) < 2 or sys.argv[1] == "--help":
        sys.exit(__doc__)
    print(f"| run | task | epoch | accuracy | {' | '.join(COLUMNS)} |")
    print(f"|---|---:|---:|---:|{'---:|' * len(COLUMNS)}")
    for name in sys.argv[1:]:
        run = Path(name)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        tasks = {line["task"] for line in lines}
        for task in sorted(tasks):
            of_task = [line for line in lines if line["task"] == task]
            for line in [of_task[0], of_task[-1]][: len(of_task)]:
                shares = line.get("softmax")
                if shares is None:
                    sys.exit(f"{run}: written by a program without `softmax` in metrics.jsonl; train it again")
                values = " | ".join(f"{shares[column]:.3f}" for column in COLUMNS)
                print(f"| {run.name} | {task + 1} | {line['epoch'] + 1} | {line['accuracy']:.3f} | {values} |")


main()
