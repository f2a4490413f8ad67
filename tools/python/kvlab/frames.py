"""Results as pandas DataFrames. pandas is imported when a function is called."""
import json

from .reading import read

RUN_COLUMNS = ["run", "case_index", "experiment", "status"]
METRIC_COLUMNS = ["arm", "metric", "value", "unit", "n", "ci_low", "ci_high", "p", "verdict",
                  "better", "timed"]


def load_runs(path):
    """One row per run, arm, metric and group.

    Columns: run, case_index (of a sweep, else missing), experiment, status, arm, metric, value,
    unit, n, ci_low, ci_high, p, verdict ("faster", "slower",
    "not distinguishable" or "refused" for a ratio to the control, else ""), better ("higher", "lower" or "none"), timed; one `group.KEY` per key of
    the metrics' groups and one `config.KEY` per key that an override of some run sets. Groups and
    overrides are numbers where all of a column are. Missing values are NaN or None.
    """
    rows = []
    for run in read(path).runs:
        overrides = {f"config.{key}": value for key, value in override_values(run.overrides)}
        for metric in run.metrics:
            row = run_fields(run)
            row.update({name: metric.get(name) for name in METRIC_COLUMNS})
            row["timed"] = bool(row["timed"])
            row["verdict"] = row["verdict"] or ""
            row.update({f"group.{key}": value for key, value in metric["group"].items()})
            row.update(overrides)
            rows.append(row)
    frame = make_frame(rows, RUN_COLUMNS + METRIC_COLUMNS)
    for name in ("value", "ci_low", "ci_high", "p"):
        frame[name] = frame[name].astype("float64")
    return with_numbers(frame)


def load_samples(path):
    """One row per line of samples.jsonl: run, case_index, experiment, status, line, then the keys of
    the lines, values as they are (lists stay lists)."""
    rows = []
    for run in read(path).runs:
        for line, sample in run.samples:
            row = run_fields(run)
            row["line"] = line
            # A sample that uses one of these names keeps it under another.
            row.update({f"sample.{key}" if key in row else key: value
                        for key, value in sample.items()})
            rows.append(row)
    return make_frame(rows, RUN_COLUMNS + ["line"])


def load_checks(path):
    """One row per correctness check: run, case_index, experiment, status, arm, check, passed,
    detail."""
    rows = [{**run_fields(run), **check} for run in read(path).runs for check in run.checks]
    return make_frame(rows, RUN_COLUMNS + ["arm", "check", "passed", "detail"])


def load_cases(path):
    """One row per planned case of a sweep: case_index, name, hash, overrides, skipped, reasons."""
    return make_frame(read(path).cases,
                      ["case_index", "name", "hash", "overrides", "skipped", "reasons"])


def run_fields(run):
    return {"run": run.name, "case_index": run.case_index, "experiment": run.experiment,
            "status": run.status}


def override_values(overrides):
    """What overrides set: "+a.b=1" gives ("a.b", "1"), "~a.b" gives ("a.b", "removed")."""
    values = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        removes = key.startswith("~")
        values[key[1:] if key[:1] in "+~" else key] = value if equals and not removes else "removed"
    return values.items()


def make_frame(rows, first_columns):
    import pandas

    seen = dict.fromkeys(first_columns)
    more = dict.fromkeys(key for row in rows for key in row if key not in seen)
    frame = pandas.DataFrame(rows, columns=[*seen, *more])
    if "case_index" in frame:
        frame["case_index"] = frame["case_index"].astype("Int64")
    return frame


def with_numbers(frame):
    """Groups and overrides are texts in the files; whole columns of numbers become numbers."""
    import pandas

    for name in frame.columns:
        if name.startswith(("group.", "config.")):
            try:
                numbers = [None if pandas.isna(text) else number(text) for text in frame[name]]
            except ValueError:
                continue
            frame[name] = pandas.to_numeric(pandas.Series(numbers, index=frame.index))
    return frame


def number(text):
    value = json.loads(text) if isinstance(text, str) else text
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(text)
    return value
