"""Compares a version with its ONNX export in onnxruntime, on random pictures of the network's size.

    compare_exported.py PROGRAM VERSION [--registry DIR] [--pictures N]

PROGRAM is a build of perennial. Needs the packages numpy, onnx, onnxruntime and pillow. Ends with an error where an embedding differs by more
than 1e-5.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from PIL import Image

LIMIT = 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("version")
    parser.add_argument("--registry", default="registry")
    parser.add_argument("--pictures", type=int, default=64)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def run(*words):
            command = [arguments.program, "--registry", arguments.registry, "--device", "cpu", "--quiet", "--json", *words]
            return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        exported = run("models", "export", arguments.version, "--onnx", folder / "model.onnx")
        channels, height, width = exported["input"]
        if channels != 3:
            sys.exit("this script compares networks of three channels")
        onnx.checker.check_model(folder / "model.onnx", full_check=True)

        random = np.random.default_rng(0)
        pictures = random.integers(0, 256, (arguments.pictures, height, width, 3), dtype=np.uint8)
        (folder / "pictures").mkdir()
        for at, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / "pictures" / f"{at:05}.png")
        run("embed", arguments.version, "--set", f"folder:{folder / 'pictures'}", "--out", folder / "own.jsonl")
        lines = [json.loads(line) for line in (folder / "own.jsonl").read_text().splitlines()]
        own = np.array([line["embedding"] for line in sorted(lines, key=lambda line: str(line["id"]).zfill(9))], np.float32)

        preparation = json.loads((folder / "preprocessor_config.json").read_text())
        mean, std = (np.array(preparation[key], np.float32) for key in ("image_mean", "image_std"))
        pixels = (pictures.astype(np.float32) * np.float32(preparation["rescale_factor"]) - mean) / std
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        theirs = session.run(None, {"pixels": pixels.transpose(0, 3, 1, 2)})[0]
        alone = np.concatenate([session.run(None, {"pixels": row[None]})[0] for row in pixels.transpose(0, 3, 1, 2)[:4]])

    difference = np.abs(own - theirs).max()
    cosine = (own * theirs).sum(1).min()
    in_batch = np.abs(alone - theirs[:4]).max()
    print(f"{arguments.version}: {len(own)} pictures, {own.shape[1]} dimensions, opset {exported['opset']}")
    print(f"largest difference {difference:.1e}, lowest cosine {cosine:.7f}; onnxruntime alone and in a batch {in_batch:.1e}")
    if not difference <= LIMIT:
        sys.exit(f"the embeddings differ by more than {LIMIT}")


if __name__ == "__main__":
    main()
