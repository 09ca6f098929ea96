#!/usr/bin/env python3
"""Retrieval of pictures: EfficientNet-lite0 replaced by EfficientNet-lite2, CIFAR at 96 pixels.

    export_images.py DATA OUT [ENCODER...]

DATA holds `cifar-100-binary/train.bin` and `cifar-10-batches-bin/{data_batch_1,test_batch}.bin`. Writes

- OUT/images, class-like. `fit`: 5,000 training images of CIFAR-100, the paired inputs; `queries`: the first 3,000 images of CIFAR-10's
  batch 1; `gallery`: the first 3,000 of its test file.
- OUT/neardup, item-like: altered pictures look for their originals. `gallery`: the 10,000 images of CIFAR-10's test file; `queries`:
  cropped, mirrored, recoloured copies of 2,000 of them; `fit`: as above; `views`: altered copies of the first 1,000 images of `fit`, with
  the ids of their originals (pairs for choosing a weight without labels). A label is the number of the original, so each query has
  one right item; relevance.trec and qrels/test.tsv say the same by ids.

Each has a folder per encoder: `lite0`, `lite2`, and `lite1` for three encoders in one query (ENCODER names those to run). A bridge needs
no labels; those of the fit set are CIFAR-100's fine ones, for fits from class means. No id of an evaluated image occurs in the fit set.
"""

import sys

import numpy as np
from cifar import cifar10, cifar100_train
from efficientnet import WEIGHTS, Encoder
from vector_files import write_relevance, write_set

SIDE = 96
FIT, EVALUATED, ALTERED, VIEWS = 5000, 3000, 2000, 1000
SEED = 12
QUERY_IDS, GALLERY_IDS = 1_000_000, 2_000_000


def altered(picture, rng):
    """A crop of 20 to 28 of 32 pixels a side, every second one mirrored, with other brightness, contrast, saturation and tint."""
    side = rng.integers(20, 29)
    top, left = rng.integers(0, 33 - side, size=2)
    pixels = picture[:, top : top + side, left : left + side].astype(np.float32)
    if rng.random() < 0.5:
        pixels = pixels[:, :, ::-1]
    brightness, contrast, saturation = rng.uniform(0.6, 1.4, size=3)
    tint = rng.uniform(0.8, 1.2, size=(3, 1, 1))
    pixels = pixels * brightness * tint
    grey = pixels.mean(axis=0, keepdims=True)
    pixels = grey + saturation * (pixels - grey)
    pixels = pixels.mean() + contrast * (pixels - pixels.mean())
    return np.rint(pixels.clip(0, 255)).astype(np.uint8)


def main(data, out, *names):
    rng = np.random.default_rng(SEED)
    images, labels = cifar100_train(data)
    fit_ids = np.sort(rng.choice(len(images), FIT, replace=False))
    fit, fit_labels = images[fit_ids], labels[fit_ids]
    queries, query_labels = (part[:EVALUATED] for part in cifar10(data, "data_batch_1"))
    query_ids = QUERY_IDS + np.arange(EVALUATED)
    gallery, gallery_labels = cifar10(data, "test_batch")
    numbers = np.arange(len(gallery))
    sought = np.sort(rng.choice(len(gallery), ALTERED, replace=False))
    copies = [altered(gallery[number], rng) for number in sought]
    views = [altered(picture, rng) for picture in fit[:VIEWS]]

    for name in names or WEIGHTS:
        encoder = Encoder(name, SIDE)
        classes, copied = f"{out}/images/{name}", f"{out}/neardup/{name}"
        rows = encoder.embed(fit)
        write_set(classes, "fit", rows, fit_labels, fit_ids)
        write_set(copied, "fit", rows, fit_labels, fit_ids)
        write_set(classes, "queries", encoder.embed(queries), query_labels, query_ids)
        rows = encoder.embed(gallery)
        write_set(classes, "gallery", rows[:EVALUATED], gallery_labels[:EVALUATED], GALLERY_IDS + numbers[:EVALUATED])
        write_set(copied, "gallery", rows, numbers, GALLERY_IDS + numbers)
        write_set(copied, "queries", encoder.embed(copies), sought, QUERY_IDS + sought)
        write_set(copied, "views", encoder.embed(views), fit_labels[:VIEWS], fit_ids[:VIEWS])
    write_relevance(f"{out}/neardup", QUERY_IDS + sought, GALLERY_IDS + sought)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
