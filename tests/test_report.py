"The paper's numbers agree with one another; records become the tables that other code would make of them."
import dataclasses, json, math, os, subprocess, sys, zlib
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import given, strategies as st
from corea.core import ROOT, CoreaError, load_profile
from corea.metrics import auroc, ece
from corea.report import (COMPARISONS, ITEMS, LINEAR, LLM, NAMED, PAPER_GROUPS, PAPER_SETS, RULES, SIGNALS, SYSTEMS, as_csv, claims, estimate,
                          load_records, measure, metrics_table, number, paper_numbers, paper_pool, paper_value, produce, promised, scoreboard,
                          study, table_1, verdict, wanted)

# the paper's numbers, among themselves

NUMBERS = paper_numbers()
value = lambda *key: paper_value(NUMBERS, *key)[0]
N = {c: value("data", "questions", c, "n") for c in PAPER_SETS}
IN_GROUP = {"DeepMath500": PAPER_SETS[:1], "OODMath": PAPER_SETS[1:4], "OODNon-Math": PAPER_SETS[4:]}
PAPER_SYSTEMS = [s.name for s in SYSTEMS if s.kind in ("standalone", "collaborative")]
table_of = lambda c: 5 + PAPER_SETS.index(c)

def test_ids_are_unique_and_all_tables_there():
    f = pd.read_csv(ROOT/"paper_figures"/"paper_numbers.csv", dtype=str)
    assert list(f.columns) == "id table row col metric value pm page_or_section".split()
    assert not f.id.duplicated().any() and not f.duplicated(["table", "row", "col", "metric"]).any()
    assert {str(t) for t in range(1, 16)} <= set(f.table) and f.value.astype(float).notna().all()

@pytest.mark.parametrize("system", PAPER_SYSTEMS)
def test_table_1_is_the_question_weighted_mean_of_tables_5_to_10(system):
    for group, sets in IN_GROUP.items():
        for metric, tolerance in (("pass1", .1), ("cost", 1.6), ("llm_share", .1)):
            mean = sum(N[c] * value(table_of(c), system, c, metric) for c in sets) / sum(N[c] for c in sets)
            assert abs(mean - value(1, system, group, metric)) <= tolerance + 1e-9, (system, group, metric)

@pytest.mark.parametrize("system", PAPER_SYSTEMS)
def test_total_cost_is_the_sum_of_its_parts(system):
    for c in PAPER_SETS:
        slm, llm, total = (value(table_of(c), system, c, m) for m in ("slm_cost", "llm_cost", "cost"))
        router = total - slm - llm  # what the router itself costs (paper.md 1.6)
        assert 80 <= router <= 246 if system.startswith("Router") else abs(router) <= 1

@pytest.mark.parametrize("system", [s.name for s in SYSTEMS if s.kind == "collaborative"])
def test_brackets_of_table_1_are_differences_to_the_llm(system):
    for group in IN_GROUP:
        of = lambda row, m: value(1, row, group, m)
        assert abs(of(system, "vs_llm") - (of(system, "pass1") - of(LLM, "pass1"))) <= .11
        assert abs(of(system, "cost_change") - 100 * (of(system, "cost") / of(LLM, "cost") - 1)) <= .06

def test_a_system_that_defers_uses_its_slm():
    for name, s in NAMED.items():
        if s.kind != "collaborative" or s.source == "router": continue
        alone = next(n for n, o in NAMED.items() if o.kind == "standalone" and o.method == s.method)
        for c in PAPER_SETS: assert value(table_of(c), name, c, "slm_cost") == value(table_of(c), alone, c, "slm_cost")

@pytest.mark.parametrize("table,row,detail", [(2, "SLM-Verb", "SLM"), (2, "RLVR-SLM-Verb", "RLVR"), (2, "Brier-SLM-Verb", "Brier"), (2, "L1-SLM-Verb", "L1"),
    *((3, r, r) for r in ("L1", "Sample_L1", "L2", "Brier", "KL", "Sample_KL"))])
def test_tables_2_and_3_pool_tables_12_and_13(table, row, detail):
    for metric, tolerance in (("pass1", .1), ("ece", .011), ("auroc", .011)):
        assert abs(paper_pool(NUMBERS, detail, metric, PAPER_SETS) - value(table, row, "all", metric)) <= tolerance

@pytest.mark.parametrize("rollouts", [4, 8, 16, 32])
def test_table_4_pools_tables_14_and_15(rollouts):
    for metric, tolerance in (("pass1", .1), ("ece", .011), ("auroc", .011)):
        parts = [value(14 if c in PAPER_SETS[:3] else 15, str(rollouts), c, metric) for c in PAPER_SETS]
        assert abs(np.average(parts, weights=list(N.values())) - value(4, str(rollouts), "all", metric)) <= tolerance

def test_thresholds_are_the_llms_accuracy_and_table_11_its_price():
    for c in PAPER_SETS: assert abs(value("data", "threshold", c, "tau") - value(table_of(c), LLM, c, "pass1") / 100) < 6e-4
    for g in IN_GROUP: assert abs(value(11, LLM, g, "cost") / value(1, LLM, g, "cost") - 7 / 1.5) < 1e-3

# records

CONFIG = load_profile("smoke", seeds=(0, 1))
DOMAIN = dict(zip(CONFIG.datasets, ["in_domain"] + ["ood_math"] * 3 + ["ood_nonmath"] * 2))

def answers(cfg, model, d, split, n):
    "Random answers; the same question is as hard for every model."
    rng, k = np.random.default_rng(zlib.crc32(f"{model}{d}{split}".encode())), cfg.samples
    p = np.repeat(np.random.default_rng(zlib.crc32(f"{d}{split}".encode())).random(n), k)
    right = rng.random(n * k) < (p**.4 if model == "llm" else p)
    said = np.where(rng.random(n * k) < .1, np.nan, np.round(np.clip(p + rng.normal(size=n * k) * .2, 0, 1), 1))
    f = pd.DataFrame(dict(split=split, dataset=d, domain=DOMAIN[d], question_id=np.repeat([f"{d}-{i:03}" for i in range(n)], k),
        sample=np.tile(range(k), n), correct=right.astype(int), confidence=said, expected_confidence=said * .9, avg_prob=p, probe=np.nan, router=np.nan,
        parse_status="ok", prompt_tokens=rng.integers(5, 20, n * k), completion_tokens=rng.integers(10, 40, n * k),
        router_prompt_tokens=np.nan, router_completion_tokens=np.nan, answer="1"))
    return f.assign(probe=p, router=np.repeat(p[::k], k), router_prompt_tokens=9, router_completion_tokens=1) if model.startswith("rlvr") else f

def write_records(folder, cfg=CONFIG):
    folder.mkdir(parents=True)
    for m in ["base", "llm", *(f"{m}-s{s}" for m in cfg.methods for s in cfg.seeds), *(f"control-s{s}" for s in cfg.control_seeds)]:
        f = pd.concat([answers(cfg, m, d, sp, n) for sp, n in (("calibration", cfg.n_calibration), ("test", cfg.n_test)) for d in cfg.datasets])
        f.to_csv(folder/f"{m}.csv.gz", index=False)
        if m == "llm" or m.startswith("control"): continue
        first = f[(f.split == "test") & (f.dataset == cfg.train_set)].iloc[:cfg.snapshot_questions * cfg.samples]
        pd.concat([first.assign(step=s) for s in ([0] if m == "base" else cfg.snapshots)]).to_csv(folder/f"steps_{m}.csv.gz", index=False)
        if m != "base":
            log = dict(step=range(1, cfg.steps + 1), reward_correctness=.5, reward_format=1., reward_confidence=-.2)
            pd.DataFrame(log).to_csv(folder/f"train_{m}.csv", index=False)
    (folder/"run.json").write_text(json.dumps(dict(profile=cfg.profile, config=dataclasses.asdict(cfg), seconds=60, run="x", provenance={})))
    return folder

@pytest.fixture(scope="module")
def folder(tmp_path_factory): return write_records(tmp_path_factory.mktemp("report")/"records")

@pytest.fixture(scope="module")
def opened(folder): return study(load_records(folder), 200)

def broken(folder, tmp_path, **change):
    "A copy of the records with some files replaced; None removes one."
    for p in folder.iterdir():
        if p.name not in change: (tmp_path/p.name).write_bytes(p.read_bytes())
    for name, content in change.items():
        if content is not None: (tmp_path/name).write_bytes(content)
    return tmp_path

def recoded(frame):
    import gzip
    return gzip.compress(frame.to_csv(index=False).encode())

@pytest.mark.parametrize("name,change,message", [
    ("run.json", lambda p: None, "no records"),
    ("llm.csv.gz", lambda p: p.read_bytes()[:999], "cannot be read"),
    ("l1-s1.csv.gz", lambda p: None, "no calibration answers of l1-s1"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).drop(columns="avg_prob")), "no column 'avg_prob'"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).iloc[:-1]), "l1-s1 has"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).assign(correct=2)), "`correct` must be 0 or 1"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).assign(confidence=1.5)), "`confidence` in"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).assign(question_id=lambda f: f.question_id + "x")), "answer different"),
])
def test_unusable_records_get_one_clear_line(folder, tmp_path, name, change, message):
    with pytest.raises(CoreaError, match=message) as e: load_records(broken(folder, tmp_path, **{name: change(folder/name)}))
    assert "\n" not in str(e.value)

def test_records_of_another_profile_are_refused(folder):
    with pytest.raises(CoreaError, match="profile 'smoke', not of 'laptop'"): load_records(folder, "laptop")

def test_a_cascade_is_what_a_loop_makes_of_it(folder, opened):
    read = lambda m: pd.read_csv(folder/f"{m}.csv.gz").query("split == 'test'").sort_values(["dataset", "question_id", "sample"])
    for name, source, method in (("COREA", "confidence", "l1"), ("RLVR-SLM-Probe", "probe", "rlvr"), ("Router+RLVR-SLM", "router", "rlvr")):
        for d in CONFIG.datasets:
            llm, per_seed = read("llm").query("dataset == @d"), []
            tau = llm.correct.mean()
            for s in CONFIG.seeds:
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
    direct = [ece(f.confidence, f.correct) for f in (opened.records.cells[f"l1-s{s}", "test", "word"] for s in CONFIG.seeds)]
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

def test_the_chord_is_never_below_both_models(opened):
    for d in CONFIG.datasets:
        gap = measure(opened, "Two-model chord", d, "vs_chord", "paper")[0]
        assert np.allclose(gap[measure(opened, "COREA", d, "cost", "paper")[0] <= measure(opened, LLM, d, "cost")[0]], 0)

def test_metrics_are_tidy_and_complete(opened):
    f = metrics_table(opened)
    assert list(f.columns) == "system dataset group metric value ci_low ci_high n seed".split()
    assert not f.duplicated(["system", "dataset", "group", "metric", "seed"]).any()
    assert {f"{m}@{r}" for r in RULES for m in (*LINEAR, *COMPARISONS)} | set(SIGNALS) <= set(f[f.system == "COREA"].metric)
    ok = f.dropna(subset=["value", "ci_low", "ci_high"])
    assert ((ok.ci_low <= ok.value + 1e-12) & (ok.value <= ok.ci_high + 1e-12)).all()
    row = f[(f.system == "COREA") & (f.dataset == "cups") & (f.metric == "auroc") & (f.seed == 1)].iloc[0]
    cell = opened.records.cells["l1-s1", "test", "cups"]
    assert math.isclose(row.value, auroc(cell.confidence, cell.correct)) and row.n == CONFIG.n_test

def test_table_1_has_the_papers_rows_and_numbers(opened):
    f, text = table_1(opened)
    assert set(f[f.threshold == "alone"].system) | set(f[f.threshold == "paper"].system) == set(PAPER_SYSTEMS)
    for r in f[f.threshold.isin(["alone", "paper"])].itertuples():
        assert f.loc[r.Index, "ood_math.cost.paper"] == value(1, r.system, "OODMath", "cost")
    assert f[~f.system.isin(PAPER_SYSTEMS)].filter(like=".paper").isna().all(axis=None)
    assert all(f"| {s} |" in text for s in PAPER_SYSTEMS)

def test_scoreboard_has_a_verdict_for_every_claim_and_no_size_in_a_miniature(opened):
    f = scoreboard(opened)
    assert list(f.columns)[:9] == "claim_id claim paper ours ci_low ci_high n seeds verdict".split()
    assert not f.claim_id.duplicated().any() and len(f) == len(claims(opened))
    assert set(f.verdict) <= {"direction holds", "not reproduced", "not run"}
    idle = f.verdict == "not run"
    assert f[idle].ours.isna().all() and f[idle].rule.str.len().gt(0).all() and f[~idle].ours.notna().all()
    for r in f[~idle & (f.rule == "interval above 0")].itertuples(): assert (r.verdict == "direction holds") == (r.ci_low > 0)

finite = st.floats(-100, 100)

@given(st.tuples(finite, finite, finite).map(sorted), finite, st.sampled_from(["points", "%", ""]),
       st.sampled_from(["below", "above", "at most", "at least"]), finite)
def test_verdict_rules(three, paper, unit, test, bound):
    lo, v, hi = three
    e = dict(value=v, ci_low=lo, ci_high=hi)
    small, full = (verdict(e, paper, unit, test, bound, m) for m in (True, False))
    assert small != "reproduced" and (lo <= paper <= hi) <= (full == "reproduced")
    assert (small == "direction holds") == {"below": hi < bound, "above": lo > bound, "at most": v <= bound, "at least": v >= bound}[test]
    assert full in ("reproduced", small)

def test_what_is_undefined_is_never_a_success():
    nan = float("nan")
    e = dict(value=nan, ci_low=nan, ci_high=nan)
    assert {verdict(e, nan, "", t, 0, m) for t in ("below", "above", "at most", "at least") for m in (True, False)} == {"not reproduced"}

@pytest.mark.parametrize("only,ids", [([], ITEMS), ("", ITEMS), ("table_01,figure_02", ["table_01", "figure_02"]), (["toys"], ["toys"])])
def test_only(only, ids): assert wanted(only) == ids

def test_only_refuses_what_does_not_exist():
    with pytest.raises(CoreaError, match="'table_3'"): wanted("table_01, table_3")

def test_numbers_as_text():
    assert [number(x, 1, True) for x in (1.25, -1.25, 0.0, -0.01)] == ["+1.2", "−1.2", "+0.0", "+0.0"]
    assert as_csv(pd.DataFrame(dict(a=[1 / 3]))) == "a\n0.333333\n"

# the notebook

def redraw(folder, tmp_path, *parameters):
    "10_results through papermill, from another folder, on records that are not the project's."
    root = tmp_path/"root"
    (root/"paper_figures"/"smoke").mkdir(parents=True)
    (root/"paper_figures"/"paper_numbers.csv").write_bytes((ROOT/"paper_figures"/"paper_numbers.csv").read_bytes())
    (root/"paper_figures"/"smoke"/"records").symlink_to(folder)
    cmd = [sys.executable, "-m", "papermill", str(ROOT/"nbs"/"10_results.ipynb"), "out.ipynb", "-k", "python3", "--no-progress-bar",
           "-p", "profile", "smoke", "-p", "redraw", "True", "-p", "n_boot", "50", *parameters]
    return subprocess.run(cmd, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"COREA_ROOT": str(root)}), root/"paper_figures"/"smoke"

def test_results_writes_all_that_it_promises(folder, tmp_path):
    r, out = redraw(folder, tmp_path)
    assert r.returncode == 0, r.stderr[-2000:]
    assert all(p.stat().st_size > 0 for p in promised(out))
    assert sorted(p for d in ("tables", "figures") for p in (out/d).iterdir()) == sorted(promised(out))

def test_results_refuses_an_unknown_id(folder, tmp_path):
    r, out = redraw(folder, tmp_path, "-p", "only", "table_99")
    assert r.returncode and "CoreaError: no table or figure 'table_99'" in r.stderr and not (out/"tables").exists()

def test_the_same_records_give_the_same_bytes(folder, opened, tmp_path):
    again = study(load_records(folder), 200)
    for item in ("table_09", "figure_02", "histograms"):
        files = [[p.read_bytes() for p in promised(tmp_path/k, item) if produce(s, item, tmp_path/k)] for k, s in (("a", opened), ("b", again))]
        assert files[0] == files[1] and files[0]

def test_a_cascade_that_defers_everything_keeps_no_promise(folder, opened):
    "Its Pass@1 is the LLM's, at a higher price: the drop alone must not count."
    f = scoreboard(opened).set_index("claim_id")
    for drop, cost in (("corea_pass1", "corea_cost"), ("bar_drop", "bar_cost")):
        for g in ("in_domain", "ood_math"):
            if f.verdict[f"{cost}_{g}"] == "not reproduced": assert f.verdict[f"{drop}_{g}"] == "not reproduced"
            assert f"needs {cost}_{g}" in f.rule[f"{drop}_{g}"]
