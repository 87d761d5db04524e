"""Twelve sets that a large model has answered: what a broken copy is told, how the splits are drawn, and, where the copies are at hand
(COREA_DATA), every question of them.

The small files are made up, in the form in which the authors publish; real ones are never committed, nor is any answer of the model.
"""
import dataclasses, gzip, hashlib, json, os, random, re, subprocess, sys
from pathlib import Path
import pandas as pd
import pytest
from corea import published, recorded_engine, zero_shot
from corea.answer import parse
from corea.cascade import Cascade
from corea.core import ROOT, CoreaError, digest, load_profile
from corea.data import find_dataset, load_questions, make_tokenizer, public_text
from corea.lab.experiments import collect, identity, run_chain, weights_of
from corea.generate import Completion, Sampling
from corea.grading import grade_all
from corea.lab.grid import chains, size, training
from corea.lab.plan import plan
from corea.published import ORDERED, PUBLISHED, RecordSet, committed, normal
from corea.recorded_engine import LOGS, RecordedAnswer, RecordedEngine, asked_as, pair_up, read_log, recorded_answers
from corea.server import engine_for
from corea.trainer import find_model
from corea.zero_shot import (ANSWERED, ARITHMETIC, ASKED, DEV, FILES, SHARES, SetFile, drawn_apart, read_bigbench, read_mawps, rows_of,
                             split_by_digest, whole_number, without_twins)

def refused(says, f, *args, **kw):
    with pytest.raises(CoreaError, match=says) as e: f(*args, **kw)
    assert "\n" not in str(e.value) and len(str(e.value)) < 400

@pytest.fixture(scope="module")
def all_rows():
    folder = Path(os.environ.get("COREA_DATA") or "none")/"sets"
    if gone := [f.name for f in FILES.values() if not (folder/f.name/f.file).is_file()]:
        pytest.skip(f"no copy of {', '.join(gone)}: set COREA_DATA to a folder with sets/<name>/<file>")
    return {name: rows_of(f) for name, f in FILES.items()}

# --- a file ----------------------------------------------------------------------------------------------------------

GOOD = dict(sQuestion="Ann has 3 cats. How many?", lSolutions=[3.0], lEquations=["X=3.0"])

def toys(folder, text, n=1, sha256=None, **how):
    path = folder/"sets"/"toys"/"toys.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data := text if isinstance(text, bytes) else text.encode())
    source = RecordSet("toys", "no/such", "0" * 40, "", "", "none", (sha256 or hashlib.sha256(data).hexdigest(),), "sets")
    return SetFile(source, "toys.json", n, read_mawps, **how)

@pytest.mark.parametrize("text, n, says", [
    (json.dumps([GOOD]), 2, "has 1 rows, not 2"), ("[", 1, "not JSON"), (b"\xff", 1, "not JSON .UnicodeDecodeError"), ("[" * 100_000, 1, "not JSON"),
    ("3", 1, "no list of rows"), ('{"examples": {}}', 1, "no list of rows"), (json.dumps([GOOD | dict(lSolutions=[])]), 1, "row 0: not as .* .IndexError"),
    (json.dumps([GOOD, 7]), 2, "row 1: not as .* .TypeError"), (json.dumps([GOOD | dict(sQuestion=None)]), 1, "row 0: not as .* .AttributeError"),
    (json.dumps([GOOD | dict(sQuestion="  ")]), 1, "row 0: empty"), (json.dumps([GOOD | dict(lSolutions=[""])]), 1, "row 0: empty")])
def test_a_broken_file_is_refused(tmp_path, monkeypatch, text, n, says):
    monkeypatch.setenv("COREA_DATA", str(tmp_path))
    refused(says, rows_of, toys(tmp_path, text, n))

def test_only_the_pinned_bytes_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("COREA_DATA", str(tmp_path))
    refused("toys.json: not the bytes of the pinned commit", rows_of, toys(tmp_path, json.dumps([GOOD]), sha256="0" * 64))
    monkeypatch.setattr(published, "LARGEST", 20)
    refused("holds more than 20 bytes", rows_of, toys(tmp_path, json.dumps([GOOD])))

def test_neither_a_copy_nor_a_network(tmp_path, monkeypatch):
    import urllib.request
    asked = []
    def urlopen(url, timeout): asked.append(url); raise OSError("no network")
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(published, "ARTIFACTS", tmp_path/"artifacts")
    monkeypatch.setenv("COREA_DATA", str(tmp_path))
    for f in FILES.values():
        refused(f"no sets of {f.name} at hand .OSError.: set COREA_DATA to a folder with sets/{f.name}, or run with a network", rows_of, f)
    assert asked == [f.hub for f in FILES.values()] and all(f.source.commit in u and u.endswith(f.file) for u, f in zip(asked, FILES.values()))
    assert all(len(f.source.commit) == 40 and len(f.source.sha256[0]) == 64 for f in FILES.values())

@pytest.mark.parametrize("x, text", [(39.0, "39"), ("43", "43"), (0.5, "0.5"), ("100", "100"), (10.0, "10"), ("0.05", "0.05"), (1e16, "1e+16")])
def test_a_whole_number(x, text): assert whole_number(x) == text

def test_options_become_letters():
    assert read_bigbench(dict(input="Which? ", target_scores={"one.": 0, "two.": 1})) == ("Which?\nA) one.\nB) two.", "B", "")
    for scores in ({"a": 0}, {"a": 1, "b": 1}):
        with pytest.raises(ValueError, match="right options"): read_bigbench(dict(input="Which?", target_scores=scores))

# --- every question --------------------------------------------------------------------------------------------------

def test_every_row_has_a_question_and_a_gold_answer_of_its_kind(all_rows):
    assert sum(map(len, all_rows.values())) == sum(f.n for f in FILES.values()) == 9706
    for s in ANSWERED.values():
        for split in s.splits:
            rows = s.rows(split)
            assert len(rows) == len({r["id"] for r in rows}) == s.splits[split].n == size(s.name, split, 10**6) > 0
            assert {(r["dataset"], r["domain"], r["kind"]) for r in rows} == {(s.name, s.domain, s.kind)}
            for r in rows:
                if s.kind == "math": assert re.fullmatch(r"-?\d+(\.\d+)?(/\d+)?", r["gold"]), r["id"]
                elif "\nA) " in r["question"]: assert f"\n{r['gold']}) " in r["question"], r["id"]
                elif s.name != "last_letters": assert r["gold"] in ("yes", "no"), r["id"]
                assert bool(r["equation"]) == (r["source"] in ARITHMETIC) and r["private"] == FILES[r["source"]].private

def test_equations_give_the_gold_answers(all_rows):
    "Equations worked out by hand give the gold answers that we read; where they do not, the authors' own row is at odds with itself."
    differ = []
    for name in ("multiarith", "svamp"):
        for r in all_rows[name]:
            text = r["equation"].removeprefix("X=")
            assert re.fullmatch(r"[\d.()+\-*/ ]+", text), r["id"]
            if calculate(text) != pytest.approx(float(r["gold"]), abs=1e-6): differ.append(r["id"])
    assert differ == ["svamp-chal-680"]     # 4 - 2 + 3, and 1 as the answer

def calculate(text):
    "Numbers, brackets and the four operations."
    import ast, operator
    rules = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
    def value(x):
        if isinstance(x, ast.BinOp): return rules[type(x.op)](value(x.left), value(x.right))
        if isinstance(x, ast.UnaryOp): return -value(x.operand)
        return x.value
    return value(ast.parse(text.strip(), mode="eval").body)

def test_ids_and_the_four_parts(all_rows):
    whole = {k: load_questions("arithmetic", k) for k in ("calibration", "test")}
    for k, rows in whole.items():
        parts = [r for name in ARITHMETIC for r in load_questions(name, k)]
        assert {r["id"] for r in parts} == {r["id"] for r in rows} and len(parts) == len(rows)
    ids = {r["id"] for rows in all_rows.values() for r in rows}
    assert {"svamp-chal-12", "multiarith-0007", "gsm8k-0000", "last_letters-0499"} <= ids and len(ids) == 9706

# --- splits ----------------------------------------------------------------------------------------------------------

def test_the_committed_places_are_those_of_the_rule(all_rows):
    pool = [r for name in ARITHMETIC for r in all_rows[name]]
    found = {f"zero_shot/arithmetic/{k}": v for k, v in drawn_apart("arithmetic", pool).items()}
    train = [pool[i] for k in ("train", "dev") for i in found[f"zero_shot/arithmetic/{k}"]]
    for name in FILES.keys() - set(ARITHMETIC):
        found |= {f"zero_shot/{name}/{k}": v for k, v in drawn_apart(name, all_rows[name], train).items()}
    assert found == {k: v for k, v in committed().items() if k not in ORDERED}

def test_no_question_of_one_split_is_in_another(all_rows):
    for s in ANSWERED.values():
        texts = [{normal(r["question"]) for r in s.rows(k)} for k in s.splits]
        if s.name != "arithmetic": assert len(set.union(*texts)) == sum(map(len, texts)), s.name
    train = {normal(r["question"]) for k in ("train", "dev") for r in load_questions("arithmetic", k)}
    assert not any(train & {normal(r["question"]) for r in s.rows(k)} for s in ANSWERED.values() for k in ASKED)
    assert ANSWERED["arithmetic"].splits["dev"].n == DEV

def slow_share(a, b, n=5):
    "The part of one question's runs of words that another has, by plain sets."
    cut = lambda t: re.findall(r"\\[a-z]+|[^\W\d_]+|\d+|[^\w\s$]|_", t.split("\nA) ")[0].casefold())
    runs = lambda t: {tuple(t[i:i + n]) for i in range(len(t) - min(n, len(t)) + 1)}
    a, b = (runs(cut(x)) for x in (a, b))
    return len(a & b) / max(len(a), 1)

def test_what_is_left_has_no_twin_by_a_plain_search(all_rows):
    r = random.Random(0)
    rows = {k: [x["question"] for x in load_questions("arithmetic", k)] for k in ("train", "calibration", "test")}
    for a, b in (("train", "calibration"), ("train", "test"), ("calibration", "test")):
        for x in r.sample(rows[a], 40):
            assert max(max(slow_share(x, y), slow_share(y, x)) for y in rows[b]) < .5, (a, b, x[:40])

def test_twins_go_one_by_one_until_none_is_left():
    rows = [dict(id=f"r{i}", question=q) for i, q in enumerate(["a b c d e f g", "a b c d e f g h i j k l m n o p", "b c d e f g z q", "u v w x y"])]
    assert [r["id"] for r in without_twins(rows, [dict(id="o", question="a b c d e f g")])] == ["r3"]
    assert without_twins(rows, []) == rows and without_twins([], rows) == []

def test_a_digest_deals_by_the_question_alone():
    rows = [dict(id=str(i), question=f"What is {i} and {i}?") for i in range(3000)]
    dealt = split_by_digest(rows, SHARES, "arithmetic")
    assert sorted(int(r["id"]) for v in dealt.values() for r in v) == list(range(3000))
    for k, share in SHARES.items(): assert len(dealt[k]) / 3000 == pytest.approx(share, abs=.03)
    other = split_by_digest([r | dict(id="x" + r["id"], question=f" {r['question'].upper()}\nA) one") for r in reversed(rows[:50])], SHARES, "arithmetic")
    where = {r["id"]: k for k, v in dealt.items() for r in v}
    assert all(where[r["id"][1:]] == k for k, v in other.items() for r in v)

# --- by name ---------------------------------------------------------------------------------------------------------

NAMES = ["arithmetic", *ARITHMETIC, "aqua", "gsm8k-answered", "commonsenseqa-answered", "strategyqa", "date_understanding", "shuffled_objects",
         "coin_flip", "last_letters"]

@pytest.mark.parametrize("first", ["corea.data", "corea.published", "corea.lab.experiments", "corea.trainer"])
def test_a_fresh_process_knows_them_whatever_it_imports_first(first):
    source = (f"import {first}\nfrom corea.data import find_dataset, public_text\n"
              "assert public_text('gpqa', 'a secret text').startswith('sha256:')\n"     # before anybody asked for the set
              f"print(*(find_dataset(n).name for n in {NAMES}), *(find_dataset(n).paper for n in {list(PUBLISHED)}))\n"
              f"import sys\nassert {first == 'corea.trainer' or first == 'corea.lab.experiments'} or 'sklearn' not in sys.modules")
    r = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout.split() == [*NAMES, *(s.paper for s in PUBLISHED.values())], r.stderr

def test_what_was_registered_by_hand_stays():
    source = ("from types import SimpleNamespace\nfrom corea import data\n"
              "data.register(SimpleNamespace(name='aqua', revision='mine'))\ndata.find_dataset('strategyqa')\n"
              "print(data.find_dataset('aqua').revision)")
    r = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout.split() == ["mine"], r.stderr

def test_names_and_what_is_private():
    assert list(ANSWERED) == NAMES and all(find_dataset(n) is ANSWERED[n] for n in NAMES)
    private = {"multiarith", "addsub", "singleeq", "coin_flip", "last_letters"}
    assert {n for n, s in ANSWERED.items() if s.private} == {n for n, f in FILES.items() if f.private} == private
    assert public_text("coin_flip", "no, it is not").startswith("sha256:") and public_text("svamp", "12") == "12"
    assert {n: s.paper for n, s in ANSWERED.items() if s.paper} == {"gsm8k-answered": "GSM8K", "commonsenseqa-answered": "CommonsenseQA"}
    refused("unknown data set 'aqua2'.*gsm8k.*strategyqa", find_dataset, "aqua2")
    refused("svamp has no split 'train': choose one of calibration, test", load_questions, "svamp", "train")

def test_another_place_or_another_file_is_another_revision(monkeypatch):
    before = {n: s.revision for n, s in ANSWERED.items()}
    assert len(set(before.values())) == len(NAMES)
    moved = {k: (v[1:] if k == "zero_shot/arithmetic/test" else v) for k, v in committed().items()}
    monkeypatch.setattr(zero_shot, "committed", lambda: moved)
    changed = {n for n, s in ANSWERED.items() if s.revision != before[n]}
    assert "arithmetic" in changed and len(changed & set(ARITHMETIC)) == 1 and changed <= {"arithmetic", *ARITHMETIC}

# --- the logs --------------------------------------------------------------------------------------------------------

# published accuracy in %: Kojima et al. 2022, as their README and the last lines of their logs have it
ACCURACY = dict(multiarith=78.67, gsm8k=40.71, svamp=62.1, addsub=69.62, singleeq=77.95, aqua=33.46, commonsenseqa=64.62, strategyqa=54.76,
                date_understanding=67.48, shuffled_objects=52.4, coin_flip=91.4, last_letters=57.6)

@pytest.fixture(scope="module")
def logs(all_rows):
    folder = Path(os.environ["COREA_DATA"])/"records"/LOGS.name
    if not folder.is_dir(): pytest.skip(f"no logs: set COREA_DATA to a folder with records/{LOGS.name}")
    return {name: recorded_answers(name) for name in FILES}

@pytest.mark.parametrize("name", ACCURACY)
def test_the_published_accuracy(logs, all_rows, name):
    answers = logs[name]
    assert len(answers) == len(all_rows[name]) == FILES[name].n
    assert round(100 * sum(a.answer == a.gold for a in answers) / len(answers), 2) == ACCURACY[name]

def test_every_question_has_its_own_block(logs, all_rows):
    "By a plain rule of our own: the letters and digits of the two texts are the same, options included."
    plain = lambda q: re.sub(r"\W", "", re.sub(r"Which choice is true \?|Answer Choices:", "", q)).casefold()
    for name, answers in logs.items():
        for r, a in zip(all_rows[name], answers):
            assert plain(r["question"]) == plain(a.question), r["id"]
            assert a.reasoning and a.gold.replace(",", "") == r["gold"], r["id"]

def block(i, answer="5", gold="5", question="What is 2 + 3?", text="It is\nfive."):
    return (f"{i}st data\n1_th_sampling\nQ: {question}\nA: Let's think step by step. {text}\nTherefore, the answer is {answer}.\npred_before :  {answer}.\n"
            f"pred_after : {answer}\npred_list : ['{answer}']\npred_mode : {answer}\nGT : {gold}\n*************************\n")

HEAD = "Namespace(direct_answer_trigger='\\nTherefore, the answer is')\n"

@pytest.mark.parametrize("text, says", [
    ("", "no direct_answer_trigger"), (HEAD, "states an accuracy of None, its blocks give 0"), (HEAD + block(1), "states an accuracy of None"),
    (HEAD + block(1) + "accuracy : 50.0\n", "states an accuracy of 50.0, its blocks give 100"),
    (HEAD + block(1) + block(2)[:-30] + "accuracy : 100.0\n", "block 2: not as its authors"),
    (HEAD + block(1).replace("Therefore", "So") + "accuracy : 100.0\n", "block 1: nobody asks for the answer"),
    (b"\xff", "not UTF-8")])
def test_a_broken_log_is_refused(tmp_path, text, says):
    path = tmp_path/"toys_zero_shot_cot.log.gz"
    path.write_bytes(gzip.compress(text if isinstance(text, bytes) else text.encode()))
    refused(says, read_log, path)

def test_a_block_with_everything_in_it(tmp_path):
    path = tmp_path/"toys.log"
    text = "Q: And then?\nA: \\boxed{7}\nTherefore, the answer is not known"
    path.write_text(HEAD + block(1, question="What?\n\nWhy\nA: or\nQ: so?", text=text) + "accuracy : 100.0\n./log/x.json\n")
    assert read_log(path) == [RecordedAnswer("What?\n\nWhy\nA: or\nQ: so?", text, "Therefore, the answer is 5.", "5", "5")]

def test_pairs_are_whole_on_both_sides():
    row = lambda i, q, gold="1": dict(id=f"r{i}", question=q, gold=gold)
    said = lambda q, answer, gold="1": RecordedAnswer(q, "", "", answer, gold)
    assert [a.answer for a in pair_up([row(0, "a b"), row(1, "c"), row(2, "a  b")], [said("a b", "x"), said("a\nb", "y"), said("c", "z")], "t")] == ["x", "z", "y"]
    refused("question r1 is not in the log", pair_up, [row(0, "a"), row(1, "a")], [said("a", "x")], "t")
    refused("1 answers in the log are to no question", pair_up, [row(0, "a")], [said("a", "x"), said("b", "x")], "t")
    refused("the gold answer of r0 is '1' in the set, '2' in the log", pair_up, [row(0, "a")], [said("a", "x", "2")], "t")
    assert asked_as("a\nA) x\nB) y") != asked_as("a\nA) y\nB) x")

# --- the engine ------------------------------------------------------------------------------------------------------

NAME = "recorded/zero_shot_cot"
TOYS = (RecordedAnswer("What is 2 + 3?", "2 and 3 \\boxed{9} are", "So 5.", "5", "5"), RecordedAnswer("What is 2 + 4?", "It \\boxed{6}", "So it is", "", "6"))

@pytest.fixture
def toy_records(monkeypatch): monkeypatch.setattr(recorded_engine, "recorded_answers", lambda name: TOYS if name == "svamp" else ())

@pytest.fixture
def toy(toy_records): return RecordedEngine(tokenizer=make_tokenizer())

def test_it_says_what_was_recorded_every_time(toy):
    questions = ["What is 2 + 4?", "What  is 2 + 3?"]
    found = list(toy.generate(questions, Sampling(temperature=2.0, max_tokens=1), n=3, seed=7, done=[(1, 0)]))
    assert [(c.index, c.sample) for c in found] == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]
    assert {parse(c.text).answer for c in found if c.index} == {"5"} and len({c.text for c in found if c.index}) == 1
    assert {parse(c.text).answer for c in found if not c.index} == {None}   # no box of the reasoning stands in for an answer that is missing
    for c in found:
        assert isinstance(c, Completion) and c.finish_reason == "stop" and c.token_ids == c.logprobs == () and c.confidence_logprobs is None
        assert parse(c.text).confidence is None and c.prompt_tokens > 20 and c.completion_tokens > 5
    count = lambda text: len(toy.tokenizer(text)["input_ids"])
    assert found[-1].completion_tokens == count(" 2 and 3 \\boxed{9} are\nSo 5.")

def test_what_it_cannot_do_is_told_at_once(toy, toy_records, tmp_path):
    refused(r"question 1 was never asked of recorded text-davinci-002: 'What is 9", toy.generate, ["What is 2 + 3?", "What\nis 9?"])
    refused("cannot be begun", toy.generate, ["What is 2 + 3?"], begun=["It"])
    refused("give tokenizer=", RecordedEngine)
    refused("no recorded model 'recorded/gpt': the only one is", RecordedEngine, "recorded/gpt", toy.tokenizer)
    refused("cannot open the tokenizer", RecordedEngine, NAME, tmp_path)
    refused("it can be llm, not slm", engine_for, load_profile("smoke"), NAME)

def test_the_whole_of_it_through_parser_and_grader(logs, all_rows):
    "What was right stays right; what becomes right is the same number, written otherwise."
    engine = RecordedEngine(tokenizer=make_tokenizer())
    for name, rows in all_rows.items():
        kind = "math" if name in (*ARITHMETIC, "gsm8k") else "exact"
        found = [parse(c.text).answer for c in engine.generate([r["question"] for r in rows])]
        for r, a, y in zip(rows, logs[name], grade_all([(x, r["gold"], kind) for x, r in zip(found, rows)])):
            if y != a.correct: assert y and abs(float(a.answer) - float(a.gold.replace(",", ""))) < 1e-9, r["id"]
    answers = {}
    for a in sum(logs.values(), ()): answers.setdefault(asked_as(a.question), set()).add(a.answer)
    assert max(map(len, answers.values())) == 1     # so it does not matter which of two sets an answer is from

class Small:
    "A small model that is sure of sums with a 3 only."
    def generate(self, questions, sampling=Sampling(), n=1, seed=0, **kw):
        for i, q in enumerate(questions):
            yield Completion(i, 0, f"\\boxed{{5}} \\confidence{{{'0.9' if '3' in q else '0.2'}}}", (), (), 10, 4, "stop", None)

def test_a_cascade_with_it(toy):
    cascade = Cascade(Small(), toy, tau=.5)
    kept, asked = cascade.answer("What is 2 + 3?"), cascade.answer("What is 2 + 4?")
    assert (kept.who, kept.answer, asked.who, asked.answer) == ("slm", "5", "llm", None)
    [c] = toy.generate(["What is 2 + 4?"])
    assert asked.tokens == dict(slm=(10, 4), llm=(c.prompt_tokens, c.completion_tokens))
    unknown = Cascade(Small(), toy, tau=1.1).answer("What is 1?")     # the large model fails: the small one's answer stands
    assert (unknown.who, unknown.answer) == ("slm", "5") and "was never asked" in unknown.why
    with pytest.raises(CoreaError, match="never asked"): Cascade(Small(), toy, tau=1.1, gate=lambda q: True).answer("What is 1?")

# --- in a run --------------------------------------------------------------------------------------------------------

def small_run(**more):
    return load_profile("smoke", **dict(llm=NAME, datasets=("svamp",), train_set="svamp", n_calibration=2, n_test=3, samples=2) | more)

def test_a_configuration_takes_the_name():
    cfg = small_run(train_set="arithmetic")     # which alone has questions to train on
    assert find_model(NAME) == NAME and len(weights_of(NAME)) == 16 and training(cfg, "llm", None) is None
    assert training(dataclasses.replace(cfg, llm_training=dict(steps=1)), "llm", None) is None
    assert chains(cfg)[0][0] == "llm"
    assert identity(cfg, "llm") != identity(dataclasses.replace(cfg, llm="llm"), "llm")
    assert identity(cfg, "llm") != identity(dataclasses.replace(cfg, slm="slm-control"), "llm")     # another tokenizer may count otherwise

def test_a_run_with_it_is_planned(all_rows):
    cfg = small_run(train_set="arithmetic")
    assert "models to train or ask" in plan(cfg) and "hours on" in plan(dataclasses.replace(cfg, device="cuda"))

class NamedAnswers(dict):
    def get(self, question, default=None): return RecordedAnswer(question, "secret words", "So 5.", "5", "5")

def test_only_numbers_of_it_are_kept(monkeypatch, tmp_path):
    "Its answers are graded and counted; neither an answer nor a text goes into a table. Private questions go into nobody's."
    rows = [dict(id=f"t-{i}", question=f"What is {i}?", gold="5", dataset="svamp", domain="in_domain", kind="math", difficulty=0, private=i % 2 == 1) for i in range(3)]
    monkeypatch.setattr(zero_shot.AnsweredSet, "rows", lambda self, split: rows)
    monkeypatch.setattr(recorded_engine, "recorded_answers", lambda name: ())
    engine_for_records = recorded_engine.RecordedEngine.__init__
    def known(self, *args, **kw):
        engine_for_records(self, *args, **kw)
        self.answers = NamedAnswers()
    monkeypatch.setattr(recorded_engine.RecordedEngine, "__init__", known)
    cfg = small_run()
    for name in ("llm", "base"):
        run_chain(cfg, tmp_path/"run", name, None, 0)
        collect(cfg, tmp_path/"run", name, tmp_path/"records")
    f = pd.read_csv(tmp_path/"records"/"llm.csv.gz")
    assert f.correct.all() and f.answer.isna().all() and (f.prompt_tokens > 0).all() and (f.completion_tokens > 0).all() and len(f) == 2 * 5
    assert not (tmp_path/"records"/"texts_llm.csv.gz").exists()
    texts = pd.read_csv(tmp_path/"records"/"texts_base.csv.gz")
    assert texts.question_id.tolist() == ["t-0", "t-2"]
    assert not any(b"secret" in gzip.decompress(p.read_bytes()) for p in (tmp_path/"records").glob("*.gz"))
