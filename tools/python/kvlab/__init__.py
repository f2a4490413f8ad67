"""Reads the results of kvlab runs and sweeps into pandas.

    import kvlab
    runs = kvlab.load_runs("runs/generation_benchmark")
    runs[runs.metric == "tpot"].pivot_table(index="arm", columns="group.batch", values="value")

Every function takes the folder of a run, of a sweep, any folder above some, or a results.sqlite.
"""
from .frames import load_cases, load_checks, load_runs, load_samples
from .reading import ResultError

__version__ = "0.1.0"
__all__ = ["ResultError", "load_cases", "load_checks", "load_runs", "load_samples"]
