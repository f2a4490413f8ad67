"""The comparison as one Markdown page and one JSON file."""
import json
import statistics
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from peers.bars import bar_of, judge, speed_ratio
from peers.cells import CACHE_DTYPE, LLAMA_CPP, OURS, TRANSFORMERS
from peers.measurement import CellResult, GroupResult

# From here on the engines took turns with other programs, which no order of the blocks evens out.
BUSY_NEIGHBOURS = 0.15


def is_measurement(groups: list) -> bool:
    return all(group.neighbour_processors <= BUSY_NEIGHBOURS for group in groups)


def tokens_per_second(result: CellResult, contender: str) -> float:
    return 1e9 * result.cell.tokens_per_step / statistics.median(result.step_ns[contender])


def table(header: list, rows: list) -> list:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def ratio_text(result: CellResult, ours: str, peer: str) -> str:
    if peer not in result.step_ns:
        return "-"
    ratio, bar = speed_ratio(result, ours, peer), bar_of(result, peer)
    if bar is None:
        return str(ratio)
    return f"{ratio}{'' if ratio.median >= bar.least else f', below {bar.least:.2f}'}"


def speed_rows(results: list) -> list:
    rows = []
    for result in results:
        for ours in OURS:
            settings = result.settings[LLAMA_CPP]
            peer_speed = (f"{tokens_per_second(result, TRANSFORMERS):,.1f}"
                          if TRANSFORMERS in result.step_ns else "-")
            rows.append([
                result.weights, result.cell.name, ours, f"{tokens_per_second(result, ours):,.1f}",
                f"{tokens_per_second(result, LLAMA_CPP):,.1f} "
                f"({settings['attention']}, {settings['cache']})", peer_speed,
                ratio_text(result, ours, LLAMA_CPP), ratio_text(result, ours, TRANSFORMERS),
                str(len(result.step_ns[ours]))])
    return rows


def first_difference(ours: list, theirs: list) -> str:
    for index, (left, right) in enumerate(zip(ours, theirs)):
        if left != right:
            return f"parts at token {index + 1} of {len(ours)}: {left} here, {right} there"
    return f"equal, {len(ours)} tokens"


def greedy_rows(groups: list) -> list:
    return [[group.model, group.weights, name, first_difference(group.greedy["kvlab"], ids)]
            for group in groups for name, ids in group.greedy.items()
            if name not in ("kvlab", "text")]


def agreement(groups: list) -> str:
    """Whether the likeliest tokens after each fp32 cell were the same in all engines."""
    cells = [result for group in groups for result in group.cells if result.weights == "f32"]
    different = [f"{result.model}, {result.cell.name}" for result in cells
                 if len({tuple(ids) for ids in result.last_ids.values()}) > 1]
    if not cells:
        return "No fp32 cell was run."
    if different:
        return ("After these fp32 cells the engines' likeliest next tokens were not the same: "
                + "; ".join(different) + ".")
    return (f"After each of the {len(cells)} fp32 cells every engine had the same likeliest next "
            "token in every row.")


def environment_lines(environment: dict, groups: list) -> list:
    lines = [f"- {environment['date']}, {environment['cpu']}, {environment['processors']} "
             f"processors, {environment['threads']} threads for every engine, load before the "
             f"start {environment['load_before']}",
             f"- {environment['blocks']} blocks, seed {environment['seed']}; command: "
             f"`{environment['command']}`"]
    engines = {}
    for group in groups:
        for name, description in group.engines.items():
            engines[name] = description
    lines += [f"- {description['engine']}"
              + (f": {description['system']}" if description.get("system") else "")
              for description in engines.values()]
    idle = max(group.idle_processors for group in groups)
    neighbours = max(group.neighbour_processors for group in groups)
    lines.append(f"- all engines of a table's row were loaded at once and one worked at a time; "
                 f"waiting, they used {idle:.2f} processors together; other programs used "
                 f"{neighbours:.2f} while the blocks ran")
    if not is_measurement(groups):
        lines.append("- **The machine was busy with something else: these figures are no "
                     "measurement. Run it again.**")
    return lines


def markdown(groups: list, environment: dict) -> str:
    lines = ["# Decode speed beside llama.cpp and transformers", "",
             "Written by `tools/bench_peers`. Every engine has the same weights and is fed the "
             "same tokens. Tokens/s are medians; ratios are those of tokens/s within one block, "
             "kvlab over the peer: median (95 % interval of the mean ratio). n = blocks.", ""]
    lines += environment_lines(environment, groups)
    for model in dict.fromkeys(group.model for group in groups):
        results = [result for group in groups if group.model == model for result in group.cells]
        lines += ["", f"## {model}", ""]
        lines += table(["weights", "step", "cache", "kvlab [tokens/s]",
                        "llama.cpp [tokens/s] (attention, K and V)", "transformers [tokens/s]",
                        "/ llama.cpp", "/ transformers", "n"], speed_rows(results))
    pairs = ", ".join(f"{weights} weights with {cache} K and V"
                      for weights, cache in CACHE_DTYPE.items())
    lines += ["", f"kvlab runs {pairs}; transformers has the type of its weights throughout. "
              "llama.cpp runs Q8_0 for int8, and with each cell's fastest attention and type of K "
              "and V (f32 for f32 weights; f16 or bf16 for the others), found before the "
              "blocks.", "",
              "## Outputs", ""]
    lines += table(["model", "weights", "engine", "greedy text beside kvlab's"],
                   greedy_rows(groups))
    lines += ["", agreement(groups), "", "## Bars", ""]
    rows = []
    for bar, reached, missed in judge([result for group in groups for result in group.cells]):
        rows.append([str(bar), f"{len(reached)} of {len(reached) + len(missed)}",
                     "; ".join(missed) or "none"])
    if is_measurement(groups):
        lines += table(["bar (median ratio)", "cells that reach it", "cells that do not"], rows)
    else:
        lines.append("Not judged: the machine was busy with something else.")
    return "\n".join(lines) + "\n"


def to_json(groups: list, environment: dict) -> dict:
    """Everything that was measured: ns per step of each block."""
    return {"schema": "kvlab/peers/1", "environment": environment,
            "groups": [asdict(group) for group in groups],
            "ratios": [{"model": result.model, "weights": result.weights,
                        "cell": asdict(result.cell), "cache": ours, "peer": peer,
                        **asdict(speed_ratio(result, ours, peer))}
                       for group in groups for result in group.cells for ours in OURS
                       for peer in (LLAMA_CPP, TRANSFORMERS) if peer in result.step_ns]}


def write(folder: Path, groups: list[GroupResult], environment: dict):
    (folder / "peers.md").write_text(markdown(groups, environment))
    (folder / "peers.json").write_text(json.dumps(to_json(groups, environment), indent=1) + "\n")


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
