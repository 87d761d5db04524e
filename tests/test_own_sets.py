"A path of a .jsonl file as the name of a set: its rows, its splits, what it refuses, and a run with it in processes of their own."
import json, os, subprocess, sys
from collections import Counter
from pathlib import Path
import pandas as pd
import pytest
from corea.core import ROOT, CoreaError, load_profile
from corea.data import SHARES, find_dataset, load_questions, read_questions, set_name
from corea.lab.experiments import found_anywhere, identity
from corea.lab.grid import check_run, how_many
from corea.lab.plan import plan
from corea.lab.records import load_records

def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)

def questions(n, **more): return [dict(question=f"Work out {i} (a) + {i}.", gold=str(2 * i), **more) for i in range(n)]

def test_every_question_has_one_split_and_keeps_it(tmp_path):
    few, many = (write(tmp_path/f"{name}.jsonl", questions(n)) for name, n in (("few", 100), ("many", 1000)))
    where = {path: {q["question"]: s for s in SHARES for q in load_questions(path, s)} for path in (few, many)}
    assert len(where[few]) == 100 and len(where[many]) == 1000
    assert {q: where[many][q] for q in where[few]} == where[few]
    counts = Counter(where[many].values())
    assert all(abs(counts[s] / 10 - share) < 5 for s, share in SHARES.items())     # 5: three standard deviations

def test_equal_questions_are_on_one_side_and_ids_do_not_collide(tmp_path):
    rows = [dict(r, id=i) for i, r in enumerate(questions(60) * 2)]
    a, b = (write(tmp_path/f"{name}.jsonl", rows) for name in "ab")
    sides = [{q["question"] for q in load_questions(a, s)} for s in SHARES]
    assert sum(map(len, sides)) == 60
    ids = [q["id"] for path in (a, b) for s in SHARES for q in load_questions(path, s)]
    assert len(set(ids)) == len(ids) == 240 and "a-0" in ids
    assert {q["dataset"] for q in load_questions(a, "test")} == {"a"}

def test_the_revision_is_that_of_the_rows_and_the_identity_not_of_the_folder(tmp_path):
    one, two = (tmp_path/d for d in ("one", "two"))
    for d in (one, two): d.mkdir()
    a, b = (write(d/"mine.jsonl", questions(200)) for d in (one, two))
    key = lambda path: identity(load_profile("smoke", datasets=("calc", path)))
    assert find_dataset(a).revision == find_dataset(b).revision and key(a) == key(b)
    before = key(a)
    write(one/"mine.jsonl", questions(201))
    assert find_dataset(a).revision != find_dataset(b).revision and key(a) != before

REFUSED = {"a needs a non-empty text": ({}, "line 3: needs a non-empty text 'question'"), "kind": (dict(question="q", gold="1", kind="essay"), "line 3: kind is 'essay'"),
           "id": (dict(question="q", gold="1", id=[1]), "line 3: id is '[1]': give a text or a whole number"),
           "dataset": (dict(question="q", gold="1", dataset={}), "line 3: dataset is '{}'"),
           "domain": (dict(question="q", gold="1", domain="space"), "line 3: domain is 'space'"),
           "domains": (dict(question="q", gold="1", domain="in_domain"), "line 3: domain is 'in_domain', that of the first line 'ood_math'")}

@pytest.mark.parametrize("what", REFUSED)
def test_a_broken_row_is_told_with_its_line(what, tmp_path):
    row, message = REFUSED[what]
    path = write(tmp_path/"mine.jsonl", [*questions(2), row])
    with pytest.raises(CoreaError) as e: check_run(load_profile("smoke", train_set=path))
    assert message in str(e.value) and path in str(e.value) and "\n" not in str(e.value)

def test_names_that_cannot_be(tmp_path):
    with pytest.raises(CoreaError, match="no file"): load_questions(str(tmp_path/"none.jsonl"), "test")
    with pytest.raises(CoreaError, match="'calc' is the name of a set"): find_dataset(write(tmp_path/"calc.jsonl", questions(9)))
    with pytest.raises(CoreaError, match="part of file names"): load_questions(write(tmp_path/"my set.jsonl", questions(9)), "test")
    with pytest.raises(CoreaError, match="no split 'dev'"): load_questions(write(tmp_path/"mine.jsonl", questions(9)), "dev")
    with pytest.raises(CoreaError, match="falls to"): [load_questions(write(tmp_path/"one.jsonl", questions(1)), s) for s in SHARES]
    (tmp_path/"b").mkdir()
    two = tuple(write(d/"mine.jsonl", questions(99)) for d in (tmp_path, tmp_path/"b"))
    with pytest.raises(CoreaError, match="two data sets are called 'mine'"): check_run(load_profile("smoke", datasets=two))

def test_a_plan_counts_it(tmp_path):
    path = write(tmp_path/"mine.jsonl", questions(100))
    cfg = load_profile("smoke", datasets=("calc", path))
    assert how_many(cfg)["test"][path] == 24 and "profile smoke" in plan(cfg)
    assert set_name(path) == "mine" and found_anywhere(cfg).datasets == cfg.datasets

def test_a_run_whose_worker_reads_it(tmp_path):
    "Trained on, calibrated and tested, by a relative path; the records call it by its name and can be read."
    rows = [dict(question=q["question"], gold=q["gold"], kind="math", domain="in_domain") for q in load_questions("calc", "train", 200)]
    write(tmp_path/"mine.jsonl", rows)
    sets = dict(datasets=["mine.jsonl", "word"], train_set="mine.jsonl", methods=["l1"], control_seeds=[], steps=1, n_test=6, n_calibration=6, samples=1,
                snapshots=[1], snapshot_questions=2, workers=1)
    words = [w for k, v in sets.items() for w in ("--set", f"{k}={json.dumps(v) if not isinstance(v, str) else v}")]
    env = os.environ | {"COREA_ARTIFACTS": str(tmp_path/"artifacts"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", "import sys; from corea.lab.command import main; sys.exit(main())", "run", "smoke", "--out", "records", *words],
                          env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("llm", "base", "l1-s0"):
        frame = pd.read_csv(tmp_path/"records"/f"{name}.csv.gz")
        assert frame.groupby(["split", "dataset"]).size().to_dict() == {(s, d): 6 for s in ("calibration", "test") for d in ("mine", "word")}
    assert frame[frame.dataset == "mine"].question_id.str.match(r"mine-\d{4}$").all() and set(frame[frame.dataset == "mine"].domain) == {"in_domain"}
    told = json.loads((tmp_path/"records"/"run.json").read_text())
    assert told["config"]["datasets"] == ["mine.jsonl", "word"] and told["data"]["mine"] == find_dataset(str(tmp_path/"mine.jsonl")).revision
    assert (tmp_path/"records"/"texts_l1-s0.csv.gz").exists()
    assert load_records(tmp_path/"records").cfg.datasets == ("mine", "word")

def test_what_is_null_is_as_if_it_were_not_there_and_ids_are_texts(tmp_path):
    "Records hold text: 1 and '1' would be one question there."
    null = read_questions(write(tmp_path/"a.jsonl", [dict(question="q", gold="1", id=None, dataset=None, kind=None)]))
    assert null == read_questions(write(tmp_path/"a.jsonl", [dict(question="q", gold="1")]))
    assert [q["id"] for q in read_questions(write(tmp_path/"b.jsonl", [dict(question="q", gold="1", id=i) for i in (1, "x")]))] == ["1", "x"]
    with pytest.raises(CoreaError, match="line 2: id '1' is already that of line 1"):
        read_questions(write(tmp_path/"c.jsonl", [dict(question="q", gold="1", id=i) for i in (1, "1")]))
