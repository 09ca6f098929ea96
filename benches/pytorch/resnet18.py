"""ResNet-18 on 32x32 images in PyTorch: one training step and one forward pass, timed. Prints JSON.

The counterpart of `perennial bench step forward`: same network, same simplex classifier, same optimizer.
"""

import argparse
import json
import math
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(inner)) + shortcut, inplace=True)


class ResNet18(nn.Module):
    def __init__(self, stem, width, dim):
        super().__init__()
        kernel, stride, padding = (7, 2, 3) if stem == "imagenet" else (3, 1, 1)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        blocks, inputs = [], width
        for stage in range(4):
            outputs = width << stage
            blocks += [Block(inputs, outputs, 2 if stage else 1), Block(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc1 = nn.Linear(inputs, dim, bias=False)

    def forward(self, x):
        x = self.pool(functional.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.fc1(self.blocks(x).mean((2, 3)))


def simplex(vertices):
    """Prototypes [vertices, vertices - 1], unit vectors that are equally far from each other."""
    dim = vertices - 1
    shift = (1 - math.sqrt(vertices)) / dim
    rows = torch.cat([torch.eye(dim), torch.full((1, dim), shift)])
    return functional.normalize(rows - rows.mean(0))


def measure(name, samples, unit, count, work):
    work(), work()
    seconds = []
    for _ in range(samples):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {
        "name": name,
        "samples": samples,
        "median_s": median,
        "fastest_s": min(seconds),
        "slowest_s": max(seconds),
        "rate": {"per_second": count / median, "unit": unit},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help="step, forward; both by default")
    parser.add_argument("--stem", choices=["imagenet", "cifar"], default="imagenet")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--vertices", type=int, default=200)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--layout", choices=["contiguous", "channels-last"], default="channels-last")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    options.what = options.what or ["step", "forward"]

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    layout = torch.channels_last if options.layout == "channels-last" else torch.contiguous_format
    model = ResNet18(options.stem, options.width, options.vertices - 1).to(options.device, memory_format=layout)
    network = torch.compile(model) if options.compile else model
    prototypes = simplex(options.vertices).to(options.device)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": matrices, "weight_decay": 5e-4}, {"params": vectors, "weight_decay": 0.0}], lr=1e-3, momentum=0.9
    )
    images = torch.randn(options.batch, 3, 32, 32, device=options.device).to(memory_format=layout)
    labels = torch.arange(options.batch, device=options.device) % options.vertices
    autocast = torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.bf16)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            logits = network(images) @ prototypes.T
        functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    def title(what, batch):
        return f"{what}, ResNet-18, {options.stem} stem, width {options.width}, batch {batch}"

    found = []
    if "step" in options.what:
        model.train()
        found.append(measure(title("training step", options.batch), options.samples, "images", options.batch, step))
    if "forward" in options.what:
        model.eval()
        for batch in (options.batch, 1):
            chosen = images[:batch].clone(memory_format=layout)

            def forward():
                with torch.inference_mode(), autocast:
                    return functional.normalize(network(chosen).float())

            repeats = options.samples * (1 if batch > 1 else 10)
            found.append(measure(title("forward", batch), repeats, "images", batch, forward))
    report = {
        "torch": torch.__version__,
        "threads": options.threads,
        "layout": options.layout,
        "compile": options.compile,
        "measurements": found,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(report, indent=2))


main()
