"""Does an interval of 95 % hold the true value 95 times in a hundred? Simulated, for the interval of everything drawn again and for the smaller one.

Writes benchmarks/results/coverage.csv: for each system, group of families, number and interval, the share of trials whose interval holds the true value and
its mean width in percent or points. The committed laptop run is the world: its 800 questions a family, calibration and test together, and six trainings of
each method. A trial draws from it, with replacement, as many calibration and test questions as a run has, and three trainings; fits the threshold;
and asks the functions of 09b_study for both intervals. The true value is the mean over many such draws, all trainings counted alike. Comparisons are taken
family by family and averaged, as in the report.

    python benchmarks/coverage.py [TRIALS] [REPLICATES]         # 500 trials of 200 replicates: a quarter of an hour
"""
import csv, sys
from pathlib import Path
import numpy as np, pandas as pd
from corea.cascade import Price
from corea.core import FIGURES
from corea.lab.records import GROUPS, NAMED, config_of, read_run
from corea.lab.study import cascade_sums, over_trainings, refitted
from corea.metrics import chord, interval, random_deferral

RECORDS, SEEDS, TRAININGS = FIGURES/"laptop"/"records", (1, 2, 3, 4, 5, 6), 3
SYSTEMS = ("COREA", "RLVR-SLM-Expected")
METRICS = dict(cost_change="%", vs_llm="points", vs_chord="points", vs_random="points")

class World:
    "All questions of the committed run with the answers of six trainings, family by family."
    def __init__(self):
        self.cfg = config_of(read_run(RECORDS))
        self.price, self.samples = Price(self.cfg.slm_size, self.cfg.llm_size), self.cfg.samples
        tables = {m: pd.read_csv(RECORDS/f"{m}.csv.gz") for m in ["llm", *(f"{k}-s{s}" for k in ("l1", "rlvr") for s in SEEDS)]}
        self.cells = {(m, d): f for m, table in tables.items() for d, f in table.groupby("dataset")}
        domain = {d: self.cells["llm", d].domain.iloc[0] for d in self.cfg.datasets}
        self.groups = {g: [d for d in self.cfg.datasets if domain[d] == g] for g in GROUPS}
        self.questions = {d: len(self.cells["llm", d]) // self.samples for d in self.cfg.datasets}

    def run(self, name, calibration, test, seeds):
        "(group, metric) -> (replicates, trainings): what a run with these weights, family -> (replicates, questions), reports."
        kind, source, parts = NAMED[name].method, NAMED[name].source, {}
        for d in self.cfg.datasets:
            cal, new = (np.repeat(w[d], self.samples, axis=1) for w in (calibration, test))
            llm, size = self.cells["llm", d], new.sum(1)
            alone = {m: new @ np.asarray(x, float) / size for m, x in (("cost", self.price.llm(llm.prompt_tokens, llm.completion_tokens)), ("pass1", llm.correct))}
            for i, s in enumerate(seeds):
                slm, rlvr = self.cells[f"{kind}-s{s}", d], self.cells[f"rlvr-s{s}", d]
                x = cascade_sums(slm, llm, source, refitted(slm[source], slm.correct, llm.correct, cal, self.cfg.max_drop), new, self.price)
                small = [new @ np.asarray(y, float) / size for y in (self.price.slm(rlvr.prompt_tokens, rlvr.completion_tokens), rlvr.correct)]
                large = alone["cost"], alone["pass1"]
                parts[d, i] = dict(cost=x["cost"], pass1=x["pass1"], llm_cost=large[0], llm_pass1=large[1],
                                   vs_chord=x["pass1"] - chord(x["cost"], small, large),
                                   vs_random=x["pass1"] - random_deferral(x["llm_share"], x["slm_pass1"], large[1]))
        out = {}
        for g, sets in self.groups.items():
            mean = [{m: np.mean([parts[d, i][m] for d in sets], 0) for m in parts[sets[0], i]} for i in range(len(seeds))]
            found = [dict(cost_change=100 * (x["cost"] / x["llm_cost"] - 1), vs_llm=100 * (x["pass1"] - x["llm_pass1"]), vs_chord=100 * x["vs_chord"], vs_random=100 * x["vs_random"]) for x in mean]
            out |= {(g, m): np.stack([x[m] for x in found], -1) for m in METRICS}
        return out

    def drawn(self, rng, n, times):
        "Family -> (times, questions): how often each was drawn among n."
        return {d: rng.multinomial(n, np.full(q, 1 / q), size=times) for d, q in self.questions.items()}

def again(rng, weights, times):
    "The sample itself, then samples of the same size drawn from it."
    return {d: np.vstack([w, rng.multinomial(w.sum(), w[0] / w.sum(), size=times)]) for d, w in weights.items()}

def main(trials=500, replicates=200):
    world, rng, rows = World(), np.random.default_rng(0), []
    n_cal, n_test = world.cfg.n_calibration, world.cfg.n_test
    for name in SYSTEMS:
        truth = {k: x.mean() for k, x in world.run(name, world.drawn(rng, n_cal, 2000), world.drawn(rng, n_test, 2000), SEEDS).items()}
        held, width = ({(kind, *k): [] for kind in ("everything drawn again", "this very cascade") for k in truth} for _ in range(2))
        for t in range(trials):
            seeds = rng.choice(SEEDS, TRAININGS)
            calibration, test = (again(rng, world.drawn(rng, n, 1), replicates) for n in (n_cal, n_test))
            given = {d: np.repeat(w[:1], len(w), axis=0) for d, w in calibration.items()}
            for kind, cal in (("everything drawn again", calibration), ("this very cascade", given)):
                for k, x in world.run(name, cal, test, seeds).items():
                    reps = over_trainings(x) if kind.startswith("every") else x.mean(1)
                    low, high = interval(reps[0], reps[1:])
                    held[kind, *k].append(low <= truth[k] <= high)
                    width[kind, *k].append(high - low)
            if (t + 1) % 50 == 0: print(f"{name}: {t + 1} of {trials}", flush=True)
        rows += [(name, *k[1:], k[0], f"{truth[k[1:]]:.2f}", f"{np.mean(h):.3f}", f"{np.mean(width[k]):.2f}", METRICS[k[2]], trials, replicates) for k, h in held.items()]
    path = Path(__file__).with_name("results")/"coverage.csv"
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow("system group metric interval truth coverage width unit trials replicates".split())
        w.writerows(rows)
    print(path.read_text())

if __name__ == "__main__": main(*map(int, sys.argv[1:]))
