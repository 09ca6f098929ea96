"""Replaces int8 weights with a scale for each block of values (DequantizeLinear with block_size, opset 21) by the f32 weights that they stand for.

    unblock.py IN.onnx OUT.onnx

The same numbers, four times as large: for runtimes that do not know blocks. Also drops declared inputs that nothing uses.
"""

import sys

import numpy as np
import onnx
from onnx import numpy_helper


def drop_unused_inputs(model):
    used = {name for node in model.graph.node for name in node.input}
    kept = [value for value in model.graph.input if value.name in used]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def unblock(model):
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        block = attributes.get("block_size", 0)
        if node.op_type != "DequantizeLinear" or not block or any(name not in constants for name in node.input):
            kept.append(node)
            continue
        values, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
        axis = attributes.get("axis", 1)
        widen = lambda of: np.repeat(of, block, axis=axis).take(range(values.shape[axis]), axis=axis)
        whole = (values.astype(np.float32) - widen(zero).astype(np.float32)) * widen(scale).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(whole.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in model.graph.node for name in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    drop_unused_inputs(model)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    graph = onnx.load(sys.argv[1])
    unblock(graph)
    onnx.save(graph, sys.argv[2])
