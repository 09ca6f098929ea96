"""Makes the graphs, the tokenizer and the golden embeddings of perennial-encode's tests.

    make_test_graphs.py crates/perennial-encode/testdata

Weights are random and seeded. The golden embeddings are onnxruntime's, each input in a run of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SIDE, WIDTH, IMAGE_WIDTH, LAYERS = 8, 6, 4, 6
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", ":", "red", "white", "rose", "##s", "winter", "oak", "fern", "the", "a", "of", ".", ","]
TEXTS = [[2, 6, 8, 3], [2, 7, 8, 9, 16, 3], [2, 13, 11, 15, 10, 16, 3], [2, 12, 3], [2] + [6, 8, 17] * 9 + [3]]
RANDOM = np.random.default_rng(15)


def weights(name, *shape):
    values = RANDOM.standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def constant(name, values):
    return numpy_helper.from_array(np.array(values), name)


def save(path, nodes, inputs, outputs, initializers, opset=17, domains=(), external=False):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="make_test_graphs")
    if external:
        (path.parent / f"{path.name}.data").unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def image_nodes(pixels, output):
    """Convolution, rectifier, mean over all places: `[batch, 4, 1, 1]`."""
    return [
        helper.make_node("Conv", [pixels, "kernel", "bias"], ["conv"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], [output]),
    ], [weights("kernel", IMAGE_WIDTH, 3, 3, 3), weights("bias", IMAGE_WIDTH)]


def text_nodes(output, product=None):
    """Vectors of tokens and types, one head of attention with a mask: `[batch, positions, 6]`."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
        helper.make_node("Add", ["words", "kinds"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["embedded", "turned"], ["scores"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "mask"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "far"], ["penalty"]),
        helper.make_node("Unsqueeze", ["penalty", "axis"], ["row"]),
        helper.make_node("Add", ["scores", "row"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["share"], axis=-1),
        helper.make_node("MatMul", ["share", "embedded"], ["mixed"]),
    ]
    initializers = [
        weights("table", len(WORDS), WIDTH), weights("types", 2, WIDTH), constant("one", np.float32(1)), constant("far", np.float32(-1e9)),
        constant("axis", np.array([1], np.int64)),
    ]
    more, tensors = product(output) if product else ([helper.make_node("MatMul", ["mixed", "square"], [output])], [weights("square", WIDTH, WIDTH)])
    return nodes + more, initializers + tensors


def dynamic(output):
    """The last product in int8, with a scale over the whole batch, as dynamic quantisation makes it."""
    square = RANDOM.integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
    return [
        helper.make_node("DynamicQuantizeLinear", ["mixed"], ["bytes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["bytes", "square", "zero"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "weight_scale"], [output]),
    ], [numpy_helper.from_array(square, "square"), constant("weight_scale", np.float32(0.02))]


def text_inputs(batch="batch", positions="positions", kind=TensorProto.INT64):
    return [value(name, [batch, positions], kind) for name in ("input_ids", "attention_mask", "token_type_ids")]


def tokenizer(path):
    split = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]", max_input_chars_per_word=100))
    split.normalizer = normalizers.BertNormalizer(lowercase=True)
    split.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    split.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    # Padding and truncation of the file must not matter.
    split.enable_padding(length=12)
    split.enable_truncation(5)
    split.save(str(path))


def unit(row):
    return (row / np.linalg.norm(row.astype(np.float64))).astype(np.float32).tolist()


def embed_texts(path, pool, kind=np.int64):
    network, rows = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), []
    for text in TEXTS:
        ids = np.array([text], dtype=kind)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        rows.append(unit(pool(network.run(["last_hidden_state"], inputs)[0][0])))
    return rows


def layers(out):
    """Several layers, of which an int8 build differs as one of a real encoder does; that build is by onnxruntime's own quantisation."""
    nodes, tensors = text_nodes("hidden0")
    for layer in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [f"hidden{layer}", f"square{layer}"], [f"product{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"product{layer}"], [f"hidden{layer + 1}" if layer + 1 < LAYERS else "last_hidden_state"]))
        tensors.append(weights(f"square{layer}", WIDTH, WIDTH))
    path = save(out / "layers.onnx", nodes, text_inputs(), [value("last_hidden_state", ["batch", "positions", WIDTH])], tensors)
    quantize_dynamic(path, out / "layers-int8.onnx", weight_type=QuantType.QInt8)


def main():
    if len(sys.argv) != 2 or sys.argv[1] == "--help":
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    tokenizer(out / "tokenizer.json")
    nodes, tensors = image_nodes("pixels", "features")
    picture_output = value("features", ["batch", IMAGE_WIDTH, 1, 1])
    picture = save(out / "picture.onnx", nodes, [value("pixels", ["batch", 3, SIDE, SIDE])], [picture_output], tensors)
    save(out / "single.onnx", nodes, [value("pixels", [1, 3, SIDE, SIDE])], [value("features", [1, IMAGE_WIDTH, 1, 1])], tensors)
    save(out / "external.onnx", nodes, [value("pixels", ["batch", 3, SIDE, SIDE])], [picture_output], tensors, external=True)
    save(out / "old.onnx", nodes, [value("pixels", ["batch", 3, SIDE, SIDE])], [picture_output], tensors, opset=6)
    nodes, tensors = text_nodes("last_hidden_state")
    nodes.append(helper.make_node("ReduceMax", ["last_hidden_state"], ["pooler_output"], axes=[1], keepdims=0))
    outputs = [value("last_hidden_state", ["batch", "positions", WIDTH]), value("pooler_output", ["batch", WIDTH])]
    text = save(out / "text.onnx", nodes, text_inputs(), outputs, tensors)
    nodes, tensors = text_nodes("last_hidden_state", dynamic)
    scaled = save(out / "dynamic.onnx", nodes, text_inputs(kind=TensorProto.INT32), outputs[:1], tensors)
    # Both towers in one graph, each with its inputs.
    images, image_tensors = image_nodes("pixel_values", "places")
    texts, text_tensors = text_nodes("tokens")
    nodes = images + texts + [
        helper.make_node("Flatten", ["places"], ["image_embeds"]),
        helper.make_node("ReduceMean", ["tokens"], ["averaged"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["averaged", "narrow"], ["text_embeds"]),
    ]
    outputs = [value("image_embeds", ["batch", IMAGE_WIDTH]), value("text_embeds", ["batch", IMAGE_WIDTH])]
    inputs = text_inputs() + [value("pixel_values", ["batch", 3, SIDE, SIDE])]
    save(out / "towers.onnx", nodes, inputs, outputs, image_tensors + text_tensors + [weights("narrow", WIDTH, IMAGE_WIDTH)])
    # Operators that no runtime, or not this one, knows.
    nodes = [
        helper.make_node("Celu", ["pixels"], ["first"]),
        helper.make_node("Sharpen", ["first"], ["second"], domain="com.example"),
        helper.make_node("Relu", ["second"], ["third"]),
        helper.make_node("Det", ["third"], ["features"]),
    ]
    save(out / "unsupported.onnx", nodes, [value("pixels", ["batch", 3, SIDE, SIDE])], [value("features", ["batch", 3])], [], domains=["com.example"])
    # A few bytes that ask for terabytes.
    nodes = [
        helper.make_node("ConstantOfShape", ["sizes"], ["much"]),
        helper.make_node("Add", ["pixels", "much"], ["features"]),
    ]
    sizes = constant("sizes", np.array([1 << 20, 1 << 20], np.int64))
    save(out / "huge.onnx", nodes, [value("pixels", ["batch", 3, SIDE, SIDE])], [value("features", ["batch", 3])], [sizes])

    pixels = RANDOM.standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
    network = onnxruntime.InferenceSession(str(picture), providers=["CPUExecutionProvider"])
    rows = [unit(network.run(None, {"pixels": one[None]})[0][0, :, 0, 0]) for one in pixels]
    golden = {
        "pixels": pixels.reshape(3, -1).tolist(), "pictures": rows, "tokens": TEXTS,
        "mean": embed_texts(text, lambda hidden: hidden.mean(axis=0)), "cls": embed_texts(text, lambda hidden: hidden[0]),
        "last_token": embed_texts(text, lambda hidden: hidden[-1]), "dynamic": embed_texts(scaled, lambda hidden: hidden.mean(axis=0), np.int32),
    }
    (out / "golden.json").write_text(json.dumps(golden))
    layers(out)


if __name__ == "__main__":
    main()
