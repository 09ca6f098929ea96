#!/usr/bin/env python3
"""From the start of a process to its first embedding, and the memory that it took: Perennial beside onnxruntime in Python.

    export.py ENCODERS lite0 minilm
    cold_start.py PROGRAM ENCODERS [--rounds N]

PROGRAM is a build of perennial with the feature onnx. Imports the encoders into a registry of its own, and then starts, in turn, processes that embed one
picture of 640 x 480 (a JPEG file, decoding and resizing included) or one sentence. Prints medians and ratios. The files are in the page cache.
Python reads pictures with Pillow and texts with the package tokenizers. Needs the packages numpy, onnxruntime, pillow and tokenizers.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SENTENCE = "A heron stands at the edge of the water."

PICTURE = """
import sys
import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
picture = Image.open(sys.argv[2]).convert("RGB")
side = 256
scale = side / min(picture.size)
picture = picture.resize([round(length * scale) for length in picture.size], Image.BICUBIC)
left, top = ((length - 224) // 2 for length in picture.size)
pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
pixels = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
(features,) = session.run(None, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})
print((features / np.linalg.norm(features)).shape)
"""

TEXT = """
import sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
encoded = Tokenizer.from_file(sys.argv[3]).encode(open(sys.argv[2]).read().split(",")[-1])
values = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
feeds = {given.name: np.int64([values[given.name]]) for given in session.get_inputs()}
states = session.run(None, feeds)[0]
mean = states.mean(axis=1) if states.ndim == 3 else states
print((mean / np.linalg.norm(mean)).shape)
"""


def measured(command, environment):
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(map(str, command))}\n{process.stderr.read().decode()}")
    return seconds, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    encoders = arguments.encoders.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = {**os.environ, "PERENNIAL_REGISTRY": str(work / "registry")}
        noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 480), Image.BICUBIC).save(work / "picture.jpg", quality=90)
        (work / "pictures.csv").write_text("file\npicture.jpg\n")
        (work / "texts.csv").write_text(f"text\n{SENTENCE}\n")
        versions = {}
        for name in ("lite0", "minilm"):
            done = subprocess.run([program, "--quiet", "--json", "models", "import", encoders / name], env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            versions[name] = sorted(entry.name for entry in (work / "registry").iterdir() if entry.name.startswith("v"))[-1]
        out = ["--out", "-"]
        commands = {
            "EfficientNet-lite0, a picture": (
                [program, "--quiet", "embed", versions["lite0"], "--table", work / "pictures.csv", "--path-column", "file", *out],
                [sys.executable, "-c", PICTURE, encoders / "lite0" / "model.onnx", work / "picture.jpg"],
            ),
            "MiniLM-L6, a sentence": (
                [program, "--quiet", "embed", versions["minilm"], "--table", work / "texts.csv", *out],
                [sys.executable, "-c", TEXT, encoders / "minilm" / "onnx" / "model.onnx", work / "texts.csv", encoders / "minilm" / "tokenizer.json"],
            ),
        }
        print("| encoder and input | Perennial | onnxruntime in Python | ratio of times | ratio of memory |")
        print("|---|---:|---:|---:|---:|")
        for name, pair in commands.items():
            for command in pair:
                measured(command, environment)
            rounds = [[measured(command, environment) for command in pair] for _ in range(arguments.rounds)]
            (ours, our_memory), (theirs, their_memory) = (
                (statistics.median(found[side][0] for found in rounds), statistics.median(found[side][1] for found in rounds)) for side in (0, 1)
            )
            print(
                f"| {name} | {ours:.2f} s, {our_memory:.0f} MiB | {theirs:.2f} s, {their_memory:.0f} MiB | {ours / theirs:.2f} | {our_memory / their_memory:.2f} |",
                flush=True,
            )


main()
