#!/usr/bin/env python3
"""Writes crates/perennial-encode/testdata/preparation.{txt,bin}: what Pillow makes of small pictures.

Needs numpy and Pillow before 13, which takes some pictures' columns first and so rounds differently. With torchvision installed, its transforms are applied as well and must agree with the arithmetic below.

    python3 experiments/encoders/make_preparation_golden.py [FOLDER]

preparation.txt has one line a case: height, width and channels of the picture, the start of its random numbers, the way of resizing,
height and width of the result, the interpolation, and where the result begins in preparation.bin. Results are bytes, [rows, columns,
channels], before normalisation. Pictures are made from random numbers, in the same way by the test.
"""

import pathlib
import sys

import numpy as np
import PIL
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Height, width and channels of the picture; the way of resizing; the result's size.
CASES = [
    ((37, 53, 3), "shortest_side:12", (10, 11)),  # down, odd sides, crop
    ((61, 40, 3), "shortest_side:9", (9, 9)),  # down by more than 4, upright
    ((7, 9, 3), "shortest_side:23", (12, 12)),  # up, crop
    ((300, 203, 1), "shortest_side:11", (8, 7)),  # down by 18, grey
    ((5, 6, 1), "exact", (13, 9)),  # up, grey
    ((31, 17, 3), "exact", (8, 19)),  # down and up
    ((12, 29, 3), "exact", (12, 12)),  # one side keeps its length
    ((29, 12, 3), "exact", (12, 12)),
    ((41, 26, 3), "middle_square", (9, 9)),
    ((8, 19, 1), "middle_square", (11, 11)),
    ((20, 33, 3), "shortest_side:7", (10, 9)),  # smaller than the result: black around
    ((1, 90, 3), "shortest_side:6", (6, 6)),  # a strip
    ((90, 1, 3), "exact", (5, 4)),
    ((16, 16, 3), "shortest_side:16", (16, 16)),  # nothing to do
]


def picture(height, width, channels, start):
    """Random bytes, a quarter of them 0 and a quarter 255, so that cubic filters overshoot."""
    state, values = start, []
    for _ in range(height * width * channels):
        state = (state * 1664525 + 1013904223) % 2**32
        value = state >> 24
        values.append(0 if value < 64 else 255 if value >= 192 else value)
    return np.array(values, np.uint8).reshape(height, width, channels)


def centre_crop(pixels, size):
    """torchvision's centre crop: black where the picture is too small, else the middle, halves to the even number."""
    for axis, wanted in enumerate(size):
        missing = wanted - pixels.shape[axis]
        if missing > 0:
            pad = [(0, 0)] * 3
            pad[axis] = (missing // 2, (missing + 1) // 2)
            pixels = np.pad(pixels, pad)
        first = int(round((pixels.shape[axis] - wanted) / 2.0))
        pixels = pixels.take(range(first, first + wanted), axis)
    return pixels


def prepare(pixels, resize, size, name):
    height, width, channels = pixels.shape
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    rows, columns = size
    if resize == "exact":
        image = image.resize((columns, rows), FILTERS[name])
    elif resize == "middle_square":
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((columns, rows), FILTERS[name])
    else:
        side = int(resize.split(":")[1])
        short, long = sorted((height, width))
        scaled = int(side * long / short)
        image = image.resize((side, scaled) if width <= height else (scaled, side), FILTERS[name])
    result = np.asarray(image).reshape(image.height, image.width, channels)
    return centre_crop(result, size)


def check_torchvision(pixels, resize, size, name, result):
    try:
        from torchvision import transforms
        from torchvision.transforms import functional
    except ImportError:
        return False
    if not resize.startswith("shortest_side"):
        return False
    mode = getattr(transforms.InterpolationMode, name.upper())
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    image = functional.resize(image, int(resize.split(":")[1]), mode)
    image = functional.center_crop(image, list(size))
    np.testing.assert_array_equal(np.asarray(image).reshape(result.shape), result)
    return True


def main():
    if len(sys.argv) > 2 or sys.argv[1:] == ["--help"]:
        sys.exit(__doc__)
    if int(PIL.__version__.split(".")[0]) >= 13:
        sys.exit(f"Pillow {PIL.__version__} rounds differently: use one before 13")
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "crates/perennial-encode/testdata")
    lines, data, checked = [], bytearray(), 0
    for start, (shape, resize, size) in enumerate(CASES, 1):
        pixels = picture(*shape, start)
        for name in FILTERS:
            result = prepare(pixels, resize, size, name)
            checked += check_torchvision(pixels, resize, size, name, result)
            lines.append(f"{shape[0]} {shape[1]} {shape[2]} {start} {resize} {size[0]} {size[1]} {name} {len(data)}")
            data += result.tobytes()
    (folder / "preparation.txt").write_text("\n".join(lines) + "\n")
    (folder / "preparation.bin").write_bytes(data)
    print(f"{len(lines)} cases, {len(data)} bytes, {checked} compared with torchvision")


if __name__ == "__main__":
    main()
