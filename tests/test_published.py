"""The published sets: what a wrong copy is told, and, where copies are at hand (COREA_DATA), every row of them."""
import dataclasses, json, os
from pathlib import Path
import pytest
from corea.answer import parse, same_value
from corea.core import CoreaError
from corea.data import find_dataset, load_questions
from corea.published import PUBLISHED, choices, read_commonsenseqa, read_gpqa

def copy_of(name):
    path = Path(os.environ.get("COREA_DATA", "/nowhere"))/"sets"/name/"test.jsonl"
    if not path.is_file(): pytest.skip(f"no copy of {name}: set COREA_DATA to a folder with sets/{name}/test.jsonl")
    return load_questions(name, "test")

def given(tmp_path, monkeypatch, name, *rows):
    path = tmp_path/"sets"/name/"test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    monkeypatch.setenv("COREA_DATA", str(tmp_path))
    return dataclasses.replace(PUBLISHED[name], n=len(rows))

@pytest.mark.parametrize("name", ["math500", "gsm8k", "olympiadbench"])
def test_a_whole_copy(name):
    rows = copy_of(name)
    assert len(rows) == len({r["id"] for r in rows}) == PUBLISHED[name].n
    assert all(r["question"].strip() and r["gold"].strip() for r in rows)
    if name == "olympiadbench": assert not any("$" in r["gold"] for r in rows)
    if name == "gsm8k": assert all(r["gold"].lstrip("-").isdigit() for r in rows)
    assert all(parse(f"\\boxed{{{r['gold']}}} \\confidence{{1}}").answer == r["gold"].strip() for r in rows)
    for row, other in zip(rows[::25], rows[1::25]):
        assert same_value(row["gold"], row["gold"]), row
        assert row["gold"] == other["gold"] or not same_value(row["gold"], other["gold"]), (row, other)

@pytest.mark.parametrize("name", PUBLISHED)
def test_known_by_name(name):
    assert find_dataset(name) is PUBLISHED[name] and PUBLISHED[name].domain in ("ood_math", "ood_nonmath")

def test_another_gold_answer_is_another_revision(tmp_path, monkeypatch):
    s = given(tmp_path, monkeypatch, "math500", dict(problem="Add 1 and 1.", answer="2"))
    with pytest.raises(CoreaError, match="differs from revision"): s.rows("test")
    [row] = dataclasses.replace(s, content="").rows("test")
    assert (row["id"], row["gold"]) == ("math500-0000", "2")

@pytest.mark.parametrize("row", [dict(problem="No answer."), ["a", "list"], None])
def test_a_row_of_another_form_is_named(tmp_path, monkeypatch, row):
    s = given(tmp_path, monkeypatch, "math500", dict(problem="Add 1 and 1.", answer="2"), row)
    with pytest.raises(CoreaError, match="math500, row 1: not as its authors publish it"): s.rows("test")

def test_no_copy_and_no_hub(tmp_path, monkeypatch):
    import datasets
    def refuse(*args, **kw): raise ConnectionError("no network")
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setenv("COREA_DATA", str(tmp_path))
    with pytest.raises(CoreaError, match="gated.*HF_TOKEN.*COREA_DATA"): PUBLISHED["gpqa"].rows("test")
    with pytest.raises(CoreaError, match=r"could not load tau/commonsense_qa.*ConnectionError"): PUBLISHED["commonsenseqa"].rows("test")

def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch):
    import datasets
    asked = []
    def load(*args, **kw): asked.append((args, kw)); return [dict(problem="Add 1 and 1.", answer="2")]
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.delenv("COREA_DATA", raising=False)
    s = dataclasses.replace(PUBLISHED["math500"], paper="not loaded before")
    with pytest.raises(CoreaError, match="has 1 rows, not the 500"): s.rows("test")
    assert asked == [((s.hub, None), dict(split="test", revision=s.revision))]

def test_options_move_and_the_right_one_keeps_its_letter():
    row = {"Question": " Why? ", "Correct Answer": "right\n", **{f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}}
    seen = [read_gpqa(row, i) for i in range(40)]
    assert {g for _, g in seen} == set("ABCD") and seen == [read_gpqa(row, i) for i in range(40)]
    assert all(q.startswith("Why?\nA) ") and f"\n{g}) right" in q and q.count("wrong") == 3 for q, g in seen)
    with pytest.raises(ValueError): read_commonsenseqa(dict(question="Why?", choices=dict(label=["A"], text=["so"]), answerKey="B"), 0)
    assert choices("Why?", ["so"]) == "Why?\nA) so"
