"""Twelve sets that a large model has answered: what a broken copy is told, how the splits are drawn, and, where the copies are at hand
(COREA_DATA), every question of them.

The small files are made up, in the form in which the authors publish; real ones are never committed, nor is any answer of the model.
"""
import hashlib, json, os, random, re, subprocess, sys
from collections import Counter
from pathlib import Path
import pytest
from corea import published, zero_shot
from corea.core import ROOT, CoreaError
from corea.data import find_dataset, load_questions, public_text
from corea.plan import size
from corea.published import ORDERED, RecordSet, committed, normal
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

@pytest.mark.parametrize("first", ["corea.data", "corea.published", "corea.experiments", "corea.trainer"])
def test_a_fresh_process_knows_them_whatever_it_imports_first(first):
    source = (f"import {first}\nfrom corea.data import find_dataset, public_text\n"
              "assert public_text('gpqa', 'a secret text').startswith('sha256:')\n"     # before anybody asked for the set
              f"print(*(find_dataset(n).name for n in {[*NAMES, 'gsm8k', 'gpqa']}))\n"
              f"import sys\nassert {first == 'corea.trainer' or first == 'corea.experiments'} or 'sklearn' not in sys.modules")
    r = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout.split() == [*NAMES, "gsm8k", "gpqa"], r.stderr

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
