"""The paper's data: what a wrong copy is told, how splits are drawn, and, where copies are at hand (COREA_DATA), every row of them.

The small files are made up, in the form in which the authors publish; real copies are never committed.
"""
import dataclasses, json, os, random, sys
from pathlib import Path
import pytest
from corea import published
from corea.answer import parse, same_value
from corea.core import CoreaError
from corea.data import find_dataset, load_questions, public_text
from corea.published import ORDERED, PUBLISHED, Cut, Published, choices, committed, normal, order, read_commonsenseqa, read_gpqa, read_math

def copy_of(name):
    path = Path(os.environ.get("COREA_DATA") or "none")/"sets"/name/"test.jsonl"
    if not path.is_file(): pytest.skip(f"no copy of {name}: set COREA_DATA to a folder with sets/{name}/test.jsonl")
    return load_questions(name, "test")

def write(folder, name, rows):
    "A copy as `COREA_DATA` has it."
    path = folder/"sets"/f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")

def small(s, **n):
    "A set whose sources have other numbers of rows, and no known content."
    splits = {k: dataclasses.replace(c, source=dataclasses.replace(c.source, n=n[k], content=""), n=c.n if c.stop else n[k])
              for k, c in s.splits.items() if k in n}
    return dataclasses.replace(s, splits=splits)

@pytest.fixture
def copies(tmp_path, monkeypatch):
    "An empty folder of copies; nothing is kept from one test to another."
    (tmp_path/"data").mkdir()
    monkeypatch.setenv("COREA_DATA", str(tmp_path/"data"))
    monkeypatch.setattr(published, "ARTIFACTS", tmp_path/"artifacts")
    return tmp_path/"data"

def given(copies, name, *rows):
    write(copies, f"{name}/test", rows)
    return small(PUBLISHED[name], test=len(rows))

@pytest.mark.parametrize("name", ["math500", "gsm8k", "olympiadbench"])
def test_a_whole_copy(name):
    rows = copy_of(name)
    assert len(rows) == len({r["id"] for r in rows}) == PUBLISHED[name].splits["test"].n
    assert all(r["question"].strip() and r["gold"].strip() for r in rows)
    if name == "olympiadbench": assert not any("$" in r["gold"] for r in rows)
    if name == "gsm8k": assert all(r["gold"].lstrip("-").isdigit() for r in rows)
    assert all(parse(f"\\boxed{{{r['gold']}}} \\confidence{{1}}").answer == r["gold"].strip() for r in rows)
    for row, other in zip(rows[::25], rows[1::25]):
        assert same_value(row["gold"], row["gold"]), row
        assert row["gold"] == other["gold"] or not same_value(row["gold"], other["gold"]), (row, other)

def test_the_boxes_of_math_hold_its_answers():
    "MATH-500 publishes both the solution and the answer: what we read in the one must be the other."
    rows = copy_of("math500") and list(published.raw_rows(PUBLISHED["math500"].splits["test"].source))
    differ = [r["unique_id"] for r in rows if read_math(r)[1] != r["answer"].strip()]
    assert not differ, differ

# by name

@pytest.mark.parametrize("name", PUBLISHED)
def test_known_by_name(name):
    assert find_dataset(name) is PUBLISHED[name]
    assert PUBLISHED[name].domain == ("in_domain" if name == "deepmath" else PUBLISHED[name].domain)
    assert {"test", "calibration"} <= set(PUBLISHED[name].splits)

# whole sets

def test_another_gold_answer_is_another_revision(copies):
    s = given(copies, "math500", dict(problem="Add 1 and 1.", answer="2"))
    [row] = s.rows("test")
    assert (row["id"], row["gold"]) == ("math500-0000", "2")
    source = dataclasses.replace(s.splits["test"].source, content=PUBLISHED["math500"].splits["test"].source.content)
    with pytest.raises(CoreaError, match="differs from revision"): dataclasses.replace(s, splits=dict(test=Cut(source, 1))).rows("test")

@pytest.mark.parametrize("row", [dict(problem="No answer."), ["a", "list"], None, "text", dict(problem=1, answer="2"), dict(problem="?", answer=None)])
def test_a_row_of_another_form_is_named(copies, row):
    s = given(copies, "math500", dict(problem="Add 1 and 1.", answer="2"), row)
    with pytest.raises(CoreaError, match="math500/test, row 1: not as its authors publish it"): s.rows("test")

@pytest.mark.parametrize("row", [dict(problem=" ", answer="2"), dict(problem="Add.", answer="")])
def test_an_empty_row_of_a_whole_set_is_named(copies, row):
    with pytest.raises(CoreaError, match="math500/test, row 0: empty"): given(copies, "math500", row).rows("test")

def test_a_file_of_another_encoding_or_depth_is_named_by_line(copies):
    s = given(copies, "math500", dict(problem="Add 1 and 1.", answer="2"))
    path = copies/"sets"/"math500"/"test.jsonl"
    for line, said in ((b'{"problem": "\xff"}', "line 2: not UTF-8"), (b"[" * 10**6, "line 2: JSON nested too deep"), (b"{", "line 2: not JSON")):
        path.write_bytes(b'{"problem": "Add.", "answer": "2"}\n' + line)
        with pytest.raises(CoreaError, match=said): s.rows("test")

def test_fewer_questions_than_asked_for_are_all(copies, monkeypatch):
    s = given(copies, "gpqa", *({"Question": f"Why {i}?", "Correct Answer": "a", **{f"Incorrect Answer {k}": "b" for k in (1, 2, 3)}} for i in range(3)))
    monkeypatch.setitem(published.PUBLISHED, "gpqa", s)
    monkeypatch.setitem(sys.modules["corea.data"]._registered, "gpqa", s)
    assert len(load_questions("gpqa", "test", 500)) == len(load_questions("gpqa", "test")) == 3
    assert len(load_questions("gpqa", "test", 2)) == 2
    for n in (0, -1, 2.0, "2"):
        with pytest.raises(CoreaError, match="which has 3: ask for 1 or more"): load_questions("gpqa", "test", n)

# the hub

def test_no_copy_and_no_hub(copies, monkeypatch):
    import datasets
    def refuse(*args, **kw): raise ConnectionError("no network")
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(CoreaError, match="accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa.*HF_TOKEN.*COREA_DATA.*sets/gpqa/test.jsonl"):
        PUBLISHED["gpqa"].rows("test")
    with pytest.raises(CoreaError, match=r"could not load tau/commonsense_qa.*ConnectionError"): PUBLISHED["commonsenseqa"].rows("test")
    with pytest.raises(CoreaError, match="sets/deepmath/train.jsonl"): PUBLISHED["deepmath"].rows("train")
    assert not (published.ARTIFACTS/"sets").exists()

@pytest.mark.parametrize("name, split", [(s.name, k) for s in PUBLISHED.values() for k in s.splits])
def test_the_hub_is_asked_for_the_pinned_revision(copies, monkeypatch, name, split):
    import datasets
    asked, s = [], PUBLISHED[name].splits[split].source
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kw: asked.append((args, kw)) or [])
    assert list(published.raw_rows(s)) == []
    assert len(s.revision) == 40 and int(s.revision, 16)
    for args, kw in asked:
        assert kw["split"] == s.split
        if args == ("json",): assert s.revision in kw["data_files"]
        else: assert args[0] == s.hub and kw["revision"] == s.revision
    assert [a[0][1:] for a in asked] == [() if s.hub.startswith("https") else (c or None,) for c in s.configs]

def parquet(folder, rows):
    "A data set as the hub has DeepMath: parquet files, and a card that names every column."
    from datasets import Dataset
    half = len(rows) // 2
    for k, part in enumerate((rows[:half], rows[half:])):
        path = folder/"data"/f"train-0000{k}-of-00002.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(part).to_parquet(path, batch_size=5)
    kind = lambda v: "float64" if isinstance(v, float) else "string"
    features = "".join(f"  - name: {k}\n    dtype: {kind(v)}\n" for k, v in rows[0].items())
    (folder/"README.md").write_text("---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
                                    f"dataset_info:\n  features:\n{features}  splits:\n  - name: train\n    num_examples: {len(rows)}\n---\n")

def solved(i): return dict(question=f"What is {i} + 1?", final_answer=f"{i + 1}", difficulty=5.5, topic="sums",
                           **{f"r1_solution_{k}": f"Let us think {i}" * 50 for k in (1, 2, 3)})

def test_no_solution_is_held_and_the_second_process_needs_no_hub(copies, tmp_path, monkeypatch):
    parquet(tmp_path/"hub", [solved(i) for i in range(20)])
    source = dataclasses.replace(PUBLISHED["deepmath"].splits["test"].source, hub=str(tmp_path/"hub"), n=20)
    rows = list(published.raw_rows(source))
    assert [r["question"] for r in rows] == [f"What is {i} + 1?" for i in range(20)] and set(rows[0]) == set(source.columns)
    [kept] = (tmp_path/"artifacts").rglob("*.jsonl")
    assert "think" not in kept.read_text() and source.revision[:12] in kept.name
    monkeypatch.setattr(published, "hub_rows", lambda s: pytest.fail("asked the hub"))
    assert list(published.raw_rows(source)) == rows
    write(copies, "deepmath/train", [solved(99)])       # a copy of one's own comes first, also without its solutions
    assert list(published.raw_rows(source)) == [dict(question="What is 99 + 1?", final_answer="100", difficulty=5.5)]

# draws

def test_the_committed_orders_are_those_of_the_rule():
    sources = {c.source.name: c.source for s in PUBLISHED.values() for c in s.splits.values() if c.stop}
    assert set(sources) == set(ORDERED) == {k for k in committed() if not k.startswith("zero_shot/")}
    for name, s in sources.items():
        places = committed()[name]
        assert places == order(name, s.n) and len(set(places)) == len(places) == ORDERED[name] and max(places) < s.n

def drawn(cut, n, sources, seed=0):
    "A set with one drawn split beside its whole test set; and the questions of its rows."
    return Published("trial", "ood_math", "math", "none", sources | dict(calibration=cut))

def test_splits_of_one_source_are_disjoint_and_pass_over_what_they_cannot_use(copies, monkeypatch):
    r, names = random.Random(1), ["test", "calibration", "dev", "train"]
    questions = [r.choice(["ann", "bob"]) + f" has {r.randrange(60)} coins" for _ in range(200)]      # many of them twice
    rows = [dict(question=q.upper() if i % 3 else q, final_answer="" if i % 17 == 0 else "1", difficulty=5.0) for i, q in enumerate(questions)]
    write(copies, "deepmath/train", rows)
    places = r.sample(range(200), 160)
    monkeypatch.setattr(published, "committed", lambda: {"deepmath/train": places})
    source = dataclasses.replace(PUBLISHED["deepmath"].splits["test"].source, n=200)
    cuts = dict(test=Cut(source, 10, 0, 40), calibration=Cut(source, 5, 40, 80), dev=Cut(source, 3, 80, 110), train=Cut(source, 4, 110, 160))
    s = dataclasses.replace(PUBLISHED["deepmath"], splits=cuts)
    texts = {k: [normal(x["question"]) for x in s.rows(k)] for k in names}
    assert [len(texts[k]) for k in names] == [10, 5, 3, 4] and len(set(sum(texts.values(), []))) == 22
    assert all(x["gold"] == "1" and x["difficulty"] == 5.0 and x["dataset"] == "deepmath" for k in names for x in s.rows(k))
    for k in names:     # every row from the front of the slice is either taken or reported
        at = [int(i.rsplit("-", 1)[1]) for i in [x["id"] for x in s.rows(k)] + [i for i, _ in s.left_out(k)]]
        assert sorted(at, key=places.index) == places[cuts[k].start:cuts[k].start + len(at)]
    reasons = {why for k in names for _, why in s.left_out(k)}
    assert reasons == {"empty question or gold answer", "the question was met before"}
    with pytest.raises(CoreaError, match="only .* usable rows for deepmath/train, which needs 50"):
        dataclasses.replace(s, splits=cuts | dict(train=Cut(source, 50, 110, 160))).rows("train")

def test_calibration_questions_are_not_in_the_test_set(copies, monkeypatch):
    options = {"Correct Answer": "right", **{f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}}
    extended = [{"Question": f"Why {i}?", **options} for i in range(12)]
    write(copies, "gpqa/test", [extended[i] | {"Question": f" why {i}?\n"} for i in (7, 2, 3, 10)])
    write(copies, "gpqa/extended", extended)
    monkeypatch.setattr(published, "committed", lambda: {"gpqa/extended": random.Random(0).sample(range(12), 12)})
    test, source = (PUBLISHED["gpqa"].splits[k].source for k in ("test", "calibration"))
    s = dataclasses.replace(PUBLISHED["gpqa"], splits=dict(test=Cut(dataclasses.replace(test, n=4), 4),
                                                           calibration=Cut(dataclasses.replace(source, n=12), 8, 0, 12)))
    assert {normal(x["question"]) for x in s.rows("calibration")} == {f"why{i}?" for i in (0, 1, 4, 5, 6, 8, 9, 11)}
    assert {x["id"].split("-")[0] for x in s.rows("calibration")} == {"gpqa"} and len(s.left_out("calibration")) <= 4
    letters = {normal(x["question"]): x["gold"] for x in s.rows("test")}
    assert letters == {normal(q): g for q, g in map(read_gpqa, extended) if normal(q) in letters}   # the same order of options in both files

@pytest.mark.parametrize("name, row, gold", [
    ("math/train", dict(problem="Find it.", level="Level 5", type="Algebra", solution=r"First $\boxed{7}$, then $\boxed{\frac{1}{2}}$."), r"\frac{1}{2}"),
    ("gsm8k/train", dict(question="How many?", answer="5 + 5 = <<5+5=10>>10\n#### 1,010"), "1010"),
    ("commonsenseqa/train", dict(id="0", question="Where?", question_concept="place", answerKey="E",
                                 choices=dict(label=list("ABCDE"), text=["a", "b", "c", "d", "e"])), "E"),
    ("deepmath/train", dict(question="Is it?", final_answer=" Yes ", difficulty=4.0), "Yes")])
def test_rows_of_each_training_source(copies, monkeypatch, name, row, gold):
    [s] = [s for s in PUBLISHED.values() if s.name != "olympiadbench" and s.splits["calibration"].source.name == name]
    text = "problem" if "problem" in row else "question"
    write(copies, name, [row | {text: f"{row[text]} {i}"} for i in range(5)])
    monkeypatch.setattr(published, "committed", lambda: {name: [4, 0, 2]})
    if not s.splits["test"].stop: monkeypatch.setattr(Published, "rows", lambda self, split: [] if split == "test" else published.usable_rows(self, split)[0])
    source = dataclasses.replace(s.splits["calibration"].source, n=5)
    got = dataclasses.replace(s, splits=s.splits | dict(calibration=Cut(source, 2, 0, 3))).rows("calibration")
    assert [x["id"] for x in got] == [f"{name.replace('/', '-')}-{i:04d}" for i in (4, 0)] and {x["gold"] for x in got} == {gold}

def test_a_changed_draw_is_another_revision():
    s = PUBLISHED["deepmath"]
    moved = dataclasses.replace(s.splits["train"], start=1645)
    assert dataclasses.replace(s, splits=s.splits | dict(train=moved)).revision != s.revision
    assert dataclasses.replace(s).revision == s.revision

@pytest.mark.parametrize("solution, gold", [(r"\boxed{1} or \boxed{2}", "2"), (r"$\boxed{\text{a } \{b\}}$", r"\text{a } \{b\}"), (r"$\fbox{3}$", "3"),
                                            (r"$\boxed 5$.", "5"), (r"\boxed {6}", "6")])
def test_the_last_box(solution, gold): assert read_math(dict(problem="?", solution=solution)) == ("?", gold)

@pytest.mark.parametrize("solution", ["none", r"\boxed{1", r"\boxed{}", r"\boxed{{{{{", r"\boxed", r"\boxed{1}\boxed"])
def test_no_box(solution):
    with pytest.raises(ValueError): read_math(dict(problem="?", solution=solution))

def test_options_move_and_the_right_one_keeps_its_letter():
    row = {"Correct Answer": "right\n", **{f"Incorrect Answer {k}": f"wrong {k}" for k in (1, 2, 3)}}
    seen = [read_gpqa(row | {"Question": f" Why {i}? "}) for i in range(40)]
    assert {g for _, g in seen} == set("ABCD") and seen == [read_gpqa(row | {"Question": f" Why {i}? "}) for i in range(40)]
    assert all(q.startswith("Why ") and f"\n{g}) right" in q and q.count("wrong") == 3 for q, g in seen)
    with pytest.raises(ValueError): read_commonsenseqa(dict(question="Why?", choices=dict(label=["A"], text=["so"]), answerKey="B"))
    assert choices("Why?", ["so"]) == "Why?\nA) so"

# private

def test_no_text_about_a_private_set_is_published():
    from corea.lab.experiments import tidy
    import pandas as pd
    secret = "the spin of the third nucleus"
    answers = ["B", secret, None, " C "]
    frame = pd.DataFrame(dict(split="test", dataset=["gpqa"] * 4 + ["calc"], question_id=list("abcde"), sample=0, correct=0, completion=secret,
                              answer=[*answers, secret]))
    out = tidy(frame)
    hidden = out[out.dataset == "gpqa"].to_csv()
    assert secret not in hidden and "sha256:" in hidden and out[out.dataset == "calc"].answer.tolist() == [secret]
    assert out.answer.isna().sum() == 1 and "B" in set(out.answer)
    assert public_text("gpqa", secret) == public_text("gpqa", secret) != public_text("gpqa", secret + ".")
    assert [s.name for s in PUBLISHED.values() if s.private] == [s.name for s in PUBLISHED.values() if s.splits["test"].source.gated] == ["gpqa"]
