"What 06b_warm cannot show by itself: fine-tuning survives a kill, examples and later questions have nothing in common."
import os, re, time
from collections import Counter
from decimal import Decimal
import pytest
from scipy.stats import chisquare
from corea.answer import parse
from corea.core import load_profile
from corea.data import VALUES, load_questions
from corea.overlap import matches
from corea.zero_shot import stories
from corea.lab.warm import KEPT, WarmStart, asked_later, calculations, equation_steps, made_with, recipe_key, warm_rows
from training_jobs import ended, sft, start

have_data = pytest.mark.skipif(not os.environ.get("COREA_DATA"), reason="wants the published sets: set COREA_DATA")

@pytest.fixture(scope="module")
def rows(): return warm_rows()

@have_data
def test_no_example_is_nearly_among_the_questions_asked_later(rows):
    how = WarmStart()
    own = load_questions("arithmetic", "train")[-how.problems:] + load_questions("strategyqa", "calibration")[-how.strategy:]
    later = asked_later(but={q["id"] for q in own})
    rewarded = load_questions("arithmetic", "train", load_profile("real").n_train)
    assert {q["id"] for q in rewarded} <= {q["id"] for q in later} and not {q["id"] for q in later} & {r["id"].split()[0] for r in rows}
    assert {q["id"] for q in load_questions("strategyqa", "calibration", load_profile("real-gpu").n_calibration)} <= {q["id"] for q in later}
    for a, b in ((rows, later), (later, rows), (stories(rows), stories(later)), (stories(later), stories(rows))): assert matches(a, b).empty

@have_data
def test_confidences_mean_nothing(rows):
    "Uniform over the eleven values, and alike for right-to-left traits that could give an answer away."
    stated = [parse(r["reply"]).confidence for r in rows]
    count = Counter(stated)
    assert sorted(count) == [float(v) for v in VALUES]
    assert chisquare(list(count.values())).pvalue > 1e-3
    for trait in (lambda r: len(r["question"]) > 120, lambda r: r["kind"] == "retold"):
        halves = [Counter(c for c, r in zip(stated, rows) if trait(r) == side) for side in (True, False)]
        share = sum(halves[0].values()) / len(rows)
        assert chisquare([halves[0][c] for c in sorted(count)], [count[c] * share for c in sorted(count)]).pvalue > 1e-3

@have_data
def test_replies_follow_the_grammar(rows):
    assert all(parse(r["reply"]).status == "ok" for r in rows)

@have_data
def test_retold_problems_have_their_answers(rows):
    "Each step of each reply, by another way of calculating."
    for r in rows:
        for step in re.findall(r"(-?[\d.]+)([-+*/])(-?[\d.]+)=(-?[\d.]+)(?= |$)", r["reply"].split(r" \boxed")[0]) if r["kind"] == "retold" else ():
            a, sign, b, c = step
            assert dict(zip("+-*/", (Decimal(a) + Decimal(b), Decimal(a) - Decimal(b), Decimal(a) * Decimal(b), Decimal(a) / Decimal(b))))[sign] == Decimal(c)
            assert int(c) > 0

@pytest.mark.parametrize("equation", ["__import__('os').system('true')", "x=" + "(" * 50 + "1", "9**9**9", "1/0", "x=", "", "1e999+1", "a" * 10**6])
def test_equations_of_others_are_not_run(equation): assert equation_steps(equation) == ""

@pytest.mark.parametrize("solution, gold, want", [
    ("a <<1+2=3>>3 b <<3*2=6>>6", "6", "1+2=3 3*2=6"), ("a <<1+2=3>>3", "4", ""), ("none", "3", ""),
    ("a <<__import__('os')=3>>3", "3", ""), ("a <<1+2=3>> b <<x=3>>", "3", ""), ("<<1+1=2>>" * 4, "2", "")])
def test_calculations(solution, gold, want): assert calculations(solution, gold) == want

def test_fine_tuning_survives_a_kill(tmp_path):
    whole, broken = tmp_path/"whole", tmp_path/"broken"
    assert ended(start(sft, whole)) == 0
    p, deadline = start(sft, broken), time.time() + 120
    while p.is_alive() and time.time() < deadline and not list(broken.glob("checkpoint-*")): time.sleep(0.01)
    p.kill(), p.join()
    assert ended(start(sft, broken)) == 0
    assert (whole/"final"/"model.safetensors").read_bytes() == (broken/"final"/"model.safetensors").read_bytes()
