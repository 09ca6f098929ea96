"""Prints the results of run.sh as the tables of docs/results.md.

    python3 experiments/chain/table.py RESULTS
"""

import json
import re
import sys
from pathlib import Path

ORDER = {"ncm": "NCM", "recall@1": "R@1", "map": "mAP"}


def bounds(intervals, confidence=0.95):
    found = next(one for one in intervals if one["confidence"] == confidence)
    inner = found.get("bounds", found)
    return inner["low"], inner["high"]


def signed(value, intervals):
    low, high = bounds(intervals)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def recovery(one):
    found = one.get("recovery")
    if found is None:
        return "-"
    intervals = found.get("intervals")
    if intervals is None:
        return f"{found['value']:.2f}"
    low, high = bounds(intervals)
    return f"{found['value']:.2f} [{low:.2f}, {high:.2f}]"


def cells(*values):
    return "| " + " | ".join(str(value) for value in values) + " |"


def head(*names):
    return [cells(*names), "|---" * len(names) + "|"]


def three(measures, value):
    by_name = {one["measure"]: one for one in measures}
    return " / ".join(value(by_name[name]) for name in ORDER if name in by_name)


def all_pairs(document):
    """One row a route: the average over all pairs, and the gallery of which half is of the oldest version."""
    rows = head(
        "route", "AC", "AA", "mean cross-test", "worst margin", "pairs above, undecided, below", "half oldest: R@1 / mAP", "old among the first 24"
    )
    for route in document["routes"]:
        measures = route["measures"]
        oldest = route["mixed"][0] if route["mixed"] else None
        mixed = dict(oldest["all"]) if oldest else {}
        rows.append(cells(
            route["name"],
            three(measures, lambda one: f"{one['average_compatibility']:.3f}"),
            three(measures, lambda one: f"{one['average_accuracy']:.3f}"),
            three(measures, lambda one: f"{one['mean_cross_test']:.3f}"),
            three(measures, lambda one: f"{one['worst_margin']:+.3f}"),
            three(measures, lambda one: f"{one['compatible']}, {one['undecided']}, {one['incompatible']}"),
            " / ".join(f"{mixed[name]:.3f}" for name in ORDER if name in mixed) or "-",
            f"{oldest['old_among_first']:.2f}" if oldest else "-",
        ))
    if document["routes"]:
        # The diagonal is that of every route.
        rows += ["", "Self-tests, oldest version first:", ""]
        for one in document["routes"][0]["measures"]:
            diagonal = (row[version] for version, row in enumerate(one["matrix"]))
            rows.append(f"- {ORDER[one['measure']]}: " + ", ".join(f"{value:.3f}" for value in diagonal))
    if document["routes"] and document["routes"][0]["mixed"]:
        oldest = document["routes"][0]["mixed"][0]
        before, again = dict(oldest["all_old"]), dict(oldest["all_new"])
        shown = [name for name in ORDER if name in dict(oldest["all"])]
        rows.append("")
        rows.append(
            "Bounds of the half-old gallery, R@1 / mAP: all items old "
            + " / ".join(f"{before[name]:.3f}" for name in shown)
            + ", all embedded again "
            + " / ".join(f"{again[name]:.3f}" for name in shown)
            + "."
        )
    return rows


def drift(document):
    """Rows: a route and a measure; columns: upgrades between the gallery's version and the query's."""
    bridged = [route for route in document["routes"] if route["route"]["kind"] in ("bridged", "dual")]
    if not bridged or not bridged[0]["drift"]:
        return []
    hops = sorted({one["hops"] for one in bridged[0]["drift"]})
    pairs = {one["hops"]: one["pairs"] for one in bridged[0]["drift"]}
    names = [f"{hop} ({pairs[hop]} pair{'s' if pairs[hop] > 1 else ''})" for hop in hops]
    rows = []
    for title, cell in (
        ("Margin over the old self-test", lambda one: signed(one["margin"], one["intervals"])),
        ("Upgrade recovery", recovery),
    ):
        rows += ["", f"{title}, by the number of upgrades in between:", ""]
        rows += head("route", "measure", *names)
        for route in bridged:
            for measure, short in ORDER.items():
                of = {one["hops"]: one for one in route["drift"] if one["measure"] == measure}
                if of:
                    rows.append(cells(route["name"], short, *(cell(of[hop]) for hop in hops)))
    return rows


def differences(document):
    rows = []
    for route in document["routes"]:
        against = route.get("against")
        if against is None:
            continue
        hops = sorted({one["hops"] for one in against["hops"]})
        if not rows:
            rows += ["", "Cross-test less that of the other route, by the number of upgrades in between:", ""]
            rows += head("route", "less", "measure", *hops)
        for measure, short in ORDER.items():
            of = {one["hops"]: one for one in against["hops"] if one["measure"] == measure}
            if of:
                rows.append(cells(
                    route["name"], against["other"], short, *(signed(of[hop]["difference"], of[hop]["intervals"]) for hop in hops)
                ))
    return rows


def parts(path):
    """The run and the number of pairs that a file is named after; all of them come last."""
    run, pairs = re.fullmatch(r"(.+)-(\d+|all)", path.stem).groups()
    return run, float("inf") if pairs == "all" else int(pairs)


def main():
    results = Path(sys.argv[1])
    paths = [path for path in results.glob("*.json") if re.fullmatch(r".+-(\d+|all)", path.stem)]
    if not paths:
        sys.exit(f"{results} holds no RUN-PAIRS.json; run.sh writes them")
    print("All three measures in each cell: NCM / R@1 / mAP. Intervals: 95 %, paired bootstrap over the queries, which all pairs share.")
    for path in sorted(paths, key=parts):
        document = json.loads(path.read_text())
        print(f"\n### `{parts(path)[0]}`, bridges fitted on {document['fit_pairs']:,} images\n")
        print("\n".join(all_pairs(document) + drift(document) + differences(document)))


main()
