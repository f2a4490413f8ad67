"""Reads run folders, sweep folders and results.sqlite into plain Python values."""
import json
import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

RUN_SCHEMA = 1
STORE_VERSION = 2


class ResultError(Exception):
    """A folder or file is missing, damaged, or of a version this package does not know."""


@dataclass
class Run:
    """One run. `name` is unique among those that were read together."""
    name: str
    case_index: int | None
    experiment: str
    status: str
    start: str
    overrides: list
    metrics: list = field(default_factory=list)
    checks: list = field(default_factory=list)
    samples: list = field(default_factory=list)


@dataclass
class Results:
    runs: list = field(default_factory=list)
    cases: list = field(default_factory=list)


def read(path):
    """Everything at `path`. Raises ResultError."""
    path = Path(path)
    if path.is_file():
        return read_store(path)
    if not path.is_dir():
        raise ResultError(f"{path}: no such folder or file")
    results = Results()
    add_tree(path, "", results)
    if not results.runs and not results.cases:
        raise ResultError(f"{path} holds no run; give the folder of a run, of a sweep, or one above")
    for run in results.runs:
        run.name = run.name or clean(path.resolve().name)
    results.runs.sort(key=lambda run: (-1 if run.case_index is None else run.case_index, run.name))
    return results


def clean(text):
    """`text` with what is not UTF-8, which file names may hold, replaced."""
    return os.fsencode(text).decode("utf-8", "replace")


def parse(text, where):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultError(f"{where}: not JSON, so damaged or only half written: {error}") from error


def read_json(path):
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    return parse(text, path)


def read_lines(path, torn_end_allowed):
    """The objects of a JSON Lines file with their line numbers."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if lines[-1] and not torn_end_allowed:
        raise ResultError(f"{path}, line {len(lines)}: the line does not end, so it is half written")
    return [(number, parse(line, f"{path}, line {number}"))
            for number, line in enumerate(lines[:-1], start=1) if line]


def add_tree(folder, name, results):
    if (folder / "run.json").is_file():
        results.runs.append(read_run(folder, name))
    elif (folder / "plan.jsonl").is_file() or (folder / "sweep.json").is_file():
        add_sweep(folder, name, results)
    else:
        for inner in folders_in(folder):
            add_tree(inner, joined(name, clean(inner.name)), results)


def folders_in(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def joined(prefix, name):
    return f"{prefix}/{name}" if prefix else name


def read_run(folder, name):
    run_json = folder / "run.json"
    about = read_json(run_json)
    if not isinstance(about, dict) or about.get("schema_version") != RUN_SCHEMA:
        raise ResultError(f"{run_json}: schema_version must be {RUN_SCHEMA}; read it with the "
                          "package of the kvlab that wrote it")
    finished = about["status"] == "ok"
    overrides = folder / "config" / "overrides.yaml"
    run = Run(name=name, case_index=None, experiment=about["experiment"], status=about["status"],
              start=about["start"], overrides=read_json(overrides) if overrides.is_file() else [])
    if finished or (folder / "summary.json").is_file():
        summary = read_json(folder / "summary.json")
        try:
            run.metrics, run.checks = summary["metrics"], summary["checks"]
        except (KeyError, TypeError) as error:
            raise ResultError(f"{folder / 'summary.json'}: metrics or checks are missing") from error
    run.samples = read_lines(folder / "samples.jsonl", torn_end_allowed=not finished)
    return run


def add_sweep(folder, prefix, results):
    plan = {}
    for _, one in read_lines(folder / "plan.jsonl", torn_end_allowed=False):
        if "index" not in one:
            continue
        reasons = one.get("reasons") or one.get("reason") or []
        reasons = [reasons] if isinstance(reasons, str) else reasons
        skipped = one.get("status") == "skipped" or bool(one.get("skipped")) or bool(reasons)
        plan[one["index"]] = one
        results.cases.append({"case_index": one["index"], "name": one.get("name", ""),
                              "hash": one.get("hash", ""), "overrides": one.get("overrides", []),
                              "skipped": skipped, "reasons": reasons})
    if not (folder / "cases").is_dir():
        return
    for inner in folders_in(folder / "cases"):
        # Attempts that have not ended (.partial) or were set aside (.failed-1) are no results.
        if "." in inner.name or not (inner / "run.json").is_file():
            continue
        run = read_run(inner, joined(prefix, clean(inner.name)))
        index = inner.name.partition("-")[0]
        if not (index.isascii() and index.isdigit()):
            raise ResultError(f"{inner}: a case's folder is named <index>-<hash>")
        run.case_index = int(index)
        if run.case_index in plan:
            run.overrides = plan[run.case_index].get("overrides", [])
        results.runs.append(run)


def read_store(path):
    # A URI, so that a file that is not there is not created; read-only, so that nothing is written.
    database = sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version != STORE_VERSION:
            raise ResultError(f"{path}: expected a results.sqlite of version {STORE_VERSION}, got "
                              f"{version}")
        return store_content(database)
    except sqlite3.DatabaseError as error:
        raise ResultError(f"{path}: {error}") from error
    finally:
        database.close()


def store_content(database):
    results, by_id = Results(), {}
    for row in database.execute("SELECT run_id, name, case_index, experiment, status, start, "
                                "overrides FROM runs ORDER BY run_id"):
        by_id[row[0]] = Run(*row[1:6], overrides=json.loads(row[6]))
        results.runs.append(by_id[row[0]])
    columns = ("arm", "metric", "value", "unit", "n", "ci_low", "ci_high", "p", "verdict",
               "better", "timed")
    for row in database.execute(f'SELECT run_id, "group", {", ".join(columns)} FROM metrics '
                                "ORDER BY run_id, position"):
        metric = dict(zip(columns, row[2:]), group=json.loads(row[1]))
        metric["timed"] = bool(metric["timed"])
        by_id[row[0]].metrics.append(metric)
    for row in database.execute('SELECT run_id, arm, "check", passed, detail FROM checks '
                                "ORDER BY run_id, position"):
        by_id[row[0]].checks.append(dict(zip(("arm", "check", "passed", "detail"),
                                             (row[1], row[2], bool(row[3]), row[4]))))
    for run_id, line, text in database.execute("SELECT run_id, line, json FROM samples "
                                               "ORDER BY run_id, line"):
        by_id[run_id].samples.append((line, json.loads(text)))
    for row in database.execute("SELECT case_index, name, hash, overrides, skipped, reasons "
                                "FROM cases ORDER BY position"):
        results.cases.append({"case_index": row[0], "name": row[1], "hash": row[2],
                              "overrides": json.loads(row[3]), "skipped": bool(row[4]),
                              "reasons": json.loads(row[5])})
    return results
