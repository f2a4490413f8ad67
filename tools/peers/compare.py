"""Entry of the comparison; tools/bench_peers calls it inside its environment."""
import argparse
import shlex
import sys
from pathlib import Path

from peers import export_smollm2, measurement, report
from peers.cells import MODELS, WEIGHTS
from peers.model_files import ModelFiles
from peers.worker import WorkerFailed

ROOT = Path(__file__).resolve().parents[2]
MODEL_FOLDER = ROOT / ".deps" / "peer_models"


def arguments():
    parser = argparse.ArgumentParser(
        prog="tools/bench_peers",
        description="Measures kvlab's decode speed beside llama.cpp and transformers, on the same "
                    "weights, interleaved, and writes peers.md and peers.json.")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench_peers",
                        help="folder of the results (default: runs/bench_peers)")
    parser.add_argument("--blocks", type=int, default=7, help="at least 2; default 7")
    parser.add_argument("--cells", choices=("quick", "full"), default="full",
                        help="quick: depth 0 and 960, batch 1, SmolLM2 unless --models says more")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=None)
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=list(WEIGHTS))
    parser.add_argument("--tokens", type=int, default=12,
                        help="timed steps of a visit; a block visits twice (default 12)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7, help="of the order in the blocks")
    parser.add_argument("--kvlab", type=Path, default=ROOT / "build" / "release" / "bin" / "kvlab")
    parser.add_argument("--install-only", action="store_true",
                        help="make the environment and the model files, measure nothing")
    options = parser.parse_args()
    if options.blocks < 2:
        parser.error("--blocks: an interval needs at least 2")
    if options.tokens < 1 or options.threads < 1:
        parser.error("--tokens and --threads start at 1")
    if options.models is None:
        options.models = ["smollm2_135m"] if options.cells == "quick" else list(MODELS)
    return options


def export(model: str) -> ModelFiles:
    files = ModelFiles(MODEL_FOLDER / model)
    if not files.is_complete():
        print(f"bench_peers: writing {model} for all engines to {files.folder}", file=sys.stderr)
    if model == "smollm2_135m":
        export_smollm2.export(
            ROOT / ".deps/models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf", files)
    else:
        from peers import export_gpt2  # loads torch
        export_gpt2.export(ROOT / "configs/models/gpt2_124m.yaml", files)
    return files


def main() -> int:
    options = arguments()
    files = {model: export(model) for model in options.models}
    if options.install_only:
        return 0
    if not options.kvlab.is_file():
        print(f"tools/bench_peers: {options.kvlab} does not exist; build it, or give --kvlab",
              file=sys.stderr)
        return 4
    options.out.mkdir(parents=True, exist_ok=True)
    environment = {"date": report.now(), **measurement.machine(), "threads": options.threads,
                   "blocks": options.blocks, "seed": options.seed,
                   "command": shlex.join(["tools/bench_peers", *sys.argv[1:]])}
    groups = []
    try:
        for model in options.models:
            for weights in options.weights:
                groups.append(measurement.measure_group(MODELS[model], weights,
                                                        files[model].folder, options))
                report.write(options.out, groups, environment)  # what there is so far
    except WorkerFailed as error:
        print(f"tools/bench_peers: {error}", file=sys.stderr)
        return 1
    print((options.out / "peers.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
