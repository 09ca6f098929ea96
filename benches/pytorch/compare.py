#!/usr/bin/env python3
"""Training step and forward pass in Perennial and in PyTorch, alternating in one run; prints ratios of medians.

    python3 -m venv env && env/bin/pip install torch numpy
    env/bin/python benches/pytorch/compare.py --perennial target/release/perennial

Every round runs Perennial and then each setting of PyTorch in processes of their own. A ratio below 1 means that Perennial is
faster than PyTorch's best setting for that measurement. On a machine that others share, medians say how it went and the
fastest samples what the programs can do when left alone. Both take the best instructions that they find, or with `--instructions` what it says.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys


# What Perennial, PyTorch's own code, and its libraries of convolutions (oneDNN) and of matrix products (MKL) are told. Each reads it when it starts.
INSTRUCTIONS = {
    name: {
        "PERENNIAL_INSTRUCTIONS": name,
        "ATEN_CPU_CAPABILITY": name,
        "ONEDNN_MAX_CPU_ISA": convolutions,
        "MKL_ENABLE_INSTRUCTIONS": name.upper(),
    }
    for name, convolutions in (("avx512", "AVX512_CORE"), ("avx2", "AVX2"))
}


def run(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perennial", default="target/release/perennial")
    parser.add_argument("--backbone", default="resnet18", help="others need torchvision and timm")
    parser.add_argument("--stem", help="as published by default")
    parser.add_argument("--width", help="as published by default")
    parser.add_argument("--batch", default="128")
    parser.add_argument("--samples", default="8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="Perennial's, such as vulkan:0")
    parser.add_argument("--torch-device", default="cpu", help="PyTorch's, such as cuda")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, which needs a C++ compiler")
    parser.add_argument("--instructions", choices=INSTRUCTIONS, help="the most of the processor that both sides use; otherwise each chooses")
    options = parser.parse_args()
    os.environ.update(INSTRUCTIONS.get(options.instructions, {}))
    shape = ["--backbone", options.backbone, "--batch", options.batch, "--samples", options.samples]
    if options.stem:
        shape += ["--stem", options.stem]
    if options.width:
        shape += ["--width", options.width]
    script = str(pathlib.Path(__file__).with_name("network.py"))
    torch = [sys.executable, script, "step", "forward", *shape, "--device", options.torch_device, "--layout"]
    commands = {
        "perennial": [options.perennial, "bench", "step", "forward", "--quiet", "--json", "--device", options.device, *shape],
        "contiguous": [*torch, "contiguous"],
        "channels-last": [*torch, "channels-last"],
    }
    if options.compile:
        commands["channels-last, compiled"] = [*torch, "channels-last", "--compile"]
    seconds, fastest, memory = {}, {}, {}
    for _ in range(options.rounds):
        for setting, command in commands.items():
            report = run(command)
            memory.setdefault(setting, []).append(report["peak_memory_bytes"])
            for found in report["measurements"]:
                seconds.setdefault(found["name"], {}).setdefault(setting, []).append(found["median_s"])
                fastest.setdefault(found["name"], {}).setdefault(setting, []).append(found["fastest_s"])
    for what, times, reduce in (("medians", seconds, statistics.median), ("fastest", fastest, min)):
        for name, settings in times.items():
            found = {setting: reduce(values) for setting, values in settings.items()}
            ours = found.pop("perennial")
            best = min(found, key=found.get)
            print(f"{what}: {name}: {1e3 * ours:.2f} ms; PyTorch {1e3 * found[best]:.2f} ms ({best}); ratio {ours / found[best]:.2f}")
    peaks = {setting: statistics.median(found) for setting, found in memory.items()}
    least = min(value for setting, value in peaks.items() if setting != "perennial")
    print(f"peak memory: {peaks['perennial'] / 1e6:.0f} MB; PyTorch at least {least / 1e6:.0f} MB; ratio {peaks['perennial'] / least:.2f}")


main()
