#!/usr/bin/env python3
"""Decoding, scaling and normalising JPEGs: Perennial beside Pillow and torchvision, in one run, one after the other in every round.

    python3 experiments/encoders/decode_speed.py make FOLDER [COUNT]
    python3 experiments/encoders/decode_speed.py measure FOLDER THREADS ROUNDS NAME=COMMAND...

`make` writes pictures of 500 x 375 pixels with the spectrum of photographs, quality 90, 4:2:0 (about 100 kB each). `measure` starts
every COMMAND once; a COMMAND gets the folder and the number of threads behind it, answers with a line when it is ready, and prepares all
pictures for each line that it is sent. The steps are CLIP's: RGB, bicubic to a shorter side of 224, the middle 224 x 224, mean and
standard deviation, planes of f32. Printed are medians over the rounds of time and processor time, and of their ratios to the first
COMMAND's in the same round. The commands of this script:

    worker pillow          Pillow and numpy; Pillow-SIMD where that is installed instead
    worker pillow-decode   the same, decoding only
    worker torchvision     torchvision's transforms on Pillow's pictures, as training scripts have them
    worker torchvision-io  torchvision.io.decode_jpeg and its transforms on tensors

Example:

    measure /tmp/jpegs 1 7 \\
      "perennial=target/release/examples/prepare_folder" "pillow=python3 experiments/encoders/decode_speed.py worker pillow"
"""

import io
import os
import pathlib
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def make(folder, count):
    import numpy as np
    from PIL import Image

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    height, width = 375, 500
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    amplitude = 1 / np.maximum(frequency, 1) ** 1.2
    total = 0
    for index in range(count):
        rng = np.random.default_rng(index)
        planes = []
        for contrast in (55, 18, 18):  # brightness, two colours
            phases = np.exp(2j * np.pi * rng.random(amplitude.shape))
            plane = np.fft.irfft2(amplitude * phases, (height, width))
            planes.append(plane / plane.std() * contrast)
        pixels = np.stack(planes, -1) + 128
        # Every fifth is upright.
        image = Image.fromarray(pixels.clip(0, 255).astype("uint8"), "YCbCr").convert("RGB")
        image = image.transpose(Image.Transpose.ROTATE_90) if index % 5 == 0 else image
        path = folder / f"{index:04}.jpg"
        image.save(path, quality=90, subsampling="4:2:0")
        total += path.stat().st_size
    print(f"{count} pictures, {total / count / 1000:.0f} kB each")


def pillow(decode_only=False):
    import numpy as np
    from PIL import Image

    mean = np.array(MEAN, np.float32).reshape(3, 1, 1)
    std = np.array(STD, np.float32).reshape(3, 1, 1)

    def prepare(file):
        image = Image.open(io.BytesIO(file)).convert("RGB")
        if decode_only:
            return image
        short, long = sorted(image.size)
        scaled = int(224 * long / short)
        image = image.resize((224, scaled) if image.width <= image.height else (scaled, 224), Image.Resampling.BICUBIC)
        left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
        image = image.crop((left, top, left + 224, top + 224))
        planes = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
        return np.ascontiguousarray((planes - mean) / std)

    return prepare


def torchvision(tensors=False):
    import torch
    from PIL import Image
    from torchvision import transforms
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    bicubic = transforms.InterpolationMode.BICUBIC
    if tensors:
        from torchvision.io import ImageReadMode, decode_jpeg

        steps = v2.Compose([
            v2.Resize(224, bicubic, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ])
        return lambda file: steps(decode_jpeg(torch.frombuffer(bytearray(file), dtype=torch.uint8), ImageReadMode.RGB))
    steps = transforms.Compose([
        transforms.Resize(224, bicubic),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])
    return lambda file: steps(Image.open(io.BytesIO(file)).convert("RGB"))


WORKERS = {
    "pillow": pillow,
    "pillow-decode": lambda: pillow(decode_only=True),
    "torchvision": torchvision,
    "torchvision-io": lambda: torchvision(tensors=True),
}


def worker(name, folder, threads):
    prepare = WORKERS[name]()
    files = [path.read_bytes() for path in sorted(pathlib.Path(folder).glob("*.jpg"))]
    with ThreadPoolExecutor(threads) as pool:
        print(f"{len(files)} files", flush=True)
        for _ in sys.stdin:
            if threads == 1:
                for file in files:
                    prepare(file)
            else:
                for _ in pool.map(prepare, files):
                    pass
            print("done", flush=True)


def processor_seconds(process):
    """User and system time of a process, all threads together. Linux only."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder, threads, rounds, commands):
    processes = {}
    for command in commands:
        name, command = command.split("=", 1)
        process = subprocess.Popen(
            [*command.split(), folder, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        count = int(process.stdout.readline().split()[0])
        processes[name] = process
    times = {name: [] for name in processes}
    for turn in range(rounds + 1):
        for name, process in processes.items():
            before, start = processor_seconds(process), time.perf_counter()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n", name
            spent = (time.perf_counter() - start, processor_seconds(process) - before)
            if turn > 0:  # the first round warms up
                times[name].append(spent)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    first = next(iter(times))
    print(f"{count} pictures, {threads} threads, medians of {rounds} rounds")
    print("| program | ms a picture | processor ms a picture | time / first | processor time / first |")
    print("|---|---|---|---|---|")
    for name, spent in times.items():
        cells = [statistics.median(column) * 1000 / count for column in zip(*spent)]
        ratios = zip(*([a / b for a, b in zip(mine, other)] for mine, other in zip(spent, times[first])))
        ratios = [statistics.median(column) for column in ratios]
        print(f"| {name} | {cells[0]:.2f} | {cells[1]:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def main():
    match sys.argv[1:]:
        case ["make", folder, *count]:
            make(folder, int(count[0]) if count else 500)
        case ["worker", name, folder, threads]:
            worker(name, folder, int(threads))
        case ["measure", folder, threads, rounds, *commands] if commands:
            measure(folder, int(threads), int(rounds), commands)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
