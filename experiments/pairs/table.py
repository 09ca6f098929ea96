"""Prints the records of measure.sh as tables of docs/results/encoders.md, or writes them between the two marks of a document.

    python experiments/pairs/table.py OUT [DOCUMENT]

Beside each figure of the product stands the one that was measured before with ordinary tools: numpy scripts, on models trained by another
program with the same recipe. Those are typed in here, once.
"""

import json
import sys
from pathlib import Path

MARKS = ("<!-- experiments/pairs/table.py: begin -->", "<!-- experiments/pairs/table.py: end -->")
SHORT = {"ncm": "NCM", "recall@1": "R@1", "map": "mAP", "mrr@10": "MRR@10"}
TITLES = {"er": "ordinary classifier", "simplex": "simplex classifier"}

# Measured with ordinary tools: NCM, recall@1, mAP.
OLD = {"er": (0.399, 0.336, 0.172), "simplex": (0.363, 0.336, 0.157)}
OLD_CENTRED = {"er": (0.403, 0.340, 0.175), "simplex": (0.377, 0.340, 0.169)}
NEW = {"er": (0.443, 0.399, 0.213), "simplex": (0.423, 0.362, 0.200)}
CLASSES = [
    ("own", "as it is", {"er": (0.107, 0.102, 0.105), "simplex": (0.348, 0.227, 0.152)}),
    ("centring", "each side centred", {"er": (0.085, 0.108, 0.104), "simplex": (0.367, 0.279, 0.166)}),
    ("500", "bridge, orthogonal, 500 pairs", {"er": (0.419, 0.313, 0.187), "simplex": (0.395, 0.311, 0.182)}),
    ("2000", "bridge, orthogonal, 2,000 pairs", {"er": (0.424, 0.335, 0.190), "simplex": (0.398, 0.311, 0.184)}),
    ("all", "bridge, orthogonal, all 30,000 pairs", {}),
    ("means", "bridge, orthogonal, from class means", {"er": (0.429, 0.321, 0.191), "simplex": (0.394, 0.310, 0.182)}),
    ("ridge", "bridge, ridge, 2,000 pairs", {"er": (0.427, 0.331, 0.194)}),
    ("whitened", "bridge, whitened, 2,000 pairs", {"er": (0.431, 0.340, 0.194)}),
    ("mapped", "stored vectors mapped, ridge, 2,000 pairs", {"er": (0.426, 0.329, 0.194), "simplex": (0.405, 0.333, 0.192)}),
    ("dual", "dual query, weight 0.5, 2,000 pairs", {"er": (0.431, 0.356, 0.187), "simplex": (0.415, 0.358, 0.181)}),
    ("raw", "bridge, orthogonal, 2,000 pairs; index as it is", {"er": (0.403, 0.337, 0.190)}),
    ("raw-dual", "dual query, weight 0.5, 2,000 pairs; index as it is", {}),
]
# mAP, recall@1, and the share of old items among the first 24.
HALVES = [
    ("own", "as it is", {"er": (0.167, 0.373, 0.00), "simplex": (0.154, 0.349, 0.00)}),
    ("bridged", "bridged query on the old half", {}),
    ("bridged-centred", "the same, new half centred too", {"er": (0.203, 0.381, 0.21), "simplex": (0.199, 0.369, 0.15)}),
    ("mapped", "old half mapped into the new space, one index", {"er": (0.205, 0.384, 0.48), "simplex": (0.203, 0.376, 0.44)}),
    ("dual", "dual query on the old half", {}),
    ("dual-centred", "the same, new half centred too", {"er": (0.201, 0.381, 0.37)}),
    ("all-new", "all new (everything embedded again)", {"er": (0.217, 0.398, 0.00), "simplex": (0.217, 0.382, 0.00)}),
]
HALF_OLD = {"er": (0.175, 0.341, 1.00), "simplex": (0.169, 0.340, 1.00)}
# Recall@1 and MRR@10 of altered copies.
ALTERED_OLD = {"er": (0.290, 0.370), "simplex": (0.246, 0.312)}
ALTERED_NEW = {"er": (0.292, 0.374), "simplex": (0.225, 0.301)}
ALTERED = [
    ("altered-0.5", "own", "as it is", {"er": (0.000, 0.000), "simplex": (0.009, 0.020)}),
    ("altered-0.5", "centred", "each side centred", {}),
    ("altered-0.5", "bridged", "bridge", {"er": (0.068, 0.120), "simplex": (0.040, 0.074)}),
    ("altered-0.25", "dual", "dual query, weight 0.25", {"er": (0.161, 0.239), "simplex": (0.107, 0.169)}),
    ("altered-0.5", "dual", "dual query, weight 0.5", {"er": (0.261, 0.341), "simplex": (0.203, 0.275)}),
    ("altered-0.75", "dual", "dual query, weight 0.75", {"er": (0.290, 0.372), "simplex": (0.242, 0.315)}),
]


def read(path):
    return json.loads(path.read_text()) if path.exists() else None


def bounds(intervals):
    found = next(one for one in intervals if one["confidence"] == 0.95)
    return found.get("bounds", found)


def margin(value, intervals):
    found = bounds(intervals)
    return f"{value:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def slashed(values, digits=3):
    return " / ".join(f"{value:.{digits}f}" for value in values) if values else "-"


def three(values):
    """Two measures and a share."""
    return f"{slashed(values[:2])} / {values[2]:.2f}" if values else "-"


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def head(*cells):
    return [row(*cells), "|---" * len(cells) + "|"]


def of_certificate(certificate, names):
    by_name = {one["measure"]: one for one in certificate["tasks"][0]["measures"]}
    return [by_name[name] for name in names]


def recovery(values, old, new):
    """Upgrade recovery: the share of what embedding everything again gains."""
    return " / ".join(f"{(value - before) / (again - before):.2f}" for value, before, again in zip(values, old, new)) if values else "-"


class Differences:
    """Cases in which the product's interval of the margin excludes 0, and the figures of ordinary tools lie on the other side."""

    def __init__(self):
        self.compared, self.named = 0, []

    def add(self, place, measures, tools, old):
        for one, theirs, before in zip(measures, tools, old):
            self.compared += 1
            found, other = bounds(one["intervals"]), theirs - before
            if (found["low"] > 0 and other <= 0) or (found["high"] < 0 and other >= 0):
                self.named.append(f"{place}, {SHORT[one['measure']]}: {margin(one['margin'], one['intervals'])}, with ordinary tools {other:+.3f}")


def classes(folder, kind, differences):
    names = ["ncm", "recall@1", "map"]
    rows = head(
        "way", "ordinary tools: NCM / R@1 / mAP", "recovery", "NCM / R@1 / mAP", "recovery", "margin NCM", "margin R@1", "margin mAP", "finding"
    )
    blank = [""] * 4
    raw, centred = (read(folder / f"{name}.json") for name in ("own", "2000"))
    before = {"raw": of_certificate(raw, names), "centred": of_certificate(centred, names)}
    rows.append(row("old model, nothing changed", slashed(OLD[kind]), "", slashed([one["old"] for one in before["raw"]]), "", *blank))
    rows.append(
        row(
            "the same, the better of raw and centred",
            slashed(OLD_CENTRED[kind]),
            "",
            slashed([one["old"] for one in before["centred"]]),
            "",
            *blank,
        )
    )
    for file, title, tools in CLASSES:
        certificate = read(folder / f"{file}.json")
        if certificate is None:
            continue
        measures = of_certificate(certificate, names)
        found = tools.get(kind)
        shown = [margin(one["margin"], one["intervals"]) for one in measures]
        finding = certificate["tasks"][0]["finding"]
        base = (OLD if certificate["index"] == "raw" else OLD_CENTRED)[kind]
        values = [one["new"] for one in measures]
        ours = recovery(values, [one["old"] for one in measures], [one["new_self_test"] for one in measures])
        rows.append(row(title, slashed(found), recovery(found, base, NEW[kind]), slashed(values), ours, *shown, finding))
        if found:
            differences.add(f"{TITLES[kind]}, {title}", measures, found, base)
    again = [one["new_self_test"] for one in before["raw"]]
    rows.append(row("everything embedded again", slashed(NEW[kind]), "", slashed(again), "", *blank))
    return rows


def halves(folder, kind, differences):
    names = ["map", "recall@1"]
    shares = read(folder / "half" / "shares.json")
    rows = head("gallery", "ordinary tools: mAP / R@1 / old among the first 24", "mAP / R@1 / old among the first 24", "margin mAP", "margin R@1")
    old = None
    for way, title, tools in HALVES:
        certificate = read(folder / f"half-{way}.json")
        if certificate is None:
            continue
        measures = of_certificate(certificate, names)
        if old is None:
            old = [one["old"] for one in measures]
            rows.append(row("all old, searched by the old model", three(HALF_OLD[kind]), slashed(old) + " / 1.00", "", ""))
        found = tools.get(kind)
        shown = [margin(one["margin"], one["intervals"]) for one in measures]
        rows.append(row(title, three(found), three([*(one["new"] for one in measures), shares[way]]), *shown))
        if found:
            differences.add(f"half old, {TITLES[kind]}, {title}", measures, found, HALF_OLD[kind])
    return rows


def standard(folder):
    """The same half-old gallery by `evaluate --routes`, for the routes that it has."""
    document = read(folder / "routes.json")
    if document is None:
        return ""
    parts = []
    for route in document["routes"]:
        if not route["mixed"]:
            continue
        mixed = dict(route["mixed"][0]["all"])
        parts.append(f"{route['name']} {mixed['map']:.3f} / {mixed['recall@1']:.3f} / {route['mixed'][0]['old_among_first']:.2f}")
    return "; ".join(parts)


def altered(folder, kind, differences):
    names = ["recall@1", "mrr@10"]
    rows = head("way", "ordinary tools: R@1 / MRR@10", "R@1 / MRR@10", "margin R@1", "margin MRR@10")
    for file, route, title, tools in ALTERED:
        document = read(folder / f"{file}.json")
        found = next((one for one in document["routes"] if one["route"]["kind"] == route), None) if document else None
        if found is None:
            continue
        by_name = {one["measure"]: one for one in found["drift"]}
        measures = [by_name[name] for name in names]
        if len(rows) == 2:
            rows.append(row("old model, nothing changed", slashed(ALTERED_OLD[kind]), slashed([one["old_self_test"] for one in measures]), "", ""))
        known = tools.get(kind)
        shown = [margin(one["margin"], one["intervals"]) for one in measures]
        rows.append(row(title, slashed(known), slashed([one["cross_test"] for one in measures]), *shown))
        if known:
            differences.add(f"altered copies, {TITLES[kind]}, {title}", measures, known, ALTERED_OLD[kind])
    if len(rows) > 2:
        rows.append(row("everything embedded again", slashed(ALTERED_NEW[kind]), slashed([one["new_self_test"] for one in measures]), "", ""))
    return rows


def advice(folder):
    """The recommendation, and what a share of items that are embedded again gives, in the order that pays."""
    document = read(folder / "advice.json")
    if document is None:
        return []
    task = document["tasks"][0]
    found = task["recommendation"]
    lines = [f"Advice: **{found['way']}**: {found['reason'].rstrip('.')}."]
    parts = []
    for point in task["curve"]:
        measures = dict(point["measures"])
        parts.append(f"{point['share']:.0%} {measures['map']:.3f} / {measures['recall@1']:.3f} / {point['old_among_first']:.2f}")
    merge = task["curve_merge"]
    names = {"cosines": "cosines", "calibrated": "calibrated cosines"}
    merged = names.get(merge["kind"], merge["kind"]) + (", new items centred" if merge["new_items"] == "centred" else "")
    lines += ["", f"Of half of the queries, with a share embedded again (most retrieved items first, dual queries on the rest, merged by {merged}), mAP / R@1 / old"]
    lines += [f"among the first 24: {'; '.join(parts)}."]
    return lines


def tables(out):
    kinds = [kind for kind in TITLES if (out / kind).is_dir()]
    differences = Differences()
    lines = []
    for kind in kinds:
        lines += ["", f"### {TITLES[kind].capitalize()}: class-like", "", *classes(out / kind, kind, differences)]
        found = advice(out / kind)
        if found:
            lines += ["", *found]
    for kind in kinds:
        lines += ["", f"### {TITLES[kind].capitalize()}: a gallery half old, half new", "", *halves(out / kind, kind, differences)]
        merged = standard(out / kind)
        if merged:
            lines += ["", f"Merged by standard scores, as the service does (`evaluate --routes`; other 2,000 pairs, no intervals): {merged}."]
    for kind in kinds:
        rows = altered(out / kind, kind, differences)
        if len(rows) > 2:
            lines += ["", f"### {TITLES[kind].capitalize()}: altered copies look for their originals", "", *rows]
    named, compared = differences.named, differences.compared
    lines += ["", f"Margins whose interval excludes 0 while ordinary tools found the other sign, or none: {len(named)} of {compared}."]
    if named:
        lines += ["", *(f"- {one}" for one in named)]
    return lines


def main():
    out = Path(sys.argv[1])
    if not any((out / kind).is_dir() for kind in TITLES):
        sys.exit(f"{out} holds none of the folders of measure.sh ({', '.join(TITLES)})")
    lines = tables(out)
    if len(sys.argv) == 2:
        print("\n".join(lines))
        return
    document = Path(sys.argv[2])
    text = document.read_text()
    begin, end = (text.index(mark) for mark in MARKS)
    part = document.with_name(f"{document.name}.part")
    part.write_text(text[: begin + len(MARKS[0])] + "\n".join(["", *lines, "", ""]) + text[end:])
    part.replace(document)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] == "--help":
        sys.exit(__doc__)
    main()
