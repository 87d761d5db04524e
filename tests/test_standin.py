"""`gpu-ci` rehearsed in small: rows in the form of the real sets, the LLM behind a server, two processes that train; `make standin` does it whole."""
import json, os, subprocess, sys
import pandas as pd
import pytest
import standin
from corea.core import MODELS, load_profile
from corea.lab.grid import chains, how_many
from corea.published import PUBLISHED
from corea.lab.records import load_records
from corea.server import free_port

LITTLE = dict(n_train=16, n_calibration=3, n_test=4, steps=2, questions_per_step=4, rollouts=4, updates_per_step=2, micro_batch=4, save_every=1,
              snapshots=[1], snapshot_questions=2, methods=["rlvr"], probe_questions=8, router_questions=8, router_samples=2)

@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    standin.write(folder/"data")
    url = f"http://127.0.0.1:{free_port()}"
    settings = [x for k, v in (LITTLE | dict(llm_server=url)).items() for x in ("--set", f"{k}={json.dumps(v)}")]
    env = os.environ | dict(COREA_DATA=str(folder/"data"), COREA_ARTIFACTS=str(folder/"artifacts"))
    with standin.server(url, folder/"server.log"):
        done = subprocess.run([sys.executable, "-c", "import sys; from corea.lab.command import main; sys.exit(main())", "run", "stand-in", "--out", str(folder/"records"), *settings], env=env,
                              capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder

def test_its_rows_are_read_as_the_real_ones_and_never_taken_for_them(ran, monkeypatch):
    monkeypatch.setenv("COREA_DATA", str(ran/"data"))
    for s in PUBLISHED.values():
        assert s.revision.startswith("stand-in")
        for split, cut in s.splits.items(): assert len(s.rows(split)) == cut.n
    revisions = json.loads((ran/"records"/"run.json").read_text())["data"]
    assert len(revisions) == 6 and all(r.startswith("stand-in") for r in revisions.values())

def test_records_of_every_model(ran, monkeypatch):
    monkeypatch.setenv("COREA_DATA", str(ran/"data"))
    records = load_records(ran/"records", "stand-in")       # complete, paired, in bounds
    assert {m for m, *_ in records.cells} == {name for name, *_ in chains(records.cfg)}
    assert records.run["questions"] == how_many(records.cfg)
    assert (records.cfg.processes, records.cfg.device) == (2, "cpu")
    assert len(records.train["rlvr-s1"]) == LITTLE["steps"]
    gpqa = pd.concat(f for (_, _, d), f in records.cells.items() if d == "gpqa")
    assert len(gpqa)

def test_the_llm_answered_behind_the_server(ran):
    [shard] = ran.glob("artifacts/stand-in/*/answers/llm/test-gsm8k.jsonl")
    rows = [json.loads(line) for line in shard.read_text().splitlines()]
    assert len(rows) == LITTLE["n_test"] * load_profile("stand-in").samples
    assert {r["engine"] for r in rows} == {f"server vllm {MODELS/'llm'}"}
