"""Values of torchvision's and timm's networks: features in evaluation mode, features and gradients of one training step.

Weights follow from a formula of each tensor's name, so that none have to be stored: `values` here and `values` in
`tests/backbones.rs` are the same. Needs torch, torchvision and timm; writes one JSON file per backbone.

    python make.py [NAME ...]
"""

import json
import pathlib
import sys

import numpy
import timm
import torch
import torchvision

HERE = pathlib.Path(__file__).parent
IMAGES, SHOWN = 4, 24


def values(name, count):
    """Uniform in -1 to 1, from the name and the place."""
    state = numpy.uint64(0xCBF29CE484222325)
    with numpy.errstate(over="ignore"):
        for byte in name.encode():
            state = (state ^ numpy.uint64(byte)) * numpy.uint64(0x100000001B3)
        z = state + (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(40)).astype(numpy.float64) / 2.0**23 - 1.0


def weight(name, shape):
    """Of the size that a network in use has."""
    count = int(numpy.prod(shape))
    drawn = values(name, count)
    if len(shape) == 3:
        drawn = 0.5 * drawn
    elif len(shape) > 1:
        drawn = drawn * numpy.sqrt(3.0 * shape[0] / count)
    elif name.endswith("running_var"):
        drawn = 1.0 + 0.5 * drawn
    elif name.endswith("bn3.weight"):
        # Branches that add little to their shortcuts: otherwise rounding alone changes some of ResNet-50's gradients by two hundredths.
        drawn = 0.25 + 0.05 * drawn
    elif name.endswith("weight"):
        drawn = 1.0 + 0.2 * drawn
    else:
        drawn = 0.2 * drawn
    return torch.from_numpy(drawn.astype(numpy.float32).astype(numpy.float64).reshape(shape))


def networks():
    yield "resnet50", 64, lambda: torchvision.models.resnet50()
    yield "senet18", 64, lambda: timm.create_model("seresnet18")
    yield "regnety400mf", 64, lambda: torchvision.models.regnet_y_400mf()
    yield "vit6", 32, lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, depth=6)
    # A third of the width, for its weights are many.
    yield "vit12", 64, lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, embed_dim=64, num_heads=1)


def make(name, side, build):
    network = build()
    for head in ["fc", "head"]:
        if hasattr(network, head):
            setattr(network, head, torch.nn.Identity())
    state = network.state_dict()
    floats = {key: weight(key, tuple(old.shape)) for key, old in state.items() if old.is_floating_point()}
    network.double().load_state_dict(floats, strict=False)
    images = torch.from_numpy(values("images", IMAGES * 3 * side * side).reshape(IMAGES, 3, side, side))
    direction = torch.from_numpy(values("direction", IMAGES * 4096))
    network.eval()
    with torch.no_grad():
        evaluated = network(images)
    network.train()
    trained = network(images)
    loss = (trained.flatten() * direction[: trained.numel()]).mean()
    loss.backward()
    gradients = {}
    for key, parameter in network.named_parameters():
        gradient = parameter.grad.flatten()
        along = gradient @ torch.from_numpy(values("along " + key, gradient.numel()))
        gradients[key] = [float(f"{float(number):.6g}") for number in (gradient.norm(), along)]
    short = lambda features: [[float(f"{number:.7g}") for number in row[:SHOWN]] for row in features.tolist()]
    result = {
        "side": side,
        "features": trained.shape[1],
        "evaluated": short(evaluated),
        "trained": short(trained),
        "loss": loss.item(),
        "gradients": gradients,
    }
    (HERE / f"{name}.json").write_text(json.dumps(result, indent=0) + "\n")
    print(name, trained.shape, loss.item())


for network in networks():
    if not sys.argv[1:] or network[0] in sys.argv[1:]:
        make(*network)
