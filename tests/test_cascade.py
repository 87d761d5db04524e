"What 08_cascade cannot say about itself: the rule, the price and the threshold hold for any input."
import math

import numpy as np, pandas as pd
import pytest
from hypothesis import given, strategies as st

from corea.cascade import (SCORES, TAUS, TOP, Answer, Cascade, Price, Sweep, break_even, cascade_cost, check_tau, choose_tau,
                           defer, draw, paper_tau, router_cost, slider, sweep)
from corea.core import CoreaError
from corea.generate import Completion, Sampling
from corea.metrics import deferral_curve

tau_values = st.floats(0, TOP)
confidence = st.one_of(st.none(), st.just(math.nan), st.floats(0, 1))
rows = st.lists(st.tuples(confidence, st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(st.lists(confidence, max_size=20), tau_values)
def test_array_and_scalar_rule_agree(c, tau):
    d = defer(c, tau)
    assert d.dtype == bool and d.shape == (len(c),)
    assert list(d) == [defer(x, tau) for x in c]
    assert all(isinstance(defer(x, tau), bool) for x in c)


@given(confidence, tau_values)
def test_rule(c, tau):
    assert defer(c, tau) == (c is None or math.isnan(c) or c < tau)


@given(st.floats(0, 1))
def test_ends_of_the_range(c):
    assert not defer(c, 0) and defer(c, TOP)


@given(st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1.1000001), st.just(math.nan), st.none(), st.text(), st.booleans()))
def test_bad_tau_is_one_clear_line(tau):
    for f in (lambda: check_tau(tau), lambda: defer(0.5, tau), lambda: Cascade(None, None, tau)):
        with pytest.raises(CoreaError) as e: f()
        assert "\n" not in str(e.value) and "0" in str(e.value) and "1.1" in str(e.value)


@given(rows, tau_values)
def test_costs_agree_with_the_curve_of_the_metrics(table, tau):
    "The cost function and the curve that the tables use are one rule written twice; they may not drift apart."
    c = [math.nan if x is None else x for x, *_ in table]
    slm_right, llm_right = ([r[k] for r in table] for k in (1, 2))
    slm, llm, router = (np.arange(len(table)) + k for k in (1.0, 10.0, 3.0))
    d = defer(c, tau)
    curve = deferral_curve(c, slm_right, llm_right, slm, llm, [tau])
    assert curve["cost"][0] == pytest.approx(cascade_cost(d, slm, llm).mean())
    assert curve["llm_share"][0] == pytest.approx(d.mean())
    assert curve["pass1"][0] == pytest.approx(np.where(d, llm_right, slm_right).mean())
    routed = deferral_curve(c, slm_right, llm_right, router + slm, llm - slm, [tau])
    assert routed["cost"][0] == pytest.approx(router_cost(d, router, slm, llm).mean())


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_break_even(slm, llm):
    assert slm + break_even(slm, llm) * llm == pytest.approx(llm)


@given(st.integers(0, 4096), st.integers(0, 4096))
def test_price_depends_on_the_size_ratio_only(n, m):
    assert Price().slm(n, m) == n + 4 * m
    assert Price().llm(n, m) == pytest.approx(Price(slm_size=14, llm_size=64).llm(n, m))


@pytest.mark.parametrize("field", ["slm_size", "llm_size", "output_ratio"])
@pytest.mark.parametrize("bad", [0, -1, math.inf, math.nan, "7", None])
def test_bad_price(field, bad):
    with pytest.raises(CoreaError, match=field): Price(**{field: bad})


@given(rows, st.floats(0, 1))
def test_chosen_tau_keeps_its_promise_on_calibration(table, max_drop):
    c, slm, llm = map(list, zip(*table))
    tau = choose_tau(c, slm, llm, max_drop=max_drop)
    scores = sorted({x for x in c if x is not None and not math.isnan(x)})
    assert tau in [*scores, TOP]
    def loss(t): return np.mean(llm) - np.where(defer(c, t), llm, slm).mean()
    assert all(loss(t) <= max_drop + 1e-8 for t in [*scores, TOP] if t >= tau)
    below = [s for s in scores if s < tau]
    if below: assert loss(below[-1]) > max_drop


@given(rows)
def test_a_larger_allowance_never_raises_tau(table):
    c, slm, llm = map(list, zip(*table))
    taus = [choose_tau(c, slm, llm, max_drop=d) for d in (0, 0.1, 0.5, 1)]
    assert taus == sorted(taus, reverse=True)
    assert taus[-1] == min([x for x in c if x is not None and not math.isnan(x)], default=TOP)


def world(n, seed=0):
    r = np.random.default_rng(seed)
    q = r.random(n)
    return q, r.random(n) < q, r.random(n) < 0.9


def test_level_is_monotone_and_reproducible():
    q, slm, llm = world(400)
    taus = [choose_tau(q, slm, llm, max_drop=0.03, level=l, n_boot=200) for l in (0.1, 0.5, 0.9, 0.99)]
    assert taus == sorted(taus)
    assert choose_tau(q, slm, llm, max_drop=0.03, level=0.9, n_boot=200) == taus[2]


def test_samples_of_a_question_are_resampled_together():
    "Copies of a row are no new information: with ids the safe threshold stays, without them it grows bold."
    q, slm, llm = (np.repeat(x, 8) for x in world(100))
    ids = np.repeat(np.arange(100), 8)
    kw = dict(max_drop=0.03, level=0.95, n_boot=400)
    one = choose_tau(q[::8], slm[::8], llm[::8], question_ids=ids[::8], **kw)
    assert choose_tau(q, slm, llm, question_ids=ids, **kw) == pytest.approx(one, abs=0.05)
    assert choose_tau(q, slm, llm, **kw) < choose_tau(q, slm, llm, question_ids=ids, **kw)


@pytest.mark.parametrize("kw, what", [(dict(max_drop=-0.1), "max_drop"), (dict(max_drop=math.nan), "max_drop"),
                                      (dict(level=1.0), "level"), (dict(level=0), "level")])
def test_bad_settings(kw, what):
    with pytest.raises(CoreaError, match=what): choose_tau([0.5], [1], [1], **kw)


def test_all_missing_defers_everything():
    assert choose_tau([None, math.nan], [1, 0], [1, 1]) == TOP
    with pytest.raises(CoreaError): paper_tau([])


@given(rows)
def test_sweep_ends(table):
    c, slm, llm = map(list, zip(*table))
    cost = np.ones(len(c))
    s = sweep([math.nan if x is None else x for x in c], slm, llm, cost, 5 * cost)
    assert isinstance(s, Sweep)
    assert s.at(TOP)["pass1"] == pytest.approx(np.mean(llm)) and s.at(TOP)["cost"] == pytest.approx(6)
    assert s.at(0)["llm_share"] == pytest.approx(np.mean([x is None or math.isnan(x) for x in c]))
    assert (np.diff(s.curve["llm_share"]) >= -1e-12).all()
    assert s.at(0.3)["tau"] == 0.3


def test_taus_are_the_decimals_they_look_like():
    assert all(t == float(f"{t:.2f}") for t in TAUS) and TAUS[0] == 0 and TAUS[-1] == TOP
    assert not defer(0.7, TAUS[70])


def test_pictures():
    q, slm, llm = world(60)
    s = sweep(q, slm, llm, np.ones(60), np.full(60, 5.0))
    assert len(draw({"a": s, "b": s}, 0.5).axes) == 3
    with pytest.raises(CoreaError): slider({"a": s}, 3)
    box = slider({"a": s}, 0.5)
    knob, rows = box.children[:2]
    before = rows.value
    knob.value = 0.9
    assert rows.value != before and f"{s.at(0.9)['llm_share']:.0%} deferred" in rows.value


class Says:
    "An engine with one thing to say, which counts how often it is asked."
    def __init__(self, text, logprobs=None): self.text, self.asked, self.dial = text, [], logprobs
    def generate(self, questions, sampling=Sampling(), n=1, seed=0):
        self.asked.append((questions, seed))
        yield Completion(0, 0, self.text, (1, 2), (math.log(0.5), 0.0), 10, 20, "stop", self.dial)


@pytest.mark.parametrize("text, tau, who", [
    (r"\boxed{7} \confidence{0.9}", 0.9, "slm"), (r"\boxed{7} \confidence{0.9}", 0.91, "llm"), (r"\boxed{7}", 0, "llm"),
    (r"\boxed{7} \confidence{nan}", 0, "llm"), (r"\boxed{7} \confidence{1.0}", 1.1, "llm"), ("", 0.5, "llm")])
def test_live(text, tau, who):
    slm, llm = Says(text), Says(r"\boxed{8} \confidence{1.0}")
    a = Cascade(slm, llm, tau).answer("What?", seed=3)
    assert isinstance(a, Answer) and a.who == who
    assert slm.asked == [(["What?"], 3)] and llm.asked == ([(["What?"], 3)] if who == "llm" else [])
    assert a.answer == ("8" if who == "llm" else "7") and set(a.tokens) == ({"slm", "llm"} if who == "llm" else {"slm"})
    assert a.cost == pytest.approx(90 + (90 * 32 / 7 if who == "llm" else 0))
    assert defer(a.score, tau) == (who == "llm")
    assert ("deferred" if who == "llm" else "kept") in a.why and a._repr_markdown_()


def test_live_scores():
    dial = {"0.0": math.log(0.5), "1.0": math.log(0.5)}
    slm, llm = Says(r"\boxed{7} \confidence{1.0}", dial), Says(r"\boxed{8} \confidence{1.0}")
    score = {s: Cascade(slm, llm, 0.8, score=s).answer("What?").score for s in SCORES}
    assert score == pytest.approx(dict(stated=1.0, expected=0.5, avg_prob=0.75))
    assert Cascade(slm, llm, 0.8, score=lambda c: 0.8).answer("What?").who == "slm"
    assert Cascade(Says("7"), llm, 0.1, score="expected").answer("What?").score is None


@pytest.mark.parametrize("shut", [True, False])
def test_gate(shut):
    slm, llm, seen = Says(r"\boxed{7} \confidence{1.0}"), Says(r"\boxed{8} \confidence{0.2}"), []
    a = Cascade(slm, llm, 0.5, gate=lambda q: seen.append(q) or shut).answer("What?", seed=3)
    assert seen == ["What?"] and (len(slm.asked), len(llm.asked)) == ((0, 1) if shut else (1, 0))
    assert (a.who, a.answer, a.confidence) == (("llm", "8", 0.2) if shut else ("slm", "7", 1.0))
    assert (a.score is None) == shut and set(a.tokens) == {a.who}
    assert a.cost == pytest.approx(90 * (32 / 7 if shut else 1)) and a._repr_markdown_()
    with pytest.raises(CoreaError, match="gate is 'long'"): Cascade(slm, llm, 0.5, gate="long")


@pytest.mark.parametrize("said", [0.9, 1, "no", None, np.array([True]), math.nan])
def test_a_gate_says_yes_or_no(said):
    slm, llm = Says(r"\boxed{7} \confidence{1.0}"), Says(r"\boxed{8} \confidence{1.0}")
    with pytest.raises(CoreaError, match="the gate says"): Cascade(slm, llm, 0.5, gate=lambda q: said).answer("What?")
    assert not slm.asked and not llm.asked
    assert Cascade(slm, llm, 0.5, gate=lambda q: np.bool_(True)).answer("What?").who == "llm"


@pytest.mark.parametrize("said", ["sure", [0.9], np.array([0.9])])
def test_a_score_is_a_number(said):
    with pytest.raises(CoreaError, match="the score says"): Cascade(Says(r"\boxed{7}"), Says("8"), 0.5, score=lambda c: said).answer("What?")
    assert Cascade(Says(r"\boxed{7}"), Says("8"), 0.5, score=lambda c: np.float32(0.9)).answer("What?").who == "slm"


def test_llm_is_not_touched_until_needed():
    a = Cascade(Says(r"\boxed{7} \confidence{1.0}"), "/no/such/checkpoint", 0.5).answer("What?")
    assert a.who == "slm"
    with pytest.raises(CoreaError, match="/no/such/checkpoint"):
        Cascade(Says(""), "/no/such/checkpoint", 0.5).answer("What?")


@pytest.mark.parametrize("question", ["", "  ", None, 7, ["What?"]])
def test_bad_question(question):
    with pytest.raises(CoreaError, match="give a text"): Cascade(Says(""), Says(""), 0.5).answer(question)


class Down:
    "An engine whose server is away."
    def generate(self, *a, **kw):
        raise CoreaError("server gone")
        yield


def test_the_small_models_answer_outlives_the_large_model():
    a = Cascade(Says(r"\boxed{7} \confidence{0.3}"), Down(), 0.5).answer("What?")
    assert (a.answer, a.who) == ("7", "slm") and "server gone" in a.why and "below the threshold" in a.why
    for text, gate in ((r"\confidence{0.3}", None), (r"\boxed{7} \confidence{0.3}", lambda q: True)):     # nothing there to give
        with pytest.raises(CoreaError, match="server gone"): Cascade(Says(text), Down(), 0.5, gate=gate).answer("What?")


@pytest.mark.parametrize("text", [r"I think so. \confidence{0.9}", r"\boxed{} \confidence{0.9}"])
def test_a_confidence_without_an_answer_is_deferred(text):
    a = Cascade(Says(text), Says(r"\boxed{8} \confidence{0.4}"), 0.5).answer("What?")
    assert (a.who, a.answer, a.why) == ("llm", "8", "no answer: deferred")


def test_an_engine_that_says_nothing_is_told():
    class Mute:
        def generate(self, *a, **kw): return iter(())
    with pytest.raises(CoreaError, match="slm's engine gave no completion"): Cascade(Mute(), Says(""), 0.5).answer("What?")


def test_model_text_is_shown_as_text():
    evil = "<script>x</script> [a](http://evil) ![](http://evil/t.png) $x$"
    shown = Cascade(Says(rf"\boxed{{{evil}}} \confidence{{0.9}}"), Says(""), 0.5).answer("What?")._repr_markdown_()
    assert not any(mark in shown for mark in ("<", "](", "![", "$", "http://"))


def test_threads_get_what_one_thread_gets():
    from concurrent.futures import ThreadPoolExecutor
    class Busy(Says):
        inside = 0
        def generate(self, questions, *a, **kw):
            self.inside += 1
            assert self.inside == 1, "two threads in one model"
            try: yield from super().generate(questions, *a, **kw)
            finally: self.inside -= 1
    cascade = Cascade(Busy(r"\boxed{7} \confidence{0.9}"), Says(""), 0.5)
    with ThreadPoolExecutor(8) as pool: answers = list(pool.map(cascade.answer, map(str, range(40))))
    assert {a.answer for a in answers} == {"7"}


@pytest.mark.parametrize("missing", [pd.NA, None, np.nan, float("nan")])
def test_whatever_stands_for_missing_is_deferred(missing):
    assert defer(missing, 0.5) is True and defer([0.9, missing], 0.5).tolist() == [False, True]
