"""Prints the certificates of pairs.sh as a table of docs/results/encoders.md.

    python experiments/outside/table_pairs.py RESULTS
"""

import json
import sys
from pathlib import Path

from table import SETS, bounds, deciding

AMOUNTS = ["100", "500", "2000", "all", "means"]


def rows_of(results, name):
    rows = []
    for amount in AMOUNTS:
        cells, findings = [], []
        for route in ("bridged", "dual"):
            path = results / f"{name}-{amount}-{route}.json"
            if not path.exists():
                return rows
            certificate = json.loads(path.read_text())
            task = certificate["tasks"][0]
            measures = deciding(task["measures"])
            if not rows:
                names = [one["measure"] for one in measures]
                head = [f"{way} {name}" for way in ("bridged", "dual") for name in names]
                rows += ["| fitted on | " + " | ".join(head) + " | bridged, dual |", "|---|" + "---|" * (len(head) + 1)]
            cells += [f"{one['new']:.3f} {bounds(one).split(' ', 1)[1]}" for one in measures]
            findings.append(task["finding"])
        count = certificate["bridge"]["pairs"]
        label = f"means of {count} classes" if amount == "means" else f"{count:,} pairs"
        rows.append(f"| {label} | {' | '.join(cells)} | {', '.join(findings)} |")
        before = ", ".join(f"{one['measure']} {one['old']:.3f}" for one in measures)
    return [f"Old encoder, nothing changed: {before}.", "", *rows]


def main():
    results = Path(sys.argv[1])
    found = [(title, rows_of(results, name)) for name, title in SETS]
    if not any(lines for _, lines in found):
        sys.exit(f"{results} holds no certificate of pairs.sh")
    for title, lines in found:
        # What is missing is left out.
        if lines:
            print(f"\n#### {title}\n")
            print("\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] == "--help":
        sys.exit(__doc__)
    main()
