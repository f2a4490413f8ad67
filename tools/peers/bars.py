"""The ratios that kvlab is meant to reach, and which cells they are about."""
from dataclasses import dataclass

from peers.cells import LLAMA_CPP, OURS, TRANSFORMERS
from peers.measurement import CellResult
from peers.ratios import Ratio, ratio_of


@dataclass(frozen=True)
class Bar:
    name: str
    peer: str
    least: float

    def __str__(self):
        return f"{self.name}: at least {self.least:.2f} times {self.peer}"


FP32 = Bar("fp32, batch 1, depth 0 and 960", LLAMA_CPP, 1.10)
BF16 = Bar("bf16, batch 1, depth 0 and 960", LLAMA_CPP, 1.35)
INT8 = Bar("int8 weights (aim)", LLAMA_CPP, 1.20)
OTHER = Bar("other decode cells", LLAMA_CPP, 1.00)
PREFILL = Bar("fp32, prefill", LLAMA_CPP, 1.00)
LIBRARY = Bar("decode", TRANSFORMERS, 3.00)
ALL = (FP32, BF16, OTHER, INT8, PREFILL, LIBRARY)


def bar_of(result: CellResult, peer: str):
    """The bar that a cell is held to; None for none."""
    decode = result.cell.op == "decode"
    if peer == TRANSFORMERS:
        return LIBRARY if decode else None
    if not decode:
        return PREFILL if result.weights == "f32" else None
    if result.weights == "int8":
        return INT8
    named = (result.model == "smollm2_135m" and result.cell.batch == 1
             and result.cell.depth in (0, 960))
    if named:
        return FP32 if result.weights == "f32" else BF16
    return OTHER


def speed_ratio(result: CellResult, ours: str, peer: str) -> Ratio:
    """Tokens/s of ours over the peer's, block by block."""
    return ratio_of(other / own for own, other in
                    zip(result.step_ns[ours], result.step_ns[peer], strict=True))


def judge(results: list) -> list:
    """For each bar that was measured: (bar, cells that reach it, cells that do not)."""
    verdicts = []
    for bar in ALL:
        reached, missed = [], []
        for result in results:
            if bar.peer not in result.step_ns or bar_of(result, bar.peer) is not bar:
                continue
            for ours in OURS:
                ratio = speed_ratio(result, ours, bar.peer)
                line = f"{result.model} {result.weights}, {result.cell.name}, {ours}: {ratio}"
                (reached if ratio.median >= bar.least else missed).append(line)
        if reached or missed:
            verdicts.append((bar, reached, missed))
    return verdicts
