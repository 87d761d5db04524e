"""The report's metrics of the committed laptop run with their intervals, beside the same from the plain functions.

Writes benchmarks/results/metrics.csv: for each step the bootstrap replicates, seconds on the wall and of all cores together, and the largest
difference of a value or an end of an interval from the plain way with as many replicates, in the metric's own unit (shares; tokens). Timed apart:
importing, which compiles the walk once and then finds it on disk; reading the records; opening them, which finds the thresholds and what every
system answers, before any draw. Of the metrics the fastest of three calls counts. The plain functions are those of
03_metrics, called one by one as tests/test_study.py does; 10,000 replicates of theirs take long, so they have 1,000.

    python benchmarks/metrics.py
"""
import csv, os, platform, sys, time
from dataclasses import replace
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]/"tests"

def timed(fn):
    "What it gives, seconds on the wall, seconds of all cores."
    wall, cpu = time.perf_counter(), time.process_time()
    out = fn()
    return out, time.perf_counter() - wall, time.process_time() - cpu

def fastest(fn, times=3):
    "The same for the fastest of some calls: others may want the cores too."
    return min((timed(fn) for _ in range(times)), key=lambda t: t[1])

def plain(records, n_boot):
    "The table with every measurement of a data set from a function of `corea.metrics`."
    import corea.lab.study as study
    from test_study import gathered
    st = study.study(records, n_boot)
    for d in st.cfg.datasets: st.memo |= gathered(st, d) | {("gathered", d): True}
    return study.metrics_table(st)

def largest(a, b):
    "The largest difference of two tables, infinite where one has a number and the other none."
    import numpy as np
    x, y = (t[["value", "ci_low", "ci_high"]].to_numpy(float) for t in (a, b))
    return float(np.where(np.isnan(x) & np.isnan(y), 0, np.nan_to_num(np.abs(x - y), nan=np.inf)).max())

def begin():
    from corea.core import FIGURES
    from corea.lab.records import load_records
    from corea.lab.study import metrics_table, study
    return lambda: load_records(FIGURES/"laptop"/"records"), metrics_table, study

def main():
    sys.path.insert(0, str(TESTS))
    (load, table, study), *importing = timed(begin)
    records, *reading = timed(load)
    st, *opening = timed(lambda: study(records, 1000))
    few, *short = fastest(lambda: table(replace(st, memo={})))
    many, *long = fastest(lambda: table(replace(st, memo={}, n_boot=10_000)))
    slow, *reference = timed(lambda: plain(records, 1000))
    rows = [("import", "", importing, ""), ("reading", "", reading, ""), ("opening", "", opening, ""), ("plain", 1000, reference, 0), ("metrics", 1000, short, f"{largest(few, slow):.1e}"),
            ("metrics", 10_000, long, "")]
    path = Path(__file__).with_name("results")/"metrics.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["what", "n_boot", "seconds", "cpu_seconds", "differs_by", "rows", "system"])
        w.writerows([what, n, f"{wall:.2f}", f"{cpu:.2f}", diff, len(many), f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"]
                    for what, n, (wall, cpu), diff in rows)
    print(path.read_text(), end="")

if __name__ == "__main__": main()
