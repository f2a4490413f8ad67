"""llama.cpp behind the worker protocol, through the C interface that llama-cpp-python loads.

The timed part is llama_decode and llama_get_logits_ith on a batch prepared beforehand.
"""
import argparse
import ctypes
import time

import llama_cpp
import numpy as np

from peers.protocol import PREFILL_CHUNK, WARM_UP_STEPS, fed_tokens, serve

CACHE_TYPES = {"f32": 0, "f16": 1, "bf16": 30}  # enum ggml_type
FLASH = {"flash": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
         "plain": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED}


class Batch:
    """A llama_batch of fixed capacity whose tokens may be changed between calls."""

    def __init__(self, capacity: int):
        self.batch = llama_cpp.llama_batch_init(capacity, 0, 1)

    def clear(self):
        self.batch.n_tokens = 0

    def add(self, row: int, position: int, token: int, wants_logits: bool):
        index = self.batch.n_tokens
        self.batch.token[index] = token
        self.batch.pos[index] = position
        self.batch.n_seq_id[index] = 1
        self.batch.seq_id[index][0] = row
        self.batch.logits[index] = wants_logits
        self.batch.n_tokens = index + 1



class Context:
    """One llama_context: rows of a cache of one type, with one kind of attention."""

    def __init__(self, model, rows: int, length: int, attention: str, cache: str, threads: int):
        params = llama_cpp.llama_context_default_params()
        # Each row's part of the cache has a length that is padded to 256.
        params.n_ctx = rows * (-(-length // 256) * 256)
        params.n_batch = params.n_ubatch = PREFILL_CHUNK
        params.n_seq_max = rows
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = FLASH[attention]
        params.type_k = params.type_v = CACHE_TYPES[cache]
        params.kv_unified = False  # else every row would attend over the cells of all rows
        params.no_perf = True
        self.context = llama_cpp.llama_init_from_model(model, params)
        if not self.context:
            raise RuntimeError(f"no context with {attention} attention and a {cache} cache")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = Batch(PREFILL_CHUNK)
        self.lengths = [0] * rows
        self.fresh = True  # not used since it was made

    def free(self):
        llama_cpp.llama_batch_free(self.batch.batch)
        llama_cpp.llama_free(self.context)

    def run(self, indices):
        """Runs the batch and waits for the logits of `indices`. Returns pointers to them."""
        if llama_cpp.llama_decode(self.context, self.batch.batch) != 0:
            raise RuntimeError("llama_decode failed")
        return [llama_cpp.llama_get_logits_ith(self.context, index) for index in indices]

    def keep(self, row: int, length: int):
        """Drops what `row` holds from `length` on."""
        if self.lengths[row] <= length:
            return
        if not llama_cpp.llama_memory_seq_rm(self.memory, row, length, -1):
            raise RuntimeError(f"row {row} cannot be cut to {length} tokens")
        self.lengths[row] = length

    def prepare(self, row: int, tokens, last: bool):
        """Makes the batch the next tokens of one row; with `last`, wants the last one's logits."""
        self.batch.clear()
        for index, token in enumerate(tokens):
            wants_logits = last and index + 1 == len(tokens)
            self.batch.add(row, self.lengths[row] + index, token, wants_logits)
        self.lengths[row] += len(tokens)

    def feed(self, row: int, tokens):
        """Feeds tokens of one row in chunks; returns the logits of the last one."""
        pointers = [None]
        for first in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[first:first + PREFILL_CHUNK]
            last = first + len(chunk) == len(tokens)
            self.prepare(row, chunk, last)
            pointers = self.run([len(chunk) - 1] if last else [])
        return pointers[0]


class LlamaCpp:
    def __init__(self, model_file: str, threads: int):
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(model_file.encode(), params)
        if not self.model:
            raise RuntimeError(f"{model_file} cannot be loaded")
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self.threads = threads
        self.contexts = {}

    def context(self, rows: int, length: int, attention: str, cache: str, use) -> Context:
        key = (rows, length, attention, cache, use)
        if key not in self.contexts:
            self.contexts[key] = Context(self.model, rows, length, attention, cache, self.threads)
        return self.contexts[key]

    def forget(self):
        """Gives back the memory of settings that are not asked for again."""
        for context in self.contexts.values():
            context.free()
        self.contexts.clear()
        return {}

    def likeliest(self, logits) -> int:
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self.vocabulary,))))

    def greedy(self, prompt_ids, tokens: int, attention: str = "flash", cache: str = "f16"):
        context = self.context(1, len(prompt_ids) + tokens, attention, cache, "greedy")
        context.keep(0, 0)
        ids, times = [], []
        fed = prompt_ids
        for _ in range(tokens):
            start = time.perf_counter_ns()
            ids.append(self.likeliest(context.feed(0, fed)))
            times.append(time.perf_counter_ns() - start)
            fed = [ids[-1]]
        return {"ids": ids, "ns": times}

    def prefill(self, tokens: int, attention: str = "flash", cache: str = "f16"):
        context = self.context(1, tokens, attention, cache, "prefill")
        if tokens > PREFILL_CHUNK:
            raise ValueError(f"a prefill of {tokens} tokens does not fit one batch")
        ids = fed_tokens(0, 0, tokens, self.vocabulary)
        # The first call of a context finds memory that was never touched.
        for _ in range(2 if context.fresh else 1):
            context.keep(0, 0)
            context.prepare(0, ids, last=True)
            start = time.perf_counter_ns()
            logits = context.run([tokens - 1])
            elapsed = time.perf_counter_ns() - start
        context.fresh = False
        return {"ns": [elapsed], "last_ids": [self.likeliest(logits[0])]}

    def decode(self, depth: int, tokens: int, batch: int = 1, attention: str = "flash",
               cache: str = "f16"):
        end = depth + WARM_UP_STEPS + tokens
        context = self.context(batch, end, attention, cache, "decode")
        for row in range(batch):
            context.keep(row, depth)
            context.feed(row, fed_tokens(row, context.lengths[row], depth, self.vocabulary))
        texts = [fed_tokens(row, depth, end, self.vocabulary) for row in range(batch)]
        rows = range(batch)
        times = []
        for step in range(WARM_UP_STEPS + tokens):
            context.batch.clear()
            for row in rows:
                context.batch.add(row, depth + step, texts[row][step], True)
            start = time.perf_counter_ns()
            logits = context.run(rows)
            times.append(time.perf_counter_ns() - start)
            context.lengths = [depth + step + 1] * batch
        return {"ns": times[WARM_UP_STEPS:], "last_ids": [self.likeliest(row) for row in logits]}


@llama_cpp.llama_log_callback
def only_errors(level, text, _):
    if level == 4:  # GGML_LOG_LEVEL_ERROR; 5 continues a line
        print(ctypes.string_at(text).decode(errors="replace"), end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    llama_cpp.llama_log_set(only_errors, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    engine = LlamaCpp(arguments.model, arguments.threads)
    serve({"engine": f"llama.cpp (llama-cpp-python {llama_cpp.__version__})",
           "system": llama_cpp.llama_print_system_info().decode().strip(),
           "vocabulary": engine.vocabulary, "threads": arguments.threads}, engine)


if __name__ == "__main__":
    main()
