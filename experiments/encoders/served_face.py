#!/usr/bin/env python3
"""A face encoder from import to a running service: equal to onnxruntime, its int8 build certified, searches by picture.

    export.py ENCODERS sface
    served_face.py PROGRAM ENCODERS [--pictures N]

PROGRAM is a build of perennial with the feature onnx. SFace takes aligned faces of 112 x 112 pixels. There are no pictures of people here: the pictures are generated, so the figures say
whether the encoder computes and searches as it should, and nothing about recognising faces. Each query is a picture of the gallery, shifted by up to three pixels, brighter or darker,
with noise, saved as a JPEG of quality 50; the right answer is its original.

1. Imports SFace, and the int8 build that onnxruntime's dynamic quantisation makes of it.
2. Compares what the program and onnxruntime in Python make of the pictures' files: largest difference of a value of the unit vectors, lowest cosine.
3. Certifies the int8 build for item-like search on the gallery of SFace, as it is (route own).
4. Serves the gallery and searches by picture; promotes the int8 build through the service, searches again, and rolls back.

Needs the packages numpy, onnx, onnxruntime and pillow. The service listens on loopback and is stopped at the end.
"""

import argparse
import base64
import json
import os
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageEnhance

SIDE = 112


def write_pictures(folder, count):
    """Smooth random pictures, and altered ones that look for them, with the judgements of which belongs to which."""
    random = np.random.default_rng(5)
    for name in ("gallery", "queries"):
        (folder / name).mkdir()
    lines = []
    for number in range(count):
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.BICUBIC)
        picture.save(folder / "gallery" / f"{number:04}.png")
        left, top = random.integers(-3, 4, 2)
        moved = picture.transform(picture.size, Image.AFFINE, (1, 0, int(left), 0, 1, int(top)), Image.BILINEAR)
        moved = ImageEnhance.Brightness(moved).enhance(float(random.uniform(0.7, 1.3)))
        noisy = np.asarray(moved, np.float32) + random.normal(0, 8, (SIDE, SIDE, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / "queries" / f"{number:04}.jpg", quality=50)
        lines.append(f"{number:04}.jpg 0 {number:04}.png 1\n")
    (folder / "qrels.txt").write_text("".join(lines))


def quantise(encoder, to):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    to.mkdir()
    for file in encoder.glob("*.json"):
        (to / file.name).write_bytes(file.read_bytes())
    # Unsigned weights: products of signed ones saturate on processors without 8-bit dot products.
    quantize_dynamic(encoder / "model.onnx", to / "model.onnx", weight_type=QuantType.QUInt8)


def reference(graph, files):
    """Unit vectors of onnxruntime in Python; blue first, bytes as they are."""
    network = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    name = network.get_inputs()[0].name
    rows = []
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"), np.float32)[:, :, ::-1].transpose(2, 0, 1)
        rows.append(network.run(None, {name: np.ascontiguousarray(pixels[None])})[0][0])
    rows = np.stack(rows).astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Work:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.environment = {**os.environ, "PERENNIAL_REGISTRY": str(folder / "registry")}

    def run(self, *words, allowed=(0,)):
        done = subprocess.run([self.program, "--quiet", *map(str, words)], env=self.environment, cwd=self.folder, capture_output=True, text=True)
        if done.returncode not in allowed:
            raise SystemExit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self):
        command = [self.program, "--quiet", "serve", "--gallery", "gallery-store", "--listen", "127.0.0.1:0"]
        service = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return service, next(word for word in service.stdout.readline().split() if word.startswith("http")).rstrip("/.,")


def call(url, path, body):
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def found_first(url, queries):
    """Share of the queries whose first hit is their original."""
    right = []
    for query in queries:
        answer = call(url, "search", {"image": base64.b64encode(query.read_bytes()).decode(), "limit": 1, "exact": True})
        hit = answer["hits"][0]
        right.append(Path(str(hit["id"])).stem == query.stem)
    return float(np.mean(right))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--pictures", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work, encoder = Work(arguments.program.resolve(), Path(folder)), arguments.encoders.resolve() / "sface"
        write_pictures(work.folder, arguments.pictures)
        quantise(encoder, work.folder / "sface-int8")
        graphs = {"sface": encoder, "sface-int8": work.folder / "sface-int8"}
        for name, path in graphs.items():
            work.run("models", "import", path, "--alias", name)
            rows = {}
            for side in ("queries", "gallery"):
                work.run("embed", name, "--set", f"folder:{side}", "--out", f"{name}-{side}.npz")
                with np.load(work.folder / f"{name}-{side}.npz") as tensors:
                    rows[side] = unit(next(value for value in tensors.values() if value.ndim == 2))
            files = sorted((work.folder / "gallery").iterdir())
            theirs = reference(path / "model.onnx", files)
            print(f"{name}, {len(files)} pictures, beside onnxruntime: largest difference {np.abs(rows['gallery'] - theirs).max():.1e}, "
                  f"lowest cosine {(rows['gallery'] * theirs).sum(axis=1).min():.7f}", flush=True)
        words = ["certify", "--record", "--route", "own", "--relevance", "qrels.txt", "--out", "certificate.json"]
        for side in ("queries", "gallery"):
            words += [f"--old-{side}", f"sface-{side}.npz", f"--new-{side}", f"sface-int8-{side}.npz"]
        work.run(*words, allowed=(0, 3))
        certificate = json.loads((work.folder / "certificate.json").read_text())
        print(f"certificate, int8 for f32 as it is, item-like: {certificate['finding']}", flush=True)

        work.run("models", "alias", "live", "sface", "--no-gallery")
        service, url = work.serve()
        try:
            work.run("gallery", "add", "gallery", "--server", url)
            (work.folder / "gallery-store/policy.toml").write_text('task = "item-like"\n')
            queries = sorted((work.folder / "queries").iterdir())
            pictures = [base64.b64encode(file.read_bytes()).decode() for file in files[:32]]
            served = unit(call(url, "embed", {"images": pictures})["embeddings"])
            theirs = reference(encoder / "model.onnx", files[:32])
            print(f"the service's /embed, 32 pictures, beside onnxruntime: largest difference {np.abs(served - theirs).max():.1e}, "
                  f"lowest cosine {(served * theirs).sum(axis=1).min():.7f}", flush=True)
            print(f"/search by {len(queries)} altered pictures: the original is first for {found_first(url, queries):.4f}", flush=True)
            done = work.run("models", "promote", "sface-int8", "--server", url, allowed=(0, 1, 3))
            failed = [" ".join(line.split()) for line in done.splitlines() if "FAILED" in line]
            print("promotion of the int8 build:", "; ".join(failed) or "done", flush=True)
            print(f"/search after it: {found_first(url, queries):.4f}", flush=True)
            work.run("models", "rollback", "--server", url, allowed=(0, 1, 3))
        finally:
            service.terminate()
            service.wait()


main()
