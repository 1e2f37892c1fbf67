"""Writes a real, tiny cross-encoder in the layout that fastembed loads from a path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WORDS = ["[PAD]", "[UNK]", "good", "better", "best", "what", "is"]
WORTH = [0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0]


def write_tiny_cross_encoder(directory: Path) -> Path:
    """A pair's number is the sum of what its words are worth: `best` beats `good`."""
    (directory / "onnx").mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    for name, content in {
        "config.json": {"pad_token_id": 0},
        "tokenizer_config.json": {"model_max_length": 128, "pad_token": "[PAD]"},
        "special_tokens_map.json": {"pad_token": "[PAD]", "unk_token": "[UNK]"},
    }.items():
        (directory / name).write_text(json.dumps(content))
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["worth", "input_ids"], ["each"]),
            helper.make_node("ReduceSum", ["each", "axes"], ["logits"], keepdims=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array(WORTH, np.float32), "worth"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    checker.check_model(model)
    save(model, str(directory / "onnx" / "model.onnx"))
    return directory
