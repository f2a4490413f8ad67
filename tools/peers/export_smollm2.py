"""SmolLM2-135M from its 4-bit GGUF, expanded to fp32 and written for every engine.

The 4-bit values are the model: each engine gets the same numbers, in fp32 or rounded from it.
"""
from pathlib import Path

import gguf
import numpy as np

from peers.model_files import (FILE_TYPES, ModelFiles, add_tensors, finish_gguf, write_huggingface,
                               write_model)


def dequantised(reader: gguf.GGUFReader) -> dict:
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            for tensor in reader.tensors}


def copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter):
    """Copies shape and tokenizer; what describes the quantisation of the source is left out."""
    left_out = {gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE,
                gguf.Keys.General.QUANTIZATION_VERSION}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in left_out or "imatrix" in name:
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type)


def write_gguf(reader, tensors, files: ModelFiles, weights: str):
    writer = gguf.GGUFWriter(files.gguf(weights), "llama")
    copy_metadata(reader, writer)
    writer.add_file_type(FILE_TYPES[weights])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tensors(writer, tensors, weights)
    finish_gguf(writer)


def rotate_half_rows(weight, heads: int):
    """Rows of each head from interleaved pairs (GGUF) to first halves, then second halves."""
    inputs = weight.shape[1]
    return weight.reshape(heads, -1, 2, inputs).swapaxes(1, 2).reshape(-1, inputs)


HUGGINGFACE_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def huggingface_tensors(tensors: dict, heads: int, kv_heads: int) -> dict:
    result = {"model.embed_tokens.weight": tensors["token_embd.weight"],
              "model.norm.weight": tensors["output_norm.weight"]}
    for name, values in tensors.items():
        if not name.startswith("blk."):
            continue
        _, layer, part, _ = name.split(".")
        if part in ("attn_q", "attn_k"):
            values = rotate_half_rows(values, heads if part == "attn_q" else kv_heads)
        result[f"model.layers.{layer}.{HUGGINGFACE_NAMES[part]}.weight"] = values
    return result


def huggingface_config(reader: gguf.GGUFReader, vocabulary: int) -> dict:
    def value(key):
        return reader.fields["llama." + key].contents()

    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary,
        "hidden_size": int(value("embedding_length")),
        "intermediate_size": int(value("feed_forward_length")),
        "num_hidden_layers": int(value("block_count")),
        "num_attention_heads": int(value("attention.head_count")),
        "num_key_value_heads": int(value("attention.head_count_kv")),
        "max_position_embeddings": int(value("context_length")),
        "rms_norm_eps": float(value("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(value("rope.freq_base")), "hidden_act": "silu",
        "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
        "torch_dtype": "float32",
    }


def export(source: Path, files: ModelFiles):
    """Writes the model of the GGUF file `source`, unless it has been written before."""
    def write(part: ModelFiles):
        reader = gguf.GGUFReader(source)
        tensors = dequantised(reader)
        if "output.weight" in tensors:
            raise ValueError(f"{source}: the head is expected to be the embedding")
        for weights in FILE_TYPES:
            write_gguf(reader, tensors, part, weights)
        config = huggingface_config(reader, len(tensors["token_embd.weight"]))
        write_huggingface(part.huggingface, config, huggingface_tensors(
            tensors, config["num_attention_heads"], config["num_key_value_heads"]))

    write_model(files, write)
