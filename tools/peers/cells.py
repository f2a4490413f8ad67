"""What is compared: cells of model, weights and step, and who takes part in each."""
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """One kind of step. `depth` is the length of the text before it, in tokens."""
    op: str  # decode or prefill
    tokens: int
    depth: int = 0
    batch: int = 1

    @property
    def name(self) -> str:
        if self.op == "prefill":
            return f"prefill {self.tokens}"
        return f"decode, depth {self.depth}, batch {self.batch}"

    @property
    def tokens_per_step(self) -> int:
        return self.tokens if self.op == "prefill" else self.batch

    def request(self, settings: dict) -> dict:
        request = {"op": self.op, "tokens": self.tokens, **settings}
        if self.op == "decode":
            request.update(depth=self.depth, batch=self.batch)
        return request


@dataclass(frozen=True)
class PeerModel:
    """A model that every engine has. Greedy text is compared after `prompt` or `prompt_ids`."""
    name: str
    kvlab_file: str  # in the exported model's folder
    prompt: str
    prompt_ids: tuple = ()  # where the exported model has no tokenizer


MODELS = {
    "smollm2_135m": PeerModel("smollm2_135m", "f32.gguf", "Once upon a time"),
    "gpt2_124m": PeerModel("gpt2_124m", "huggingface", "Once upon a time",
                           (7454, 2402, 257, 640)),
}

WEIGHTS = ("f32", "bf16", "int8")
# K and V of kvlab, and those of llama.cpp, of which the faster one is taken.
CACHE_DTYPE = {"f32": "f32", "bf16": "bf16", "int8": "bf16"}
LLAMA_CACHES = {"f32": ("f32",), "bf16": ("f16", "bf16"), "int8": ("f16", "bf16")}

OURS = {"preallocated": {"cache": "preallocated"}, "paged64": {"cache": "paged:block_size=64"}}
LLAMA_CPP, TRANSFORMERS = "llama.cpp", "transformers"
PREFILL_TOKENS = 512


def llama_settings(weights: str) -> list:
    return [{"attention": attention, "cache": cache}
            for cache in LLAMA_CACHES[weights] for attention in ("flash", "plain")]


def cells(selection: str, tokens: int) -> list:
    """`quick` or `full`; `tokens` timed steps in each decode visit."""
    depths, batches = ((0, 960), (1,)) if selection == "quick" else ((0, 512, 960), (1, 8))
    return [Cell("decode", tokens, depth, batch) for batch in batches for depth in depths] + [
        Cell("prefill", PREFILL_TOKENS)]


def worker_command(contender: str, model: PeerModel, weights: str, folder: Path, kvlab: Path,
                   python: str, threads: int) -> list:
    """The command that starts an engine; None where it has no such weights."""
    if contender in OURS:
        raise ValueError("both caches are served by one worker: ask for 'kvlab'")
    if contender == "kvlab":
        return [kvlab, "decode-worker", folder / model.kvlab_file, "--weights", weights,
                "--cache-dtype", CACHE_DTYPE[weights], "--threads", threads]
    if contender == LLAMA_CPP:
        return [python, "-m", "peers.llama_cpp_worker", folder / f"{weights}.gguf", "--threads",
                threads]
    if weights == "int8":
        return None
    return [python, "-m", "peers.transformers_worker", folder / "huggingface", "--weights",
            weights, "--threads", threads]
