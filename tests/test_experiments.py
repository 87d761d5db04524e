"""What a chain asks, teaches and writes is kept, and is made anew when what it was made from changes; whole runs are in test_runs."""
import json
from contextlib import closing
from types import SimpleNamespace
import pandas as pd
import pytest
from corea.lab import experiments
from corea.core import CoreaError, load_profile
from corea.data import load_questions
from corea.lab.experiments import LazyEngine, ask, run_folder, tidy, write_table
from corea.generate import Completion
from corea.trainer import find_model

def test_an_unfinished_shard_keeps_its_answers(tmp_path):
    "The engine dies; what it had answered is not asked again, a torn line is, and the shard comes out the same."
    questions, how, asked = load_questions("calc", "dev", 5), (2, 0.6, 80), []
    class Dies:
        "The real engine, up to a number of answers."
        def __init__(self, engine, after): self.engine, self.after = engine, after
        def __getattr__(self, name): return getattr(self.engine, name)
        def generate(self, *a, **kw):
            for n, c in enumerate(self.engine.generate(*a, **kw)):
                if n == self.after: raise CoreaError("the engine died")
                asked.append((c.index, c.sample))
                yield c
    with closing(LazyEngine(load_profile("smoke", batch_size=4), find_model("slm"))) as engine:
        whole = ask(engine, "base", questions, tmp_path/"whole.jsonl", *how)
        path, told = tmp_path/"calc.jsonl", []
        with pytest.raises(CoreaError, match="died"): ask(Dies(engine, 7), "base", questions, path, *how, tick=told.append)
        assert not path.exists() and told == [4]
        part = tmp_path/".calc.jsonl.part"
        part.write_text(part.read_text()[:-20])     # the seventh answer is torn
        first, told = asked.copy(), []
        asked.clear()
        assert ask(Dies(engine, 99), "base", questions, path, *how, tick=told.append) == whole
    assert len(asked) == 6 and not set(first[:4]) & set(asked), "a batch that was kept whole was asked again"
    assert sum(told) == 10 and not part.exists()
    assert path.read_bytes() == (tmp_path/"whole.jsonl").read_bytes()

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

class Tells:
    "An engine that says one thing, and counts what it was asked."
    name, batch_size = "tells", 4
    def __init__(self, text=r"π ≈ 3.14 \boxed{7.} \confidence{0.5}"): self.text, self.asked = text, []
    def generate(self, questions, sampling, n=1, seed=0, done=()):
        for i, q in enumerate(questions):
            for s in range(n):
                if (i, s) in set(done): continue
                self.asked.append((q, s))
                yield Completion(i, s, self.text, (), (), 3, 4, "stop", None)

ONES = [dict(id=f"q{i}", question=f"{i}+1?", gold=gold, kind="math", dataset="d", domain="x") for i, gold in enumerate("777")]

def test_a_shard_torn_anywhere_is_gone_on_with(tmp_path):
    "Within a character of several bytes, and in a file that was finished."
    ask(Tells(), "m", ONES, tmp_path/"whole.jsonl", 2, .6, 9)
    path, text = tmp_path/"s.jsonl", (tmp_path/"whole.jsonl").read_bytes()
    for cut in range(len(text) - 200, len(text), 7):
        for torn in (path, path.with_name(".s.jsonl.part")):
            path.unlink(missing_ok=True)
            torn.write_bytes(text[:cut])
            ask(engine := Tells(), "m", ONES, path, 2, .6, 9)
            assert path.read_bytes() == text
            assert len(engine.asked) == (1 if cut < len(text) - 1 else 0) and not path.with_name(".s.jsonl.part").exists()

def test_answers_are_kept_and_read_anew_when_the_reading_changes(tmp_path, monkeypatch):
    path = tmp_path/"s.jsonl"
    with monkeypatch.context() as m:
        m.setattr(experiments, "reading", lambda: "another")
        m.setattr(experiments, "grade_all", lambda pairs: [False] * len(pairs))
        assert not any(r["correct"] for r in ask(Tells(), "m", ONES, path, 2, .6, 9))
    told = []
    assert all(r["correct"] for r in ask(None, "m", ONES, path, 2, .6, 9, tick=told.append)) and told == [6]
    assert all(json.loads(line)["correct"] for line in path.read_text(encoding="utf-8").splitlines())

@pytest.fixture
def lessons(monkeypatch):
    "Answers to two training questions whose verdicts a test may change, and whatever is taught from them."
    rows, taught = [dict(question_id=q["id"], sample=0, completion="8", correct=True) for q in load_questions("calc", "train", 2)], []
    def train_sft(start, lessons, out, *rest, **more):
        taught.append(lessons)
        (out/"final").mkdir(parents=True)
        return out/"final"
    monkeypatch.setattr(experiments, "LazyEngine", lambda *a: SimpleNamespace(tokenizer=None, close=lambda: None))
    monkeypatch.setattr(experiments, "confidence_rows", lambda tokenizer, rows: [r["rate"] for r in rows])
    monkeypatch.setattr(experiments, "train_sft", train_sft)
    def ask(engine, model, questions, path, *rest):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return rows
    monkeypatch.setattr(experiments, "ask", ask)
    return rows, taught

def test_a_ceiling_taught_by_other_verdicts_is_taught_anew_and_asked_anew(tmp_path, lessons):
    rows, taught = lessons
    answers, asked = tmp_path/"answers", tmp_path/"answers"/"test-calc.jsonl"
    teach = lambda: experiments.teach_ceiling(load_profile("smoke", ceiling_questions=2), "slm", "ceiling-s0", 0, answers, tmp_path/"train")
    teach(), asked.touch(), teach()
    assert taught == [[1, 1]] and asked.exists()
    rows[0]["correct"] = False
    assert teach() == tmp_path/"train"/"final" and taught == [[1, 1], [0, 1]]
    assert [p.name for p in answers.iterdir()] == ["train-ceiling.jsonl"]

def test_scores_learnt_from_other_verdicts_are_learnt_anew(tmp_path, lessons, monkeypatch):
    rows, fits = lessons[0], []
    cfg = load_profile("smoke", datasets=("calc",), n_calibration=1, n_test=1)
    for split in ("calibration", "test"):
        q = load_questions("calc", split, 1)[0]
        experiments.write_records(tmp_path/f"{split}-calc.jsonl", [dict(question_id=q["id"], sample=0, completion="8")])
    tells = SimpleNamespace(fit=lambda texts, right: fits.append(list(right)), predict=lambda texts: [.5] * len(texts), prompt_tokens=lambda texts: [3] * len(texts))
    monkeypatch.setattr(experiments, "Probe", lambda **kw: tells)
    monkeypatch.setattr(experiments, "Router", lambda *a, **kw: tells)
    monkeypatch.setattr(experiments, "load_checkpoint", lambda *a: None)
    monkeypatch.setattr(experiments, "probe_features", lambda net, questions, completions: completions)
    teach = lambda: experiments.teach_scores(cfg, "slm", 0, load_questions("calc", "train", 2), rows[:1], rows, tmp_path)
    teach(), teach()
    assert fits == [[True], [1, 1]]
    rows[0]["correct"] = False
    teach()
    assert fits[2:] == [[False], [0, 1]] and len(experiments.read_records(tmp_path/"scores.jsonl")) == 2

def test_answers_to_another_text_under_the_same_id_are_not_taken(tmp_path):
    path = tmp_path/"s.jsonl"
    ask(Tells(), "m", ONES, path, 2, .6, 9)
    changed = [ONES[0] | dict(question="another?"), *ONES[1:]]
    ask(engine := Tells(), "m", changed, path, 2, .6, 9)
    assert engine.asked == [("another?", 0), ("another?", 1)]
