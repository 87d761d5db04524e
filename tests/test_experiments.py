"""A run of the whole grid, killed at random moments and taken up again, leaves the records of an unbroken one.

Three kills by default; COREA_KILLS=10 for the longer trial."""
import json, os, random, signal, subprocess, sys, time
import pandas as pd
import pytest
from corea.core import CoreaError, load_profile
from corea.experiments import COLUMNS, chains, run_folder, tidy, write_table

def start(folder):
    "The command-line run of `smoke` in a process group of its own."
    env = os.environ | {"COREA_ARTIFACTS": str(folder/"artifacts")}
    command = [sys.executable, "-c", "from corea.experiments import main; main()", "smoke", "--out", str(folder/"records")]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

def records(folder):
    "Bytes of every record file; run.json holds wall-clock times and is left out."
    return {p.name: p.read_bytes() for p in sorted((folder/"records").glob("*.csv*"))}

@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert start(folder).wait() == 0
    return folder

def test_records_of_every_chain(unbroken):
    names = [name for name, *_ in chains(load_profile("smoke"))]
    for name in names:
        frame = pd.read_csv(unbroken/"records"/f"{name}.csv.gz")
        assert list(frame.columns) == COLUMNS
        assert not frame.duplicated(["split", "dataset", "question_id", "sample"]).any()
    slm, llm = (pd.read_csv(unbroken/"records"/f"{n}.csv.gz").set_index(["split", "dataset", "question_id", "sample"])
                for n in ("l1-s0", "llm"))
    assert slm.index.equals(llm.index), "SLM and LLM rows must pair"
    rlvr = pd.read_csv(unbroken/"records"/"rlvr-s0.csv.gz")
    assert rlvr[["probe", "router", "router_prompt_tokens"]].notna().all().all()
    unstated = rlvr.expected_confidence.isna()      # where an answer states no confidence, and only there
    assert not (unstated & (rlvr.parse_status == "ok")).any()
    assert rlvr.loc[~unstated, ["probe", "router", "expected_confidence", "avg_prob"]].stack().between(0, 1).all()
    assert rlvr[["probe", "router", "avg_prob"]].stack().between(0, 1).all()

def test_killed_at_random_moments(unbroken, tmp_path):
    rng = random.Random(1)
    for _ in range(int(os.environ.get("COREA_KILLS", 3))):
        p = start(tmp_path)
        time.sleep(4 + 16 * rng.random())
        os.kill(p.pid, signal.SIGKILL)      # the parent alone: its workers must notice by themselves
        p.wait()
    assert start(tmp_path).wait() == 0
    assert records(tmp_path) == records(unbroken)
    assert not list((tmp_path/"records").glob(".*")), "temporary files left behind"

def test_run_json_keeps_what_was_settled_and_follows_the_configuration(unbroken, tmp_path, monkeypatch):
    "Gathered again with another tolerance: the same time and place, the new configuration."
    import corea.experiments as experiments
    monkeypatch.setattr(experiments, "ARTIFACTS", unbroken/"artifacts")
    first = json.loads((unbroken/"records"/"run.json").read_text())
    again = json.loads((experiments.run(load_profile("smoke", max_drop=0.02), tmp_path, progress=False)/"run.json").read_text())
    assert again["config"] == first["config"] | {"max_drop": 0.02}
    assert {k: again[k] for k in again if k != "config"} == {k: first[k] for k in first if k != "config"}

def test_folder_follows_the_configuration():
    a, b = (run_folder(load_profile("smoke", **k)) for k in ({}, {"lr": 1e-5}))
    assert a != b
    assert run_folder(load_profile("smoke", workers=1)) == a, "the number of processes changes nothing in the records"

def test_missing_base_model_is_told():
    with pytest.raises(CoreaError, match="make base"): run_folder(load_profile("smoke", slm="nowhere"))

def test_tables_are_the_same_bytes(tmp_path):
    frame = tidy(pd.DataFrame([dict(split="test", dataset="calc", question_id="calc-1", sample=s, correct=True, confidence=None,
                                    answer="3") for s in (1, 0)]))
    assert frame["sample"].tolist() == [0, 1]
    assert write_table(tmp_path/"a.csv.gz", frame).read_bytes() == write_table(tmp_path/"b.csv.gz", frame).read_bytes()

@pytest.mark.parametrize("answer", ["a\rb", "a\nb", 'say "a", b', "\x00", "\\frac12"])
def test_any_answer_leaves_one_row(answer, tmp_path):
    frame = tidy(pd.DataFrame([dict(split="test", dataset="calc", question_id=f"calc-{i}", sample=0, correct=False, answer=answer)
                               for i in range(2)]))
    read = pd.read_csv(write_table(tmp_path/"a.csv.gz", frame))
    assert read.question_id.tolist() == ["calc-0", "calc-1"] and read.answer.nunique() == 1
