"""A network on 32x32 images in PyTorch: one training step and one forward pass, timed. Prints JSON.

The counterpart of `perennial bench step forward`: same network, same simplex classifier, same optimizer. Backbones other than ResNet-18
are torchvision's and timm's, which have to be installed, at their published width.
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


TITLES = {
    "resnet18": "ResNet-18",
    "senet18": "SENet-18",
    "resnet50": "ResNet-50",
    "regnety400mf": "RegNetY-400MF",
    "vit6": "ViT of 6 blocks",
    "vit12": "ViT of 12 blocks",
}


def build(options, dim):
    """The network from images to embeddings, its stem and its width."""
    name, stem, width = options.backbone, options.stem, options.width
    if name == "resnet18":
        stem, width = stem or "imagenet", width or 64
        return ResNet18(stem, width, dim), stem, width
    if name.startswith("vit"):
        import timm

        stem, width, depth = stem or "patch4", width or 192, int(name[3:])
        sizes = {"img_size": 32, "patch_size": int(stem[5:]), "embed_dim": width, "num_heads": width // 64}
        body = timm.create_model("vit_tiny_patch16_224", depth=depth, num_classes=0, **sizes)
        return nn.Sequential(body, nn.Linear(width, dim, bias=False)), stem, width
    stem = stem or "imagenet"
    if name == "regnety400mf":
        import torchvision

        body, width, features = torchvision.models.regnet_y_400mf(), 32, 440
        body.fc = nn.Identity()
        if stem == "cifar":
            body.stem[0].stride = (1, 1)
        return nn.Sequential(body, nn.Linear(features, dim, bias=False)), stem, width
    if name == "senet18":
        import timm

        body, features = timm.create_model("seresnet18", num_classes=0), 512
    else:
        import torchvision

        body, features = torchvision.models.resnet50(), 2048
        body.fc = nn.Identity()
    if stem == "cifar":
        body.conv1, body.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return nn.Sequential(body, nn.Linear(features, dim, bias=False)), stem, 64


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
    parser.add_argument("--backbone", choices=list(TITLES), default="resnet18")
    parser.add_argument("--stem", help="as published by default")
    parser.add_argument("--width", type=int, help="as published by default; of ResNet-18 and vision transformers")
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
    model, stem, width = build(options, options.vertices - 1)
    model = model.to(options.device, memory_format=layout)
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
        return f"{what}, {TITLES[options.backbone]}, {stem} stem, width {width}, batch {batch}"

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
