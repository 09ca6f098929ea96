#!/usr/bin/env python3
"""How far embeddings of canaries move: what is rounding, and what is another network. The tolerance of canaries lies between the two.

    export.py ENCODERS minilm minilm-int8 minilm-dynamic lite0 sface
    canary_distances.py PROGRAM ENCODERS [--onnxruntime LIBRARY]

PROGRAM is a build of perennial with the feature onnx. Each line embeds the same inputs (40 sentences, or 12 pictures) by two builds of one encoder, or twice by one, and prints
the smallest, median and largest length of the difference of their unit vectors. Threads are those of RAYON_NUM_THREADS. Damaged weights are bits of one
weight tensor that are flipped, as a bad memory module or disk leaves them: all at once of 1 in 100,000 numbers, and the sign of one row. Needs the packages numpy, onnx and,
for int8 pictures, onnxruntime and pillow.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

WORDS = "heron reed water evening harbour copper index vector apple winter orange signal river glass motor letter".split()


def texts():
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, size)) + "." for size in random.integers(2, 40, 40)]


def pictures(folder):
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(12):
        noise = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240), Image.BICUBIC).save(folder / f"{number:02}.png")


class Work:
    def __init__(self, program, folder):
        self.program, self.folder, self.versions = program, folder, 0
        (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()))
        (folder / "pictures").mkdir()
        pictures(folder / "pictures")

    def run(self, words, threads, library):
        environment = {**os.environ, "PERENNIAL_REGISTRY": str(self.folder / "registry"), "RAYON_NUM_THREADS": str(threads)}
        environment.pop("PERENNIAL_ONNXRUNTIME", None)
        more = ["--onnxruntime", str(library)] if library else []
        done = subprocess.run([self.program, "--quiet", *map(str, words), *more], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{words}: {done.stderr}")
        return done.stdout

    def embeddings(self, encoder, threads=2, library=None):
        """Rows of unit length, by an import of its own, so that no canary stands in the way."""
        answer = json.loads(self.run(["--json", "models", "import", encoder], threads, library))
        out = self.folder / "rows.npy"
        given = ["--table", self.folder / "texts.jsonl"] if answer["accepts"] == ["text"] else ["--set", f"folder:{self.folder / 'pictures'}"]
        self.run(["embed", answer["version"], *given, "--out", out], threads, library)
        rows = np.load(out).astype(np.float64)
        out.unlink()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def changed(self, encoder, change):
        """A copy of an encoder whose graph is changed."""
        self.versions += 1
        copy = self.folder / f"changed-{self.versions}" / encoder.name
        shutil.copytree(encoder, copy)
        path = next(copy.rglob("*.onnx"))
        model = onnx.load(path)
        change(model)
        path.unlink()
        onnx.save(model, path)
        return copy


def largest_weights(model):
    """The largest tensor of numbers that is no table of token vectors, as an array that can be changed, and what writes it back."""
    tensors = [tensor for tensor in model.graph.initializer if len(tensor.dims) >= 2 and tensor.data_type in (1, 3) and max(tensor.dims) < 10_000]
    tensor = max(tensors, key=lambda tensor: np.prod(tensor.dims))
    values = numpy_helper.to_array(tensor).copy()
    return values, lambda: tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def flip_some(model):
    values, write = largest_weights(model)
    random, flat = np.random.default_rng(0), values.reshape(-1)
    places = random.choice(flat.size, max(flat.size // 100_000, 1), replace=False)
    # The highest bit of the exponent, or the sign of an int8 number.
    bits = flat.view(np.uint32 if flat.itemsize == 4 else np.uint8)
    bits[places] ^= np.array(1 << 30 if flat.itemsize == 4 else 1 << 7, bits.dtype)
    write()


def negate_a_row(model):
    values, write = largest_weights(model)
    values[0] = -values[0]
    write()


def zero_a_tensor(model):
    values, write = largest_weights(model)
    values[...] = 0
    write()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--onnxruntime", type=Path)
    arguments = parser.parse_args()
    encoder = lambda name: arguments.encoders.resolve() / name
    with tempfile.TemporaryDirectory() as folder:
        work = Work(arguments.program.resolve(), Path(folder))
        found = {name: work.embeddings(encoder(name)) for name in ("minilm", "minilm-int8", "minilm-dynamic", "lite0", "sface") if encoder(name).exists()}
        print("| what differs | encoder | smallest | median | largest |")
        print("|---|---|---:|---:|---:|")

        def line(what, name, one, other):
            # A row that is no number any more is damage beyond all doubt.
            lengths = np.nan_to_num(np.linalg.norm(one - other, axis=1), nan=2)
            cells = (lengths.min(), np.median(lengths), lengths.max())
            print(f"| {what} | {name} | {' | '.join(f'{cell:.1e}' for cell in cells)} |", flush=True)

        for name, rows in found.items():
            line("1 thread or 2", name, rows, work.embeddings(encoder(name), threads=1))
            line("3 threads or 2", name, rows, work.embeddings(encoder(name), threads=3))
        for name, rows in found.items():
            if arguments.onnxruntime:
                line("rten or onnxruntime", name, rows, work.embeddings(encoder(name), library=arguments.onnxruntime.resolve()))
        if "minilm" in found:
            for name in ("minilm-int8", "minilm-dynamic"):
                if name in found:
                    line("int8 or f32", name, found["minilm"], found[name])
        for what, change in (("1 in 100,000 weights of a tensor damaged", flip_some), ("the sign of one row of a tensor", negate_a_row), ("a tensor of zeros", zero_a_tensor)):
            for name in ("minilm", "minilm-int8", "lite0", "sface"):
                if name in found:
                    try:
                        line(what, name, found[name], work.embeddings(work.changed(encoder(name), change)))
                    except SystemExit as error:
                        print(f"| {what} | {name} | refused: {str(error).strip().splitlines()[-1][-80:]} | | |", flush=True)


main()
