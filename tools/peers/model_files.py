"""Model files that all engines read, written once and only kept when they are complete."""
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

# Files of an older layout are written anew.
LAYOUT = "1"

GGUF_TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "int8": gguf.GGMLQuantizationType.Q8_0,
}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "int8": gguf.LlamaFileType.MOSTLY_Q8_0,
}


class ModelFiles:
    """The folder of one exported model: a GGUF file per weight type and a Hugging Face folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.huggingface = folder / "huggingface"

    def gguf(self, weights: str) -> Path:
        return self.folder / f"{weights}.gguf"

    def is_complete(self) -> bool:
        stamp = self.folder / "layout"
        return stamp.is_file() and stamp.read_text() == LAYOUT


def write_model(files: ModelFiles, write):
    """Calls `write(ModelFiles)` on a folder beside the target and renames it when all is there."""
    if files.is_complete():
        return
    part = ModelFiles(files.folder.with_name(files.folder.name + ".part"))
    shutil.rmtree(part.folder, ignore_errors=True)
    part.huggingface.mkdir(parents=True)
    write(part)
    (part.folder / "layout").write_text(LAYOUT)
    shutil.rmtree(files.folder, ignore_errors=True)
    part.folder.rename(files.folder)


def add_tensors(writer: gguf.GGUFWriter, tensors: dict, weights: str, kept_f32=()):
    """Adds fp32 tensors: matrices in the weight type, vectors and `kept_f32` as they are."""
    for name, values in tensors.items():
        if values.ndim == 1 or name in kept_f32 or weights == "f32":
            writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
        else:
            kind = GGUF_TYPES[weights]
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def finish_gguf(writer: gguf.GGUFWriter):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_huggingface(folder: Path, config: dict, tensors: dict):
    """Writes config.json and model.safetensors."""
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: np.ascontiguousarray(values, dtype=np.float32)
               for name, values in tensors.items()},
              folder / "model.safetensors", metadata={"format": "pt"})
