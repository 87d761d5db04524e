"A cascade is what a loop makes of it; groups, intervals and comparisons are what other code says."
import math
from dataclasses import replace
import numpy as np, pandas as pd
from corea.cascade import Price
from corea.metrics import auroc, average, benefit_auroc, ece, gain_over_chord
from corea.lab.records import LLM, SYSTEMS
from corea.lab.study import COMPARISONS, LINEAR, PAIRED, RULES, SIGNALS, costs, draws, estimate, measure, metrics_table

def test_a_cascade_is_what_a_loop_makes_of_it(folder, opened):
    read = lambda m: pd.read_csv(folder/f"{m}.csv.gz").query("split == 'test'").sort_values(["dataset", "question_id", "sample"])
    for name, source, method in (("COREA", "confidence", "l1"), ("RLVR-SLM-Probe", "probe", "rlvr"), ("Router+RLVR-SLM", "router", "rlvr")):
        for d in opened.cfg.datasets:
            llm, per_seed = read("llm").query("dataset == @d"), []
            tau = llm.correct.mean()
            for s in opened.cfg.seeds:
                right = cost = 0
                slm = read(f"{method}-s{s}").query("dataset == @d")
                for a, b in zip(slm.to_dict("records"), llm.to_dict("records")):
                    keep = a[source] >= tau
                    right += (a if keep else b)["correct"]
                    first, large = a["prompt_tokens"] + 4 * a["completion_tokens"], 32 / 7 * (b["prompt_tokens"] + 4 * b["completion_tokens"])
                    if source == "router": cost += 9 + 4 + (first if keep else large)
                    else: cost += first + (0 if keep else large)
                per_seed.append((right / len(slm), cost / len(slm)))
            got = [measure(opened, name, d, m, "paper")[0] for m in ("pass1", "cost")]
            np.testing.assert_allclose(np.array(got).T, per_seed)

def test_groups_are_question_weighted_and_seeds_are_averaged(opened):
    parts = [measure(opened, "COREA", d, "ece") for d in ("word", "even", "clock")]
    np.testing.assert_allclose(measure(opened, "COREA", "ood_math", "ece"), np.mean(parts, 0))
    direct = [ece(f.confidence, f.correct) for f in (opened.records.cells[f"l1-s{s}", "test", "word"] for s in opened.cfg.seeds)]
    e = estimate(measure(opened, "COREA", "word", "ece"))
    assert math.isclose(e["value"], np.mean(direct)) and math.isclose(e["seed_sd"], np.std(direct, ddof=1)) and e["seeds"] == 2

def test_bootstrap_is_paired_and_differs_between_data_sets(opened):
    assert np.all(measure(opened, "COREA", "calc", "slm_pass1") == measure(opened, "COREA-Expected", "calc", "slm_pass1"))
    assert np.allclose(measure(opened, "Random deferral", "calc", "vs_random"), 0)
    a, b = (measure(opened, LLM, d, "pass1")[1:, 0] for d in ("calc", "word"))
    assert abs(np.corrcoef(a, b)[0, 1]) < .3
    alone = measure(opened, LLM, "calc", "pass1")[1:].std()
    mean = opened.records.cells["llm", "test", "calc"].groupby("question_id").correct.mean()
    assert math.isclose(alone, mean.std(ddof=0) / len(mean)**.5, rel_tol=.2)

def gathered(st, dataset):
    "What `corea.lab.study.gather` leaves in a study's memory, each from the function of `corea.metrics`: (system, data set, metric, rule) -> values."
    w, price, out = np.repeat(draws(st, dataset), st.cfg.samples, axis=1), Price(st.cfg.slm_size, st.cfg.llm_size), {}
    for (name, rule, _, d), f in st.frames.items():
        if d == dataset:
            for m, column in LINEAR.items(): out.setdefault((name, d, m, rule), []).append(average(f[column], w))
    llm = st.records.cells["llm", "test", dataset]
    for s in SYSTEMS:
        for _, model in st.records.seeds(s.method) if s.source and s.kind != "reference" else ():
            f = st.records.cells[model, "test", dataset]
            own, large, asked, spared = costs(f, llm, s.source, price)
            found = {m: fn(f[s.source], f.correct, weights=w) for m, fn in SIGNALS.items()}
            found |= dict(benefit_auroc=benefit_auroc(f[s.source], f.correct, llm.correct, w),
                          gain_chord=gain_over_chord(f[s.source], f.correct, llm.correct, own, large, w, asked, spared))
            for m, x in found.items(): out.setdefault((s.name, dataset, m, "alone"), []).append(x)
    return {k: np.stack(x, -1) for k, x in out.items()}

def test_a_data_set_measured_at_one_go_is_every_metric_by_itself(opened):
    for d in opened.cfg.datasets:
        plain = gathered(opened, d)
        assert {(n, m) for n, _, m, _ in plain} >= {("COREA", m) for m in (*LINEAR, *SIGNALS, *PAIRED)} | {(LLM, m) for m in LINEAR}
        for (name, _, metric, rule), x in plain.items():
            np.testing.assert_allclose(measure(opened, name, d, metric, rule), x, rtol=1e-9, atol=1e-12, err_msg=f"{name} {metric}")

def test_the_chord_is_never_below_both_models(opened):
    for d in opened.cfg.datasets:
        gap = measure(opened, "Two-model chord", d, "vs_chord", "paper")[0]
        assert np.allclose(gap[measure(opened, "COREA", d, "cost", "paper")[0] <= measure(opened, LLM, d, "cost")[0]], 0)

def test_metrics_are_tidy_and_complete(opened):
    f = metrics_table(opened)
    assert list(f.columns) == "system dataset group metric value ci_low ci_high n seed".split()
    assert not f.duplicated(["system", "dataset", "group", "metric", "seed"]).any()
    assert {f"{m}@{r}" for r in RULES for m in (*LINEAR, *COMPARISONS)} | set(SIGNALS) <= set(f[f.system == "COREA"].metric)
    ok = f.dropna(subset=["value", "ci_low", "ci_high"])
    assert ((ok.ci_low <= ok.value + 1e-12) & (ok.value <= ok.ci_high + 1e-12)).all()
    row = f[(f.system == "COREA") & (f.dataset == "queue") & (f.metric == "auroc") & (f.seed == 1)].iloc[0]
    cell = opened.records.cells["l1-s1", "test", "queue"]
    assert math.isclose(row.value, auroc(cell.confidence, cell.correct)) and row.n == opened.cfg.n_test

def test_a_row_is_the_estimate_of_its_own_measurement(opened):
    f = metrics_table(replace(opened, memo={}))
    for row in f[f.seed == "mean"].itertuples():
        metric, _, rule = row.metric.partition("@")
        e = estimate(measure(opened, row.system, row.dataset or row.group, metric, rule or "alone"))
        np.testing.assert_allclose([row.value, row.ci_low, row.ci_high], [e[k] for k in ("value", "ci_low", "ci_high")], rtol=1e-9, atol=1e-12)
