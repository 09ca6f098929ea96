"""Prints the records of study_mlp.py, study_query_weight.py and study_three.py as the tables of docs/results/encoders.md.

    python experiments/outside/table_studies.py FOLDER

FOLDER holds mlp.json, query-weight.json and three.json; what is missing is left out.
"""

import json
import sys
from pathlib import Path

RULES = ["fixed", "overlap", "confidence", "regression", "gate", "perfect"]


def records(folder, name):
    path = Path(folder) / name
    return json.loads(path.read_text()) if path.exists() else []


def margin(one):
    return f"{one['margin']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"


def head(*names):
    print("\n| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")


def table(titles, rows):
    head(*titles)
    for row in rows:
        print("| " + " | ".join(row) + " |")


def margins(measures):
    return ", ".join(f"{one['measure']} {margin(one)}" for one in measures)


def count(name, found):
    """How many of the measures lie above, below, or on neither side of 0."""
    above = sum(one["low"] > 0 for one in found)
    below = sum(one["high"] < 0 for one in found)
    print(f"\n{name}: {len(found)} differences; the interval lies above 0 in {above} and below 0 in {below}.")


def figures(values):
    return " / ".join(f"{value:.3f}" for value in values)


def networks(found):
    rows = []
    for row in found:
        tried = row["tried"]
        plain = [figures(tried[kind]["bridged"]) for kind in ("orthogonal", "mlp on orthogonal, contrast")]
        names = [row["linear"], row["network"].removeprefix("mlp on ").replace(",", " and")]
        held_out = figures(tried[row[kind]]["held_out"] for kind in ("linear", "network"))
        rows.append([row["chain"], f"{row['pairs']:,}", *plain, ", ".join(names), held_out, margins(row["bridged"]), margins(row["dual"])])
    titles = ["chain", "pairs", "bridged, orthogonal", "with a network (contrast)", "chosen: linear, network on base and loss", "own target found"]
    table([*titles, "bridged, chosen: network minus linear", "dual, chosen: network minus linear"], rows)
    for way in ("bridged", "dual"):
        count(way, [one for row in found for one in row[way]])


def rules(found):
    names = {row["chain"]: [one["measure"] for one in row["rules"]["fitted"]] for row in found}
    titles = ["chain", "one fitted weight", *RULES]
    rows = []
    for row in found:
        for number, measure in enumerate(names[row["chain"]]):
            of = {rule: row["rules"][rule][number] for rule in ["fitted", *RULES]}
            rows.append([f"{row['chain']}, {measure}", f"{of['fitted']['candidate']:.3f}", *(margin(of[rule]) for rule in RULES)])
    table(titles, rows)
    for rule in RULES[1:-1]:
        count(rule, [one for row in found for one in row["rules"][rule]])


def three(found):
    rows = []
    for row in found:
        two, all_three = (row["ways"][way] for way in ("old and newest", "all three"))
        for number, old in enumerate(row["self_tests"][row["encoders"][0]]):
            name = f"{row['chain']} ({', '.join(row['encoders'])}), {two[number]['measure']}"
            values = [f"{value:.3f}" for value in (old, two[number]["candidate"], all_three[number]["candidate"])]
            rows.append([name, *values, margin(all_three[number]), margin(row["equal"][number])])
    table(["chain", "old encoder", "two", "three", "three minus two", "equal weights: three minus two"], rows)
    count("fitted weights", [one for row in found for one in row["ways"]["all three"]])
    count("equal weights", [one for row in found for one in row["equal"]])


def main(folder):
    if not any((Path(folder) / name).exists() for name in ("mlp.json", "query-weight.json", "three.json")):
        sys.exit(f"{folder} holds no record of the studies")
    for name, show in [("mlp.json", networks), ("query-weight.json", rules), ("three.json", three)]:
        found = records(folder, name)
        if found:
            print(f"\n#### {name}")
            show(found)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] == "--help":
        sys.exit(__doc__)
    main(sys.argv[1])
