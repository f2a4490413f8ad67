"""Statistics of paired ratios: the median over blocks, and an interval of their mean logarithm."""
import math
import statistics
from dataclasses import dataclass

# Two-sided 95 % points of Student's t by degrees of freedom.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042)


def t_95(degrees: int) -> float:
    if degrees <= len(T_95):
        return T_95[degrees - 1]
    return 1.960 + 2.5 / degrees  # within 0.002 from there on


@dataclass(frozen=True)
class Ratio:
    """Of two speeds. `low` and `high` bound the geometric mean with 95 % confidence."""
    median: float
    low: float
    high: float
    n: int

    def __str__(self):
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio_of(values) -> Ratio:
    """From one ratio per block, at least two.

    >>> r = ratio_of([2.0, 2.0, 2.0]); (r.median, round(r.low, 6), round(r.high, 6), r.n)
    (2.0, 2.0, 2.0, 3)
    >>> r = ratio_of([1.0, 4.0]); (r.median, round(math.sqrt(r.low * r.high), 6))
    (2.5, 2.0)
    >>> ratio_of([1.1, 1.2, 1.3]).low < 1.1 < 1.3 < ratio_of([1.1, 1.2, 1.3]).high + 0.1
    True
    """
    values = list(values)
    logs = [math.log(value) for value in values]
    mean = statistics.fmean(logs)
    half = t_95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(statistics.median(values), math.exp(mean - half), math.exp(mean + half), len(logs))


if __name__ == "__main__":
    import doctest
    raise SystemExit(doctest.testmod().failed)
