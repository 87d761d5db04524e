"The report is drawn for whatever data sets a run has, in whatever order, and without whatever it did not run."
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from matplotlib.figure import Figure
import corea.published, corea.zero_shot     # so that what they register is known before
from corea import data
from corea.cascade import Price
from corea.core import load_profile
from corea.data import DATASETS, register
from corea.lab.records import PAPER_SETS, load_records, made_up_records, paper_value, stand_ins
from corea.lab.report import ITEMS, produce, promised, sentence, set_items, wanted, what_ran
from corea.lab.study import measure, study
from corea.lab.verdicts import scoreboard

SEVEN = dict(arithmetic=("in_domain", ""), grade=("ood_math", "GSM8K"), aqua=("ood_math", ""),
             commonsense=("ood_nonmath", "CommonsenseQA"), strategy=("ood_nonmath", None),
             coin_flip=("ood_nonmath", ""), shuffled_objects=("ood_nonmath", "none"))
REAL = dict(control_seeds=(), seeds=(1,), slm_size=.135, llm_size=175, train_set="arithmetic", snapshots=(),
            methods=("rlvr", "l1", "brier", "l2"),
            datasets=("shuffled_objects", "commonsense", "arithmetic", "grade", "strategy", "aqua", "coin_flip"))

@pytest.fixture(scope="module", autouse=True)
def sets():
    "Sets that are known by name only, for the time of this file; two stand for sets of the paper."
    known = dict(data._registered)
    for name, (domain, paper) in SEVEN.items():
        register(SimpleNamespace(name=name, domain=domain, kind="exact", paper=paper, revision="1", rows=lambda split: []))
    yield
    data._registered.clear()
    data._registered.update(known)

@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    "A figure is drawn as SVG alone: the same shapes as in the PNG, in half the time."
    whole = Figure.savefig
    def savefig(self, path, *, format, **kw): whole(self, path, format=format, **kw) if format == "svg" else path.write(b"as the SVG")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Figure, "savefig", savefig)
        yield

def study_of(folder, cfg, quiet=()):
    "A study of made-up records, in which the models that `quiet` names state nothing, and the LLM answers the same each time."
    made_up_records(folder, cfg)
    for name in quiet:
        f = pd.read_csv(folder/f"{name}.csv.gz", dtype={"question_id": str})
        f[["confidence", "expected_confidence", "avg_prob"]] = np.nan
        if name == "llm":
            told = ["answer", "correct", "prompt_tokens", "completion_tokens"]
            first = f.groupby(["split", "dataset", "question_id"])[told].transform("first")
            f[first.columns] = first
        f.to_csv(folder/f"{name}.csv.gz", index=False)
    return study(load_records(folder), 30)

def drawn(st, out):
    "All that a report promises, with its words: id -> Markdown."
    for item in wanted([], st.cfg): produce(st, item, out)
    paths = promised(out, [], st.cfg)
    assert all(p.stat().st_size > 0 for p in paths)
    assert {p for d in ("tables", "figures") for p in (out/d).iterdir()} == set(paths)
    said = {item: sentence(st, item) for item in wanted([], st.cfg)}
    assert not [i for i, s in said.items() if "nan" in s.split() or "None" in s]
    return {p.stem: p.read_text() for p in paths if p.suffix == ".md"}

def table(out, item): return pd.read_csv(out/"tables"/f"{item}.csv")

@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seven")
    st = study_of(folder/"records", load_profile("smoke", **REAL), quiet=("llm", "base"))
    return SimpleNamespace(st=st, out=folder, text=drawn(st, folder/"out"))

def test_seven_sets_of_which_two_stand_for_the_papers(real):
    assert stand_ins(real.st.cfg) == dict(GSM8K="grade", CommonsenseQA="commonsense")
    apart = ("arithmetic", "aqua", "coin_flip", "shuffled_objects", "strategy")
    assert list(set_items(real.st.cfg)) == [f"set_{d}" for d in apart]
    for k, p in enumerate(PAPER_SETS, 5):
        if (d := stand_ins(real.st.cfg).get(p)):
            f, numbers = table(real.out/"out", f"table_{k:02}"), real.st.numbers
            row = f[(f.system == "COREA") & (f.threshold == "paper")].iloc[0]
            assert row[f"{d}.cost.paper"] == paper_value(numbers, k, "COREA", p, "cost")[0]
            assert row[f"{d}.cost"] == pytest.approx(measure(real.st, "COREA", d, "cost", "paper")[0].mean(), abs=1e-6)
        else: assert f"Not run: no data set of this run stands for {p}" in real.text[f"table_{k:02}"]
    for item, d in zip(set_items(real.st.cfg), apart):
        f = table(real.out/"out", item)
        assert f.filter(like=".paper").isna().all(axis=None) and f[f"{d}.pass1"].notna().all()
        assert "no counterpart" in real.text[item]

def test_every_set_stands_in_the_tables_by_set_once(real):
    for pair in (("table_12", "table_13"), ("table_14", "table_15")):
        heads = [c.removesuffix(".ece.paper") for t in pair for c in table(real.out/"out", t).columns if c.endswith(".ece.paper")]
        assert sorted(heads) == sorted(real.st.cfg.datasets)
    columns = table(real.out/"out", "table_12").set_index("system").filter(regex=r"ece\.paper").loc["COREA"]
    assert columns.notna().to_dict() == {"grade.ece.paper": True, "arithmetic.ece.paper": False, "aqua.ece.paper": False}

def test_what_was_not_run_is_said_so(real):
    f = scoreboard(real.st).set_index("claim_id")
    assert f.verdict[["rewards", "sample_l1", "rollouts", "backbones", "small_slm", "gpqa"]].eq("not run").all()
    assert f.verdict[["bar_ece", "bar_families", "corea_cost_ood_nonmath", "l2", "pareto"]].ne("not run").all()
    assert "at least 5 of the families" in f.claim["bar_families"] and np.isnan(f.paper["bar_families"])
    assert "trains no control" in real.text["control"] and "no smaller SLM" in real.text["table_11"]
    assert "LOO-L2-SLM-Verb | not run" in real.text["targets"]
    assert sentence(real.st, "control").startswith("The control is not part")

def test_a_price_by_size(real):
    price, st = Price(.135, 175), real.st
    llm = st.records.cells["llm", "test", "aqua"]
    paid = (175 / .135 * (llm.prompt_tokens + 4 * llm.completion_tokens)).mean()
    assert measure(st, "Baseline LLM", "aqua", "cost")[0, 0] == pytest.approx(paid)
    assert price.llm(1, 1) == pytest.approx(5 * 175 / .135)

def test_a_method_that_no_table_knows_is_in_nobodys_way(tmp_path):
    few = dict(methods=("rlvr", "l1", "ceiling"), snapshots=(2,), datasets=("grade", "arithmetic", "strategy"))
    st = study_of(tmp_path/"records", load_profile("smoke", **REAL | few))
    assert "ceiling-s1" in what_ran(st).set_index("what").value["models"]
    drawn(st, tmp_path/"out")

@pytest.mark.parametrize("names", [("aqua", "letters"), ("calc", "queue"), ("arithmetic",)])
def test_few_sets_of_any_groups(names, tmp_path):
    st = study_of(tmp_path/"records", load_profile("smoke", datasets=names, methods=("rlvr", "l1")), quiet=("llm",))
    text = drawn(st, tmp_path/"out")
    f = scoreboard(st).set_index("claim_id")
    for g, claim in (("in_domain", "bar_ece"), ("ood_math", "bar_cost_ood_math")):
        assert (f.verdict[claim] == "not run") == (g not in st.places)
    assert ("not run" in text["bars"]) == (not {"in_domain", "ood_math"} <= set(st.places))

def test_models_that_say_nothing_at_all(tmp_path):
    cfg = load_profile("smoke", **REAL | dict(datasets=("arithmetic", "aqua"), methods=("rlvr", "l1")))
    st = study_of(tmp_path/"records", cfg, quiet=("llm", "base", "rlvr-s1", "l1-s1"))
    drawn(st, tmp_path/"out")
    assert sentence(st, "histograms") == "In domain, L1 states no confidence."

def test_the_order_of_the_sets_means_nothing(tmp_path):
    usual, other = (study_of(tmp_path/k/"records", load_profile("smoke", datasets=ds))
                    for k, ds in (("usual", tuple(DATASETS)), ("other", ("letters", "clock", "calc", "queue", "even", "word"))))
    assert wanted([], other.cfg) == list(ITEMS)
    for item in [*(i for i in ITEMS if not ITEMS[i].figure), "figure_03", "figure_09"]:
        for st, k in ((usual, "usual"), (other, "other")): produce(st, item, tmp_path/k)
        for p in promised(tmp_path/"usual", [item]):
            assert p.read_bytes() == (tmp_path/"other"/p.relative_to(tmp_path/"usual")).read_bytes(), p.name
        assert sentence(usual, item) == sentence(other, item)

def test_what_another_run_left_is_not_of_this_one(tmp_path):
    cfg = load_profile("smoke")
    made_up_records(tmp_path/"other", load_profile("smoke", seeds=(7,), n_test=9, methods=("l1", "l2"),
                                                   variants=dict(n4=dict(rollouts=4))))
    made_up_records(tmp_path/"records", cfg)
    before = load_records(tmp_path/"records")
    for p in (tmp_path/"other").iterdir():
        if not (tmp_path/"records"/p.name).exists(): (tmp_path/"records"/p.name).write_bytes(p.read_bytes())
    for name in ("l1-s8.csv.gz", "steps_l1-s8.csv.gz", "texts_l1-s8.csv.gz", "train_l1-s8.csv"):
        (tmp_path/"records"/name).write_bytes(b"torn")
    r = load_records(tmp_path/"records")
    for part in ("cells", "steps", "train", "texts"): assert getattr(r, part).keys() == getattr(before, part).keys()
    models = what_ran(study(r, 20)).set_index("what").value["models"]
    assert models == "base, brier-s0, control-s0, l1-s0, llm, rlvr-s0"
