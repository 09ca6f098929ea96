"""all-MiniLM-L6-v2 as a torch module, from the safetensors file of its package, for the export to ONNX."""

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, EPSILON = 384, 12, 6, 1e-12


class Layer(nn.Module):
    """One transformer layer with the official names of its tensors."""

    def __init__(self, tensors, prefix):
        super().__init__()
        take = lambda name: nn.Parameter(tensors[f"{prefix}.{name}"].float(), requires_grad=False)
        names = {
            "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
            "joined": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense",
            "first_norm": "attention.output.LayerNorm", "second_norm": "output.LayerNorm",
        }
        for short, name in names.items():
            setattr(self, f"{short}_weight", take(f"{name}.weight"))
            setattr(self, f"{short}_bias", take(f"{name}.bias"))

    def linear(self, name, values):
        return functional.linear(values, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def norm(self, name, values):
        return functional.layer_norm(values, (WIDTH,), getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"), EPSILON)

    def forward(self, hidden, hide):
        batch, length = hidden.shape[0], hidden.shape[1]
        split = lambda values: values.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)
        query, key, value = (split(self.linear(name, hidden)) for name in ("query", "key", "value"))
        scores = query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5 + hide
        mixed = (scores.softmax(dim=3) @ value).transpose(1, 2).reshape(batch, length, WIDTH)
        hidden = self.norm("first_norm", self.linear("joined", mixed) + hidden)
        return self.norm("second_norm", self.linear("down", functional.gelu(self.linear("up", hidden))) + hidden)


class MiniLm(nn.Module):
    """Token ids to the last hidden state, `[batch, positions, 384]`."""

    def __init__(self, path):
        super().__init__()
        tensors = load_file(path)
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            setattr(self, name, nn.Parameter(tensors[f"embeddings.{name}.weight"].float(), requires_grad=False))
        self.norm_weight = nn.Parameter(tensors["embeddings.LayerNorm.weight"].float(), requires_grad=False)
        self.norm_bias = nn.Parameter(tensors["embeddings.LayerNorm.bias"].float(), requires_grad=False)
        self.layers = nn.ModuleList(Layer(tensors, f"encoder.layer.{number}") for number in range(LAYERS))

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = functional.embedding(input_ids, self.word_embeddings) + functional.embedding(token_type_ids, self.token_type_embeddings)
        hidden = hidden + self.position_embeddings[: input_ids.shape[1]]
        hidden = functional.layer_norm(hidden, (WIDTH,), self.norm_weight, self.norm_bias, EPSILON)
        hide = (1.0 - attention_mask[:, None, None, :].float()) * -1e9
        for layer in self.layers:
            hidden = layer(hidden, hide)
        return hidden
