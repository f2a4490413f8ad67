"""Hugging Face transformers behind the worker protocol: SDPA attention and a DynamicCache."""
import argparse
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache

from peers.protocol import PREFILL_CHUNK, WARM_UP_STEPS, fed_tokens, serve

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Transformers:
    def __init__(self, folder: str, weights: str):
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=TYPES[weights], attn_implementation="sdpa", local_files_only=True).eval()
        self.vocabulary = self.model.config.vocab_size
        self.filled = {}  # caches by rows and depth
        self.prefilled = False

    def run(self, ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Feeds ids [rows, n]; returns the logits [rows, V] of the last one of each row."""
        return self.model(input_ids=ids, past_key_values=cache, use_cache=True,
                          logits_to_keep=1).logits[:, -1]

    def tokens(self, rows: int, first: int, end: int) -> torch.Tensor:
        return torch.tensor([fed_tokens(row, first, end, self.vocabulary) for row in range(rows)],
                            dtype=torch.long)

    def filled_cache(self, rows: int, depth: int) -> DynamicCache:
        """A cache of `rows` rows that hold `depth` tokens each. Kept for the next request."""
        cache = self.filled.setdefault((rows, depth), DynamicCache(config=self.model.config))
        surplus = cache.get_seq_length() - depth
        if surplus > 0:
            cache.crop(-surplus)
        if depth == 0:  # cropping to nothing is not supported everywhere
            cache = self.filled[(rows, depth)] = DynamicCache(config=self.model.config)
        for first in range(cache.get_seq_length(), depth, PREFILL_CHUNK):
            self.run(self.tokens(rows, first, min(first + PREFILL_CHUNK, depth)), cache)
        return cache

    @torch.inference_mode()
    def greedy(self, prompt_ids, tokens: int):
        cache = DynamicCache(config=self.model.config)
        fed, ids, times = torch.tensor([prompt_ids]), [], []
        for _ in range(tokens):
            start = time.perf_counter_ns()
            ids.append(int(self.run(fed, cache)[0].argmax()))
            times.append(time.perf_counter_ns() - start)
            fed = torch.tensor([[ids[-1]]])
        return {"ids": ids, "ns": times}

    @torch.inference_mode()
    def prefill(self, tokens: int):
        ids = self.tokens(1, 0, tokens)
        for _ in range(1 if self.prefilled else 2):  # the first call of all is slower
            cache = DynamicCache(config=self.model.config)
            start = time.perf_counter_ns()
            logits = self.run(ids, cache)
            elapsed = time.perf_counter_ns() - start
        self.prefilled = True
        return {"ns": [elapsed], "last_ids": [int(logits[0].argmax())]}

    @torch.inference_mode()
    def decode(self, depth: int, tokens: int, batch: int = 1):
        cache = self.filled_cache(batch, depth)
        steps = self.tokens(batch, depth, depth + WARM_UP_STEPS + tokens).split(1, dim=1)
        times = []
        for step in steps:
            start = time.perf_counter_ns()
            logits = self.run(step, cache)
            times.append(time.perf_counter_ns() - start)
        return {"ns": times[WARM_UP_STEPS:], "last_ids": logits.argmax(dim=-1).tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a folder in Hugging Face layout")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", choices=TYPES, default="f32",
                        help="also of activations and cache")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    engine = Transformers(arguments.model, arguments.weights)
    serve({"engine": f"transformers {transformers.__version__}, torch {torch.__version__}",
           "system": torch.backends.cpu.get_cpu_capability(), "vocabulary": engine.vocabulary,
           "threads": torch.get_num_threads()}, engine)


if __name__ == "__main__":
    main()
