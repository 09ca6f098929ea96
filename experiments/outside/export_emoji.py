#!/usr/bin/env python3
"""One motif drawn by two vendors: Google's emoji look for Apple's, EfficientNet-lite0 replaced by -lite2, at 128 pixels.

    export_emoji.py PACKAGES OUT [ENCODER...]

PACKAGES holds the unpacked npm packages `emoji-datasource-google` and `emoji-datasource-apple` as setup.sh leaves them. Writes
OUT/lite0, OUT/lite1 and OUT/lite2 (or those that ENCODER names) with `queries` (Google) and `gallery` (Apple): 1,200 motifs without
skin tones, a label is the motif's number, so each query has one right item; OUT/relevance.trec and OUT/qrels/test.tsv say the same by ids. `fit`: both vendors' pictures of the
other motifs, with their skin tones.
"""

import json
import sys
from pathlib import Path

import numpy as np
from efficientnet import WEIGHTS, Encoder
from PIL import Image
from vector_files import write_relevance, write_set

SIDE = 128
EVALUATED = 1200
SEED = 15
QUERY_IDS, GALLERY_IDS, FIT_IDS = 1_000_000, 2_000_000, 3_000_000
QUERIED, STORED = "google", "apple"


def picture(packages, vendor, file):
    """The drawing on white, `[3, 64, 64]` uint8."""
    with Image.open(packages / f"emoji-datasource-{vendor}" / "img" / vendor / "64" / file) as image:
        drawing = image.convert("RGBA")
    white = Image.new("RGBA", drawing.size, "white")
    return np.asarray(Image.alpha_composite(white, drawing).convert("RGB")).transpose(2, 0, 1)


def drawn(entry):
    return entry[f"has_img_{QUERIED}"] and entry[f"has_img_{STORED}"]


def distinct(packages, motifs):
    """Leaves out what a vendor draws like an earlier motif (flags of territories, families): such a query has two right items."""
    seen, kept = set(), []
    for motif in motifs:
        drawings = {(vendor, picture(packages, vendor, motif["image"]).tobytes()) for vendor in (QUERIED, STORED)}
        if not drawings & seen:
            kept.append(motif)
        seen |= drawings
    return kept


def main(packages, out, *names):
    packages = Path(packages)
    motifs = json.loads((packages / f"emoji-datasource-{QUERIED}" / "emoji.json").read_text(encoding="utf-8"))
    motifs = distinct(packages, [motif for motif in motifs if drawn(motif)])
    order = np.random.default_rng(SEED).permutation(len(motifs))
    evaluated = np.sort(order[:EVALUATED])
    fit, fit_labels = [], []
    for number in np.sort(order[EVALUATED:]):
        tones = motifs[number].get("skin_variations", {}).values()
        for entry in [motifs[number], *filter(drawn, tones)]:
            fit += [picture(packages, vendor, entry["image"]) for vendor in (QUERIED, STORED)]
            fit_labels += [number, number]
    sets = {"fit": (fit, fit_labels, FIT_IDS + np.arange(len(fit)))}
    for name, vendor, ids in [("queries", QUERIED, QUERY_IDS), ("gallery", STORED, GALLERY_IDS)]:
        drawings = [picture(packages, vendor, motifs[number]["image"]) for number in evaluated]
        sets[name] = drawings, evaluated, ids + evaluated
    for name in names or WEIGHTS:
        encoder = Encoder(name, SIDE)
        for part, (pictures, labels, ids) in sets.items():
            write_set(f"{out}/{name}", part, encoder.embed(pictures), labels, ids)
    write_relevance(out, QUERY_IDS + evaluated, GALLERY_IDS + evaluated)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
