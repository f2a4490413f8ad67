"""Runs the engines of one model and weight type against each other, in interleaved blocks."""
import os
import random
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from peers import cells as cell_module
from peers.cells import LLAMA_CPP, OURS, TRANSFORMERS, Cell, PeerModel
from peers.worker import Neighbours, Worker, WorkerFailed, idle_share

GREEDY_TOKENS = 48
CALIBRATION_VISITS = 3


@dataclass
class CellResult:
    """One cell of one model and weight type. Times are ns per step, one for each block."""
    model: str
    weights: str
    cell: Cell
    settings: dict = field(default_factory=dict)  # of each contender
    step_ns: dict = field(default_factory=dict)   # contender -> list over blocks
    last_ids: dict = field(default_factory=dict)  # contender -> likeliest tokens after the cell


@dataclass
class GroupResult:
    model: str
    weights: str
    engines: dict
    idle_processors: float        # used by the waiting engines
    neighbour_processors: float   # used by other programs during the blocks
    cells: list
    greedy: dict  # engine -> ids, of the comparison of texts


class Group:
    """The engines of one model and weight type, all loaded, of which one works at a time."""

    def __init__(self, model: PeerModel, weights: str, folder: Path, options):
        self.model, self.weights, self.options = model, weights, options
        self.workers = {}
        environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
                       "OPENBLAS_NUM_THREADS": "1"}
        try:
            for engine in ("kvlab", LLAMA_CPP, TRANSFORMERS):
                command = cell_module.worker_command(engine, model, weights, folder, options.kvlab,
                                                     sys.executable, options.threads)
                if command is not None:
                    log = options.out / f"{model.name}_{weights}_{engine}.log"
                    self.workers[engine] = Worker(engine, command, log, environment)
        except BaseException:
            self.close()
            raise
        sizes = {worker.description["vocabulary"] for worker in self.workers.values()}
        if len(sizes) != 1:
            raise WorkerFailed(f"{model.name}: the engines' vocabularies differ: {sizes}")

    def close(self):
        for worker in self.workers.values():
            worker.close()

    def contenders(self) -> dict:
        """Name of each contender and its engine."""
        peers = [engine for engine in (LLAMA_CPP, TRANSFORMERS) if engine in self.workers]
        return {**{cache: "kvlab" for cache in OURS}, **{peer: peer for peer in peers}}

    def greedy(self) -> dict:
        """The tokens each engine continues the same prompt with."""
        request = {"op": "greedy", "tokens": GREEDY_TOKENS}
        ids = ({"prompt_ids": list(self.model.prompt_ids)} if self.model.prompt_ids
               else {"prompt": self.model.prompt})
        ours = self.workers["kvlab"].ask({**request, **ids})
        result = {"kvlab": ours["ids"], "text": ours.get("text", "")}
        request["prompt_ids"] = ours["prompt_ids"]
        for engine, worker in self.workers.items():
            if engine == LLAMA_CPP:
                for settings in cell_module.llama_settings(self.weights):
                    name = f"{engine} {settings['attention']} {settings['cache']}"
                    result[name] = worker.ask({**request, **settings})["ids"]
            elif engine != "kvlab":
                result[engine] = worker.ask(request)["ids"]
        return result

    def calibrate(self, cells: list) -> list:
        """Finds llama.cpp's fastest attention and cache type for each cell."""
        worker = self.workers[LLAMA_CPP]
        results = []
        for cell in cells:
            times = {}
            for _ in range(CALIBRATION_VISITS):
                for index, settings in enumerate(cell_module.llama_settings(self.weights)):
                    times.setdefault(index, []).extend(worker.ask(cell.request(settings))["ns"])
            best = min(times, key=lambda index: statistics.median(times[index]))
            settings = dict(OURS)
            settings[LLAMA_CPP] = cell_module.llama_settings(self.weights)[best]
            settings[TRANSFORMERS] = {}
            chosen = {name: settings[name] for name in self.contenders()}
            results.append(CellResult(self.model.name, self.weights, cell, chosen))
            worker.ask({"op": "forget"})
        return results

    def visit(self, result: CellResult, contender: str) -> list:
        worker = self.workers[self.contenders()[contender]]
        answer = worker.ask(result.cell.request(result.settings[contender]))
        result.last_ids[contender] = answer["last_ids"]
        return answer["ns"]

    def block(self, results: list, chance: random.Random):
        """Every contender on every cell: in a random order and then in its reverse, which takes a
        drift of the machine out of their ratio."""
        for result in chance.sample(results, len(results)):
            order = chance.sample(list(self.contenders()), len(self.contenders()))
            times = {}
            for contender in order + order[::-1]:
                times.setdefault(contender, []).extend(self.visit(result, contender))
            for contender, values in times.items():
                result.step_ns.setdefault(contender, []).append(statistics.median(values))


def measure_group(model: PeerModel, weights: str, folder: Path, options) -> GroupResult:
    chance = random.Random(f"{options.seed} {model.name} {weights}")
    cells = cell_module.cells(options.cells, options.tokens)
    say = f"bench_peers: {model.name} {weights}"
    print(f"{say}: loading", file=sys.stderr)
    group = Group(model, weights, folder, options)
    try:
        greedy = group.greedy()
        print(f"{say}: looking for the fastest settings of llama.cpp", file=sys.stderr)
        results = group.calibrate(cells)
        for result in results:  # fills caches, touches memory
            for contender in group.contenders():
                group.visit(result, contender)
        idle = idle_share(group.workers.values())
        neighbours = Neighbours(group.workers.values())
        for block in range(options.blocks):
            group.block(results, chance)
            print(f"{say}: block {block + 1} of {options.blocks}", file=sys.stderr)
        engines = {name: worker.description for name, worker in group.workers.items()}
        return GroupResult(model.name, weights, engines, idle, neighbours.processors(), results,
                           greedy)
    finally:
        group.close()


def machine() -> dict:
    """What the figures depend on beside the engines."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
               "unknown")
    return {"cpu": cpu, "processors": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 2)}
