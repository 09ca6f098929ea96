#!/usr/bin/env python3
"""Training, embedding and evaluation on a GPU compared with the CPU, on generated images.

    cargo build --release -p perennial --features vulkan
    python3 experiments/gpu/compare.py target/release/perennial WORK --device vulkan:0

WORK is a folder for registries and runs. Without a GPU, a software Vulkan driver serves (Debian: mesa-vulkan-drivers), slowly. Needs numpy and
safetensors. Prints one line per comparison and ends with status 1 where one lies beyond its tolerance:

- every backbone: one step on 160 images from the same start; the change of all weights, as the length of the difference between the two
  devices' changes over the length of the CPU's change;
- every backbone: the model that the CPU trained, embedding 200 images on both; the largest difference of a number and the smallest cosine;
- tasks with the contrastive term and a replacement by another model: the loss of every epoch (relative), and the nearest-class-mean accuracy
  of every pair of versions (absolute).
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo"
BACKBONES = ["small", "resnet18", "senet18", "resnet50", "regnety400mf", "vit6", "vit12"]
WIDTHS = {"small": 16, "resnet18": 16, "senet18": 16, "resnet50": 16, "regnety400mf": 16, "vit6": 64, "vit12": 64}

# The last maps of deep networks have one position here: batch norm over 160 numbers amplifies rounding, in ResNet-50 and RegNetY most, and more
# with every further step.
WEIGHTS = 0.02
EMBEDDING = 2e-5
COSINE = 0.99999
LOSS = 0.01
QUALITY = 0.01


class Comparison:
    def __init__(self, arguments):
        self.program = Path(arguments.program).resolve()
        self.work = Path(arguments.work).resolve()
        self.device = arguments.device
        self.seconds = {"cpu": 0.0, self.device: 0.0}
        self.missed = []

    def run(self, device, *arguments):
        folder = self.work / device.replace(":", "-")
        command = [self.program, "--quiet", "--device", device, "--registry", folder / "registry", "--runs", folder / "runs", *arguments]
        start = time.monotonic()
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        self.seconds[device] += time.monotonic() - start
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\nended with status {done.returncode}:\n{done.stderr}")
        return folder

    def both(self, *arguments):
        return [self.run(device, *arguments) for device in ("cpu", self.device)]

    def check(self, what, found, limit, at_least=False):
        good = np.isfinite(found) and (found >= limit if at_least else found <= limit)
        sign = ">=" if at_least else "<="
        print(f"{'ok    ' if good else 'MISSED'} {what}: {found:.3g} ({sign} {limit:g})", flush=True)
        if not good:
            self.missed.append(what)

    def backbone(self, backbone):
        name = f"compare-{backbone}"
        settings = [
            "--set", f'network.backbone="{backbone}"', "--set", f"network.width={WIDTHS[backbone]}", "--set", "method.vertices=64",
            "--set", "data.generated.classes=10", "--set", "data.generated.images_per_class=16", "--set", "training.batch_size=160",
            "--set", "training.learning_rate=0.01",
        ]
        start = self.both("pretrain", DEMO / "weak-simplex.toml", *settings, "--name", name, "--set", "training.epochs=1")
        start_only = self.run(
            "cpu", "pretrain", DEMO / "weak-simplex.toml", *settings, "--name", f"{name}-start", "--set", "training.epochs=1",
            "--set", "training.learning_rate=1e-30", "--set", "training.final_learning_rate=1e-31", "--set", "training.weight_decay=0",
        )
        began = weights(start_only, f"{name}-start")
        here, there = (weights(folder, name) for folder in start)
        if here.keys() != there.keys():
            sys.exit(f"{backbone}: the devices' models have other weights")
        trained = [key for key in here if "running" not in key]
        change = np.concatenate([(here[key] - began[key]).ravel() for key in trained])
        other = np.concatenate([(there[key] - began[key]).ravel() for key in trained])
        self.check(f"{backbone}, change of the weights", np.linalg.norm(other - change) / np.linalg.norm(change), WEIGHTS)

        # The same weights on both devices.
        found = []
        for device in ("cpu", self.device):
            out = self.work / f"{backbone}-{device.replace(':', '-')}.npy"
            folder = self.work / "cpu"
            command = [
                self.program, "--quiet", "--device", device, "--registry", folder / "registry", "embed", name, "--set", "generated:test",
                "--out", out,
            ]
            start_time = time.monotonic()
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
            self.seconds[device] += time.monotonic() - start_time
            found.append(np.load(out).astype(np.float64))
        self.check(f"{backbone}, embeddings, largest difference", np.abs(found[0] - found[1]).max(), EMBEDDING)
        lengths = np.linalg.norm(found[0], axis=1) * np.linalg.norm(found[1], axis=1)
        self.check(f"{backbone}, embeddings, smallest cosine", ((found[0] * found[1]).sum(axis=1) / lengths).min(), COSINE, at_least=True)

    def tasks(self):
        few = ["--set", "training.epochs=2"]
        self.both("pretrain", DEMO / "weak-simplex.toml", *few)
        better = ["--name", "compare-better", "--seed", "1", "--set", "data.generated.classes=160"]
        self.both("pretrain", DEMO / "weak-simplex.toml", *few, *better)
        # From here on both start from the CPU's models, since two epochs of rounding change what a model is.
        cpu, other = self.work / "cpu", self.work / self.device.replace(":", "-")
        shutil.rmtree(other / "registry")
        shutil.copytree(cpu / "registry", other / "registry")
        # As published: a fitted map would add its own rounding.
        parity = ["--set", "recipe=parity", "--set", "replacements.0.model=compare-better"]
        folders = self.both("train", DEMO / "tasks-hoc.toml", *few, *parity, "--name", "compare-hoc")
        losses = [epochs(folder / "runs" / "compare-hoc") for folder in folders]
        difference = np.abs(losses[0] - losses[1]) / losses[0]
        self.check("tasks with replacement, loss of an epoch, relative", difference.max(), LOSS)
        self.both("evaluate", "compare-hoc")
        results = [quality(folder / "runs" / "compare-hoc" / "compatibility.json") for folder in folders]
        if results[0].keys() != results[1].keys() or not results[0]:
            sys.exit("the devices' evaluations measured other things")
        for measure, values in results[0].items():
            self.check(f"evaluation, {measure} of all pairs", np.abs(values - results[1][measure]).max(), QUALITY)


def weights(folder, name):
    aliases = (folder / "registry" / "aliases.toml").read_text().splitlines()
    pairs = dict(line.split(" = ") for line in aliases if " = " in line)
    version = pairs[name if name in pairs else f'"{name}"'].strip('"')
    return {key: value.astype(np.float64) for key, value in load_file(folder / "registry" / version / "weights.safetensors").items()}


def epochs(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return np.array([json.loads(line)["loss"] for line in lines])


def quality(path):
    """Every matrix of a measure in a report, by the measure's name."""
    found = {}

    def walk(name, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}.{key}" if name else key, inner)
        elif isinstance(value, list) and value and all(isinstance(row, list) for row in value):
            numbers = [number for row in value for number in row if isinstance(number, (int, float))]
            if numbers:
                found[name] = np.array(numbers, dtype=np.float64)

    walk("", json.loads(path.read_text()))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("work")
    parser.add_argument("--device", default="vulkan:0")
    parser.add_argument("--backbones", nargs="*", default=BACKBONES, choices=BACKBONES)
    parser.add_argument("--no-tasks", action="store_true", help="backbones only")
    arguments = parser.parse_args()
    Path(arguments.work).mkdir(parents=True, exist_ok=True)
    comparison = Comparison(arguments)
    for backbone in arguments.backbones:
        comparison.backbone(backbone)
    if not arguments.no_tasks:
        comparison.tasks()
    spent = ", ".join(f"{device} {seconds:.0f} s" for device, seconds in comparison.seconds.items())
    print(f"time of the commands: {spent}")
    if comparison.missed:
        sys.exit(f"beyond tolerance: {'; '.join(comparison.missed)}")


if __name__ == "__main__":
    main()
