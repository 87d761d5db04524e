"The paper's numbers agree with one another; records that cannot be used are refused in one line."
import gzip, json
import numpy as np, pandas as pd, pytest
from corea.core import FIGURES, FILES, CoreaError, load_profile
from corea.data import DATASETS
from corea.lab.records import LLM, NAMED, PAPER_SETS, SYSTEMS, load_records, made_up_records, paper_numbers, paper_pool, paper_value, whole

# the paper's numbers, among themselves

NUMBERS = paper_numbers()
value = lambda *key: paper_value(NUMBERS, *key)[0]
N = {c: value("data", "questions", c, "n") for c in PAPER_SETS}
IN_GROUP = {"DeepMath500": PAPER_SETS[:1], "OODMath": PAPER_SETS[1:4], "OODNon-Math": PAPER_SETS[4:]}
PAPER_SYSTEMS = [s.name for s in SYSTEMS if s.kind in ("standalone", "collaborative")]
table_of = lambda c: 5 + PAPER_SETS.index(c)

def test_ids_are_unique_and_all_tables_there():
    f = pd.read_csv(FILES/"paper_numbers.csv", dtype=str)
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

def broken(folder, tmp_path, **change):
    "A copy of the records with some files replaced; None removes one."
    for p in folder.iterdir():
        if p.name not in change: (tmp_path/p.name).write_bytes(p.read_bytes())
    for name, content in change.items():
        if content is not None: (tmp_path/name).write_bytes(content)
    return tmp_path

def recoded(frame): return gzip.compress(frame.to_csv(index=False).encode())

@pytest.mark.parametrize("name,change,message", [
    ("run.json", lambda p: None, "no records"),
    ("run.json", lambda p: p.read_bytes()[:99], "run.json cannot be read"),
    ("train_l1-s1.csv", lambda p: b"", "train_l1-s1.csv cannot be read"),
    ("llm.csv.gz", lambda p: p.read_bytes()[:999], "cannot be read"),
    ("l1-s1.csv.gz", lambda p: None, "no calibration answers of l1-s1"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).drop(columns="avg_prob")), "no column 'avg_prob'"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).iloc[:-1]), "l1-s1 has"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).assign(correct=2)), r"l1-s1.csv.gz, row 2: correct is 2.0, not from 0 to 1: run the profile again"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).assign(confidence=1.5)), "row 2: confidence is 1.5, not from 0 to 1"),
    ("l1-s1.csv.gz", lambda p: recoded(pd.read_csv(p).assign(question_id=lambda f: f.question_id + "x")), "answer different"),
])
def test_unusable_records_get_one_clear_line(folder, tmp_path, name, change, message):
    with pytest.raises(CoreaError, match=message) as e: load_records(broken(folder, tmp_path, **{name: change(folder/name)}))
    assert "\n" not in str(e.value)

def test_records_of_another_profile_are_refused(folder):
    with pytest.raises(CoreaError, match="profile 'smoke', not of 'laptop'"): load_records(folder, "laptop")

def test_made_up_records_never_replace_others(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(CoreaError, match="is not empty"): made_up_records(folder, load_records(folder).cfg)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before and load_records(folder).run["run"] == "made up"

@pytest.mark.parametrize("profile", ["laptop", "smoke"])
def test_what_is_committed_was_run_on_these_questions(profile):
    run = json.loads((FIGURES/profile/"records"/"run.json").read_text())
    assert run["data"] == {d: s.revision for d, s in DATASETS.items()}

@pytest.mark.parametrize("profile", ["laptop", "laptop-full"])
def test_what_is_committed_counts_as_there(profile, tmp_path):
    committed = FIGURES/profile/"records"
    assert whole(load_profile(profile), committed) and whole(load_profile(profile, workers=7, max_drop=.5), committed)
    assert not whole(load_profile(profile, lr=1e-3), committed) and not whole(load_profile(profile), tmp_path)

def test_what_is_torn_or_made_up_or_of_other_questions_does_not(folder, tmp_path):
    cfg = load_records(folder).cfg
    assert not whole(cfg, folder)
    run = json.loads((folder/"run.json").read_text())
    data = {d: DATASETS[d].revision for d in cfg.datasets}
    told = lambda **change: dict([("run.json", json.dumps(run | dict(data=data) | change).encode())])
    for i, (right, change) in enumerate([(True, told()), (False, told() | {"llm.csv.gz": b""}), (False, told(data=data | {"calc": "0"}))]):
        (tmp_path/str(i)).mkdir()
        assert bool(whole(cfg, broken(folder, tmp_path/str(i), **change))) == right, i

def test_a_method_may_have_an_underscore(tmp_path):
    cfg = load_profile("smoke", methods=("l1", "sample_l1", "loo_l2"))
    r = load_records(made_up_records(tmp_path, cfg))
    assert {m for m, *_ in r.cells} == {"llm", "base", "control-s0", "l1-s0", "sample_l1-s0", "loo_l2-s0"}
    assert r.steps.keys() == {"base", "l1-s0", "sample_l1-s0", "loo_l2-s0"} and r.train.keys() == {"l1-s0", "sample_l1-s0", "loo_l2-s0"}
    assert r.seeds("sample_l1") == [(0, "sample_l1-s0")]
