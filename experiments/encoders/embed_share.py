#!/usr/bin/env python3
"""Rate of `perennial embed` and the part of its time in which the model has work: a folder of JPEG files, and a table of texts.

    export.py ENCODERS minilm-int8 lite0
    embed_share.py PROGRAM ENCODERS [--pictures lite0] [--texts minilm-int8] [--runs 3]

PROGRAM is a build of perennial with the feature onnx. 600 pictures of 640 x 480 pixels and 6,000 texts of 5 to 120 words are made from a fixed seed. The
pictures are embedded as a folder and by a column of paths. Median, smallest and largest of the runs. Needs numpy and Pillow.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

WORDS = "a heron stands at the edge of water where reeds are cut and waits for what evening brings to its shore".split()


def pictures(folder, count):
    import numpy as np
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        noise = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        noise.resize((640, 480), Image.BICUBIC).save(folder / f"{number:04}.jpg", quality=90)
    lines = "".join(json.dumps({"path": f"{folder.name}/{number:04}.jpg"}) + "\n" for number in range(count))
    (folder.parent / "pictures.jsonl").write_text(lines)


def texts(file, count):
    import numpy as np

    random = np.random.default_rng(0)
    with file.open("w") as out:
        for _ in range(count):
            words = random.choice(WORDS, random.integers(5, 121))
            out.write(json.dumps({"text": " ".join(words)}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("encoders", type=Path)
    parser.add_argument("--pictures", default="lite0", help="a folder in ENCODERS (default: %(default)s)")
    parser.add_argument("--texts", default="minilm-int8", help="a folder in ENCODERS (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    print("| input | per second | the model busy for |")
    print("|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environment = {**os.environ, "PERENNIAL_REGISTRY": str(work / "registry")}

        def perennial(*command):
            done = subprocess.run([program, "--quiet", "--json", *command], env=environment, check=True, capture_output=True)
            return json.loads(done.stdout)

        pictures(work / "pictures", 600)
        texts(work / "texts.jsonl", 6000)
        image = perennial("models", "import", arguments.encoders.resolve() / arguments.pictures)["version"]
        text = perennial("models", "import", arguments.encoders.resolve() / arguments.texts)["version"]
        cases = {
            f"a folder of 600 JPEG files of 640 x 480, {arguments.pictures}": [image, "--set", f"folder:{work / 'pictures'}"],
            f"the same by a column of paths, {arguments.pictures}": [image, "--table", work / "pictures.jsonl", "--path-column", "path"],
            f"6,000 texts, {arguments.texts}": [text, "--table", work / "texts.jsonl"],
        }
        for name, command in cases.items():
            answers = []
            for number in range(arguments.runs):
                out = work / f"out-{number}.npy"
                answers.append(perennial("embed", *command, "--out", out))
                out.unlink()
            rates = sorted(answer.get("images_per_second") or answer["rows_per_second"] for answer in answers)
            shares = sorted(answer["model_share"] for answer in answers)
            rate, share = statistics.median(rates), statistics.median(shares)
            cell = f"{share:.3f} ({shares[0]:.3f} to {shares[-1]:.3f}) of the time"
            print(f"| {name} | {rate:.1f} ({rates[0]:.1f} to {rates[-1]:.1f}) | {cell} |", flush=True)


main()
