"""Writes the checkpoints beside this script: one small network's weights in the wrappings that tools give them.

    python3 make.py        needs torch

Weights are multiples of 1/64 below 2, so that every number type from bfloat16 to float64 holds them exactly.
"""

import pathlib

import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
torch.manual_seed(7)


class Layer(nn.Module):
    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.conv = nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(fan_out)


class Backbone(nn.Module):
    def __init__(self, width):
        super().__init__()
        sides = [3, width, 2 * width, 4 * width, 8 * width]
        self.layers = nn.ModuleList(Layer(a, b) for a, b in zip(sides, sides[1:]))


class Small(nn.Module):
    """Perennial's `small` network of width 2 with a linear classifier of 4 classes."""

    def __init__(self, width=2, classes=4):
        super().__init__()
        self.backbone = Backbone(width)
        self.fc2 = nn.Linear(8 * width, classes)


def exact(module):
    """Gives every number a value that all number types hold."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                low = 1 if name.endswith("running_var") else -127
                tensor.copy_(torch.randint(low, 128, tensor.shape) / 64)
    return module


def save(name, value, **options):
    torch.save(value, HERE / name, **options)


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


model = exact(Small())
state = {key: value.clone() for key, value in model.state_dict().items()}
average = {key: value / 2 if value.is_floating_point() else value for key, value in state.items()}
# One step, so that the optimizer has a momentum buffer for every weight.
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
sum(parameter.sum() for parameter in model.parameters()).backward()
optimizer.step()
model.load_state_dict(state)

save("plain.pt", state)
save("legacy.pt", state, _use_new_zipfile_serialization=False)
save("whole_model.pt", model)
save(
    "imagenet_example.pth.tar",
    {"epoch": 3, "arch": "small", "state_dict": prefixed("module.", state), "best_acc1": torch.tensor(61.5), "optimizer": optimizer.state_dict()},
)
save("averaged.pth", {"model": state, "model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.", average)}, "epoch": 9})
save(
    "lightning.ckpt",
    {
        "epoch": 1,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**prefixed("model.", state), "criterion.weight": torch.ones(4)},
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.5)}},
    },
)
save("compiled.pth", prefixed("_orig_mod.", state))
save("compiled_parallel.pth", {"net": prefixed("module._orig_mod.", state)})
save("parallel_compiled.pth", {"checkpoint": {"student": prefixed("_orig_mod.module.", state), "step": torch.tensor([1, 2, 3])}})
save("float64.pt", {key: value.double() if value.is_floating_point() else value for key, value in state.items()})
save("float16.pt", {key: value.half() if value.is_floating_point() else value for key, value in state.items()})
save("bfloat16.pt", {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()})
save("integers.pt", {key: (value * 64).to(torch.int8) if key.endswith("0.conv.weight") else value for key, value in state.items()})
# Two tensors of one dotted name.
first = "backbone.layers.0.norm.bias"
save("ambiguous.pt", {"a": {"b." + key: value for key, value in state.items()}, "a.b": {first: state[first] + 1}})


class BasicBlock(nn.Module):
    def __init__(self, fan_in, fan_out, stride, projection):
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        if fan_in != fan_out:
            setattr(self, projection, nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out)))


class ResNet18(nn.Module):
    """torchvision's names, or those of kuangliu/pytorch-cifar."""

    def __init__(self, kernel, channels=3, projection="downsample", classifier="fc", blocks=2):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 1, kernel, bias=False)
        self.bn1 = nn.BatchNorm2d(1)
        fan_in = 1
        for index in range(4):
            fan_out = 2**index
            stages = [BasicBlock(fan_in if block == 0 else fan_out, fan_out, 1, projection) for block in range(blocks)]
            setattr(self, f"layer{index + 1}", nn.Sequential(*stages))
            fan_in = fan_out
        setattr(self, classifier, nn.Linear(8, 10))


def without_counters(module):
    """Half the size of a file is its entries."""
    return {key: value for key, value in module.state_dict().items() if value.is_floating_point()}


torch.manual_seed(8)
torchvision = without_counters(exact(ResNet18(3)))
save("resnet18_cifar_stem.pt", torchvision)
names = {key: key.replace("downsample", "shortcut").replace("fc.", "linear.") for key in torchvision}
save("pytorch_cifar.pt", {"net": {names[key]: value for key, value in torchvision.items()}, "acc": 93.1, "epoch": 7})
save("resnet34.pt", without_counters(ResNet18(7, blocks=3)))
save("grey.pt", without_counters(ResNet18(7, channels=1)))

# A few kilobytes that claim the weights of a ResNet-18 of width 1024: every tensor is one number, repeated.
one = torch.zeros(1)


def repeated(name, shape):
    inputs = 3 if name == "conv1.weight" else 1024 * shape[1] if len(shape) > 1 else None
    return one.expand([1024 * shape[0]] + ([] if inputs is None else [inputs]) + list(shape[2:]))


save("repeated.pt", {name: repeated(name, value.shape) for name, value in torchvision.items() if not name.startswith("fc")})


class Runs:
    """What a hostile file would call; reading must not."""

    def __reduce__(self):
        import os

        return os.system, ("touch executed",)


save("calls.pt", {"state_dict": state, "extra": Runs()})
