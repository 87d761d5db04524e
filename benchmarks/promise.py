"""How often the promise of `corea calibrate` is broken: a loss of at most alpha with probability 1 - delta, on every recorded pair there is.

Writes benchmarks/results/promise.csv, a row for each pair and each promise. All questions of a pair (of a run: those of calibration) are the world. From it calibration
questions are drawn TIMES times, each time score and threshold are chosen anew, as `calibrate` chooses them, and what they lose in the world is
known. `violations` is the share of draws that lose more than alpha, `upper` its 95 % upper bound (Clopper and Pearson), `kept` the share of
draws that keep any answer of the small model, `deferred` what they then defer on average. Pairs: the models of the committed runs, with three
scores each, and, where COREA_DATA or the hub has them, the published pairs of 12a_pairs.

    python benchmarks/promise.py [TIMES]
"""
import csv, sys
from pathlib import Path
import numpy as np
from scipy.stats import beta
from corea.cascade import TAUS, Price
from corea.core import FIGURES, CoreaError
from corea.extra.pairs import chat_pairs, solver_pairs
from corea.extra.policy import SCORES, Rule, Table, of_run
from corea.lab.records import load_records
from corea.thresholds import losses, p_values, walk

PROMISES = (.03, .1, 1000), (.01, .05, 2000)     # alpha, delta, calibration questions
COLUMNS = ["records", "small", "large", "questions", "alpha", "delta", "n", "times", "violations", "upper", "kept", "deferred"]

def by_question(t, values):
    "Means over the rows of each question."
    _, q = np.unique(t.questions, return_inverse=True)
    out = np.zeros((q.max() + 1, values.shape[1]))
    np.add.at(out, q, values)
    return out / np.bincount(q)[:, None]

def rehearsed(t, rule, scores, n, times=1000, seed=0):
    "(loss in the world, share deferred there, the score chosen, its threshold), each (times,): what `chosen_score` would choose, draw by draw."
    known = [s for s in scores if not np.isnan(t.score(s)).all()]
    q = len(set(t.questions))
    w = np.random.default_rng(seed).multinomial(n, np.full(q, 1 / q), size=times)
    found = []
    for s in known:
        x = losses(t.score(s), t.correct["slm"], t.correct["llm"], t.ids, TAUS)
        deferred = ~(t.score(s)[:, None] >= TAUS)
        cost = by_question(t, t.cost["slm"][:, None] + deferred * t.cost["llm"][:, None])
        tau = walk(p_values(x, rule.target_drop, weights=w) <= rule.delta / len(scores))
        # TOP, if it keeps none of those drawn
        none = (w @ by_question(t, ~deferred))[np.arange(times), tau] == 0
        tau = np.where(none, len(TAUS) - 1, tau)
        found.append((np.einsum("rq,qr->r", w, cost[:, tau]) / n, x.mean(0)[tau], by_question(t, deferred).mean(0)[tau], tau))
    best = np.argmin([cost for cost, *_ in found], 0)
    pick = lambda k: np.array([f[k] for f in found])[best, np.arange(times)]
    return pick(1), pick(2), np.array(known)[best], TAUS[pick(3)]

def runs():
    "The pairs of the committed runs: each model with the large one."
    for name in ("laptop", "laptop-full"):
        run = load_records(FIGURES/name/"records")
        for model in sorted({m for m, *_ in run.cells} - {"llm"}): yield name, model, "llm", of_run(run, model, "llm", Price())

def published():
    "Pairs of 12a_pairs, whose confidence is one score."
    for source, pairs in (("first prompt", lambda: chat_pairs("first")), ("second prompt", lambda: chat_pairs("second")), ("solvers", solver_pairs)):
        try: some = pairs()
        except CoreaError as e:
            print(f"left out: {e}", file=sys.stderr)
            continue
        for (small, large, on), f in some.items():
            if not f.score.between(0, 1).all(): continue
            column = lambda k: f[k].to_numpy(float)
            yield (f"{source}, {on}", small, large, Table({s: column("score") if s == "stated" else np.full(len(f), np.nan) for s in SCORES},
                   dict(slm=column("slm_correct"), llm=column("llm_correct")), dict(slm=column("slm_cost"), llm=column("llm_cost"))))

def main(times=1000):
    table = []
    for records, small, large, t in (*runs(), *published()):
        scores = SCORES if "prompt" not in records and records != "solvers" else ("stated",)
        for alpha, delta, n in PROMISES:
            loss, deferred, _, tau = rehearsed(t, Rule(alpha, delta), scores, n, times)
            bad, kept = int((loss > alpha).sum()), deferred < 1
            table.append(dict(records=records, small=small, large=large, questions=len(set(t.questions)), alpha=alpha, delta=delta, n=n, times=times,
                              violations=bad / times, upper=float(beta.ppf(.95, bad + 1, times - bad)) if bad < times else 1., kept=kept.mean(),
                              deferred=deferred[kept].mean() if kept.any() else np.nan))
            print(*(f"{v:.3g}" if isinstance(v, float) else v for v in table[-1].values()), flush=True)
    path = Path(__file__).with_name("results")/"promise.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        w.writeheader()
        w.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in table)
    worst = max(table, key=lambda r: r["violations"] / r["delta"])
    print(f"{len(table)} promises, at worst broken in {worst['violations']:.1%} of {times} draws ({worst['records']}, {worst['small']}, delta {worst['delta']})")
    assert all(r["violations"] <= r["delta"] for r in table)

if __name__ == "__main__": main(*map(int, sys.argv[1:]))
