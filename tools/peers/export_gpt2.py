"""The GPT-2-124M-shaped model of configs/models/gpt2_124m.yaml, with weights drawn as kvlab does.

The order of the draws is that of `random_weights` in framework/include/kvlab/model/weights.h.
GPT-2's checkpoints have biases for q, k and v; this model has none, so they are zeros.
"""
import math
from pathlib import Path

import gguf
import numpy as np
import torch
import yaml

from peers.model_files import (FILE_TYPES, ModelFiles, add_tensors, finish_gguf, write_huggingface,
                               write_model)

NORM_EPSILON = 1e-5


class Initialiser:
    """LibTorch's default initialisation from a generator of its own."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def embedding(self, rows: int, width: int) -> np.ndarray:
        return torch.empty(rows, width).normal_(0.0, 1.0, generator=self.generator).numpy()

    def uniform(self, *shape: int, bound: float) -> np.ndarray:
        return torch.empty(*shape).uniform_(-bound, bound, generator=self.generator).numpy()

    def weight(self, outputs: int, inputs: int) -> np.ndarray:
        # Kaiming uniform with a = sqrt(5) (He et al., 2015).
        gain = math.sqrt(2.0 / (1.0 + math.sqrt(5.0) ** 2))
        return self.uniform(outputs, inputs, bound=math.sqrt(3.0) * (gain / math.sqrt(inputs)))

    def linear(self, outputs: int, inputs: int):
        weight = self.weight(outputs, inputs)
        return weight, self.uniform(outputs, bound=1.0 / math.sqrt(inputs))


def draw(shape: dict, seed: int) -> dict:
    """GGUF names to fp32 arrays; linear weights are [out, in]."""
    d, inner = shape["d_model"], shape["d_mlp"]
    ones, zeros = np.ones(d, np.float32), np.zeros(d, np.float32)
    initialiser = Initialiser(seed)
    tensors = {"token_embd.weight": initialiser.embedding(shape["vocabulary"], d),
               "position_embd.weight": initialiser.embedding(shape["context"], d)}
    for layer in range(shape["layers"]):
        def put(name, values, layer=layer):
            tensors[f"blk.{layer}.{name}"] = values

        qkv = [initialiser.weight(d, d) for _ in range(3)]
        put("attn_qkv.weight", np.concatenate(qkv))
        put("attn_qkv.bias", np.zeros(3 * d, np.float32))
        for name, outputs, inputs in (("attn_output", d, d), ("ffn_up", inner, d),
                                      ("ffn_down", d, inner)):
            weight, bias = initialiser.linear(outputs, inputs)
            put(name + ".weight", weight)
            put(name + ".bias", bias)
        for norm in ("attn_norm", "ffn_norm"):
            put(norm + ".weight", ones)
            put(norm + ".bias", zeros)
    tensors["output_norm.weight"], tensors["output_norm.bias"] = ones, zeros
    tensors["output.weight"] = initialiser.weight(shape["vocabulary"], d)
    return tensors


def write_gguf(shape: dict, tensors: dict, files: ModelFiles, weights: str):
    writer = gguf.GGUFWriter(files.gguf(weights), "gpt2")
    writer.add_name("gpt2_124m")
    writer.add_vocab_size(shape["vocabulary"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["d_model"])
    writer.add_feed_forward_length(shape["d_mlp"])
    writer.add_block_count(shape["layers"])
    writer.add_head_count(shape["n_heads"])
    writer.add_layer_norm_eps(NORM_EPSILON)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(FILE_TYPES[weights])
    # llama.cpp's own converter leaves the position table in fp32.
    add_tensors(writer, tensors, weights, kept_f32={"position_embd.weight"})
    finish_gguf(writer)


HUGGINGFACE_NAMES = {
    "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj", "attn_norm": "ln_1", "ffn_norm": "ln_2",
}


def huggingface_tensors(tensors: dict) -> dict:
    result = {"transformer.wte.weight": tensors["token_embd.weight"],
              "transformer.wpe.weight": tensors["position_embd.weight"],
              "transformer.ln_f.weight": tensors["output_norm.weight"],
              "transformer.ln_f.bias": tensors["output_norm.bias"],
              "lm_head.weight": tensors["output.weight"]}
    for name, values in tensors.items():
        if not name.startswith("blk."):
            continue
        _, layer, part, kind = name.split(".")
        # Its linear layers are stored [in, out].
        result[f"transformer.h.{layer}.{HUGGINGFACE_NAMES[part]}.{kind}"] = values.T
    return result


def huggingface_config(shape: dict) -> dict:
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
        "vocab_size": shape["vocabulary"], "n_positions": shape["context"],
        "n_embd": shape["d_model"], "n_layer": shape["layers"], "n_head": shape["n_heads"],
        "n_inner": shape["d_mlp"], "activation_function": "gelu_new",
        "layer_norm_epsilon": NORM_EPSILON, "tie_word_embeddings": False,
        "bos_token_id": 50256, "eos_token_id": 50256, "torch_dtype": "float32",
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
    }


def export(config: Path, files: ModelFiles):
    """Writes the model that the YAML `config` describes, unless it has been written before."""
    def write(part: ModelFiles):
        described = yaml.safe_load(config.read_text())
        shape = described["shape"]
        tensors = draw(shape, described["source"]["seed"])
        for weights in FILE_TYPES:
            write_gguf(shape, tensors, part, weights)
        write_huggingface(part.huggingface, huggingface_config(shape),
                          huggingface_tensors(tensors))

    write_model(files, write)
