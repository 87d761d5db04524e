"Training questions in the tests: planted ones are found, others are not, and the sparse product agrees with counting by hand."
import os, random
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
from corea.core import CoreaError
from corea.data import load_questions
from corea.overlap import matches, overlap, runs, tokens
from corea.published import PUBLISHED

def asked(texts, name="q"): return [dict(id=f"{name}{i}", question=t) for i, t in enumerate(texts)]

WORDS = st.sampled_from(["ann", "has", "3", "12", "coins", "\\frac", "{", "}", "."])
QUESTIONS = st.lists(st.lists(WORDS, max_size=14).map(" ".join), min_size=1, max_size=8)

@settings(max_examples=60, deadline=None)
@given(QUESTIONS, QUESTIONS, st.integers(1, 6), st.integers(1, 9), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_agrees_with_counting_by_hand(train, test, n, block, threshold):
    got = matches(asked(train, "a"), asked(test, "b"), n, threshold, block)
    share = lambda q, t: len(set(runs(q, n)) & set(runs(t, n))) / max(len(set(runs(q, n))), 1)
    best = {f"b{i}": max(1.0 if tokens(q) == tokens(t) else share(q, t) for t in train) for i, q in enumerate(test)}
    exact = {f"b{i}" for i, q in enumerate(test) if any(tokens(q) == tokens(t) for t in train)}
    want = {k: v for k, v in best.items() if k in exact or v >= threshold}
    assert dict(zip(got.test, got.share)) == pytest.approx(want, abs=1e-6) and set(got.test[got.exact]) == exact
    by_id = {q["id"]: q["question"] for q in asked(train, "a")}
    for r in got.itertuples():      # the training question that is named has that share
        q = test[int(r.test[1:])]
        assert tokens(by_id[r.train]) == tokens(q) if r.exact else share(q, by_id[r.train]) == pytest.approx(r.share, abs=1e-6)

def test_planted_near_duplicates_of_the_miniature_are_found():
    r = random.Random(0)
    test = load_questions("queue", "test", 60)
    def plant(q):
        words = q["question"].split("\nA) ")[0].split()
        words[r.randrange(len(words))] = "suddenly"
        return " ".join(words).upper()
    planted = {q["id"]: plant(q) for q in r.sample(test, 20)}
    train = load_questions("calc", "train", 300) + [dict(id=f"planted-{i}", question=t) for i, t in planted.items()]
    found = matches(train, test, threshold=0.7)
    assert set(planted) <= set(found.test) and all(t == f"planted-{i}" for i, t in zip(found.test, found.train) if i in planted)
    assert not found.exact.any() and not len(matches(load_questions("calc", "train", 300), test))

def test_written_otherwise_is_the_same_question():
    train = asked(["Find  $x$ if\n$x^2 = 4$.", "Where is it?\nA) here\nB) there", "Where is it?\nA) there\nB) here"])
    found = matches(train, asked(["find $X$ if $x^2=4$ .", "WHERE is it?", "x", "  "], "t"))
    assert found.values.tolist() == [["t0", "q0", 1.0, True], ["t1", "q1", 1.0, True]]

def test_a_table_quotes_no_question():
    secret = "the spin of the third nucleus is measured twice"
    table = overlap(dict(a=asked([secret])), dict(b=asked([secret, "Something else altogether, of no kin."], "t")))
    assert table[["questions", "exact", "near"]].values.tolist() == [[2, 1, 0]] and "spin" not in table.to_csv() and "t0 ~ q0" in table.to_csv()

@pytest.mark.parametrize("train, test", [([], ["x"]), (["x"], [])])
def test_nothing_to_compare(train, test):
    with pytest.raises(CoreaError, match="no questions to compare"): matches(asked(train), asked(test))

def test_real_sets_share_no_question():
    root = Path(os.environ.get("COREA_DATA") or "none")/"sets"
    here = {n: load_questions(n, "test") for n in PUBLISHED if (root/n/"test.jsonl").is_file()}
    if len(here) < 2: pytest.skip("fewer than two real sets: set COREA_DATA to a folder with sets/<name>/test.jsonl")
    for a in here:
        table = overlap({a: here[a]}, {b: here[b] for b in here if b != a})
        assert not table.exact.any() and not table.near.any(), table.to_string()
        assert len(matches(here[a], here[a])) == len(here[a])
