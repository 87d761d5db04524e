"What 08_cascade cannot say about itself: the rule, the price and the threshold hold for any input."
import asyncio, hashlib, math, threading, time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np, pandas as pd
import pytest
from hypothesis import given, strategies as st

from corea import server
from corea.cascade import (SCORES, TAUS, TOP, Answer, Cascade, Price, Sweep, Unanswered, break_even, cascade_cost, check_tau, choose_tau,
                           defer, draw, paper_tau, room_in, router_cost, score_of, slider, sweep)
from corea.core import MODELS, CoreaError
from corea.data import load_questions
from corea.generate import Completion, Sampling
from corea.metrics import deferral_curve
from corea.server import ServerEngine
from server import code, half, reset, text
from test_server import Loopback

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
    with pytest.raises(CoreaError, match="its engine gave no completion"): Cascade(Mute(), Says(""), 0.5).answer("What?")


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


# ---- alone, in a batch, in an event loop, in threads, in a table

class Tosses:
    "An engine whose words are made from question and seed alone; some have no answer, some no confidence, some are cut."
    context = 256
    def __init__(self, name): self.name, self.asked, self.lock = name, [], threading.Lock()
    def generate(self, questions, sampling=Sampling(), n=1, seed=0):
        with self.lock: self.asked.append(list(questions))
        for i, q in reversed(list(enumerate(questions))):
            coin = int(hashlib.sha256(f"{self.name} {q} {seed}".encode()).hexdigest(), 16)
            text = ("" if coin % 7 == 0 else rf"\boxed{{{coin % 5}}}") + ("" if coin % 11 == 0 else rf" \confidence{{0.{coin % 10}}}")
            yield Completion(i, 0, text, (), (-(coin % 13) / 10,), len(q), coin % 90 + 1, "length" if coin % 17 == 0 else "stop", None)


@pytest.mark.parametrize("score", ["stated", "avg_prob"])
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30, unique=True), st.integers(0, 10**6), st.sampled_from([0, .3, .5, .85, 1.1]))
def test_live_batch_and_table_decide_alike(score, numbers, seed, tau):
    questions, slm, llm = [f"{x} + 1?" for x in numbers], Tosses("slm"), Tosses("llm")
    cascade = Cascade(slm, llm, tau, score=score)
    batch = cascade.answers(questions, seed)
    assert slm.asked == [questions] and llm.asked == [[q for q, a in zip(questions, batch) if a.who == "llm"]][:len(llm.asked)]
    assert batch == [cascade.answer(q, seed) for q in questions]
    table = {e.name: sorted(e.generate(questions, seed=seed), key=lambda c: c.index) for e in (slm, llm)}
    d = defer([score_of(c, score) for c in table["slm"]], tau)
    assert [a.who == "llm" for a in batch] == list(d)
    assert [a.text for a in batch] == [table["llm" if x else "slm"][i].text for i, x in enumerate(d)]
    cost = {k: np.array([getattr(Price(), k)(c.prompt_tokens, c.completion_tokens) for c in cs]) for k, cs in table.items()}
    assert [a.cost for a in batch] == pytest.approx(cascade_cost(d, cost["slm"], cost["llm"]))


def test_over_servers_too_seed_by_seed():
    questions = [f"{i} + 1?" for i in range(30)]
    with Loopback() as slm, Loopback() as llm, ServerEngine(slm.url) as a, ServerEngine(llm.url) as b:
        cascade = Cascade(a, b, .5)
        for seed in range(4):
            batch = cascade.answers(questions, seed)
            with ThreadPoolExecutor(8) as pool: assert list(pool.map(cascade.answer, questions, [seed] * 30)) == batch
            async def many(): return await asyncio.gather(*(cascade.aanswer(q, seed) for q in questions))
            assert asyncio.run(many()) == batch
            table = sorted(a.generate(questions, cascade.models.sampling["slm"] or room_in(a), seed=seed), key=lambda c: c.index)
            assert [x.who == "llm" for x in batch] == list(defer([score_of(c) for c in table], .5))
            assert {x.who for x in batch} == {"slm", "llm"}
        assert len(slm.lines) < sum(slm.asked.values()) / 4 and slm.bodies[0]["max_tokens"] == 4096      # connections are kept


def test_a_miniature_decides_alike_in_a_batch():
    questions = [q["question"] for q in load_questions("calc", "dev", 8)]
    with Cascade(MODELS/"slm", MODELS/"llm", .8, score="expected", sampling=Sampling(0)) as cascade:
        batch, alone = cascade.answers(questions), [cascade.answer(q) for q in questions]
        assert [(a.who, a.text) for a in batch] == [(a.who, a.text) for a in alone] and {a.who for a in batch} == {"slm", "llm"}
        engine = cascade.engine("slm")
    assert not hasattr(engine, "model") and cascade.engines == dict(slm=MODELS/"slm", llm=MODELS/"llm")


# ---- what fails, and when

LOW, HIGH = r"\boxed{7} \confidence{0.3}", r"\boxed{8} \confidence{1.0}"

class Never:
    "A server that hangs."
    def __init__(self): self.futures = []
    def generate(self, *a, **kw): raise AssertionError("not asked so")
    def submit(self, *a):
        self.futures.append(Future())
        return self.futures[-1]

class Sleeps(Says):
    "A model in memory that takes its time."
    def generate(self, *a, **kw):
        time.sleep(3)
        yield from super().generate(*a, **kw)

class Refuses:
    def generate(self, *a, **kw): yield Completion(0, 0, "", (), (), 10, 20, "content_filter", None)

class Breaks:
    def generate(self, *a, **kw): raise RuntimeError("out of memory")

FAILURES = {"down": (Down, "server gone"), "hangs": (Never, "no answer by the deadline"), "refuses": (Refuses, "refused"), "breaks": (Breaks, "out of memory"), "is none": (lambda: "/no/such/checkpoint", "/no/such/checkpoint")}

@pytest.mark.parametrize("failure", FAILURES)
def test_what_the_small_model_was_paid_for_comes_back(failure):
    make, says = FAILURES[failure]
    kw = dict(deadline=1) if failure == "hangs" else {}
    a = Cascade(Says(LOW), make(), .5, **kw).answer("What?")
    assert (a.answer, a.who) == ("7", "slm") and says in a.failed and says in a.why and a.score == .3
    assert a.cost == pytest.approx(90 * (1 + 32 / 7 * (failure == "refuses")))       # a refusal in a 200 is paid for
    assert asyncio.run(Cascade(Says(LOW), make(), .5, **kw).aanswer("What?")) == a
    assert Cascade(Says(LOW), make(), .5, **kw).answers(["What?"]) == [a]
    with pytest.raises(Unanswered, match=says) as e: Cascade(Says(LOW), make(), .5, on_failure="raise", **kw).answer("What?")
    assert e.value.answer == a
    with pytest.raises(Unanswered, match=says) as e: Cascade(Says(r"\confidence{0.3}"), make(), .5, **kw).answer("What?")
    assert e.value.answer.answer is None and e.value.answer.tokens["slm"] == (10, 20)
    with pytest.raises(Unanswered, match=says): Cascade(Says(LOW), make(), .5, gate=lambda q: True, **kw).answer("What?")

def test_a_model_in_memory_that_takes_too_long_is_not_waited_for():
    release = threading.Event()
    class Stuck(Says):
        def generate(self, *a, **kw):
            release.wait(60)
            yield from super().generate(*a, **kw)
    a = Cascade(Says(LOW), Stuck(HIGH), .5, deadline=2).answer("What?")
    release.set()
    assert (a.answer, a.who, a.failed) == ("7", "slm", "no answer by the deadline")

def test_whoever_stops_waiting_pays_for_no_more():
    never = Never()
    cascade = Cascade(Says(LOW), never, .5)
    async def walk_away():
        waiting = asyncio.create_task(cascade.aanswer("What?"))
        while not never.futures: await asyncio.sleep(.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError): await waiting
    asyncio.run(walk_away())
    assert [f.cancelled() for f in never.futures] == [True]
    cascade.answer("What?", deadline=1)
    assert [f.cancelled() for f in never.futures] == [True, True]
    slow = Sleeps(LOW)      # one pass at a time: who gives up while it waits is not asked at all
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(Cascade(slow, Says(HIGH), .5).answer, "What?", 0, 1) for _ in range(4)]
        assert all(isinstance(j.exception(), Unanswered) for j in jobs)
    time.sleep(4)
    assert len(slow.asked) == 1

def test_one_spoilt_question_spoils_no_other():
    class Picky(Says):
        def generate(self, questions, *a, **kw):
            self.asked.append(questions)
            if any("bad" in q for q in questions): raise CoreaError("too long")
            for i, q in enumerate(questions): yield Completion(i, 0, self.text, (), (), 10, 20, "stop", None)
    questions = [f"{'bad' if i in (3, 12) else 'good'} {i}" for i in range(20)]
    with pytest.raises(Unanswered, match="question 3: too long .2 of 20") as e: Cascade(slm := Picky(HIGH), Says(HIGH), .5).answers(questions)
    assert [a and a.answer for a in e.value.answers] == [None if i in (3, 12) else "8" for i in range(20)] and len(slm.asked) < 20
    found = Cascade(Picky(LOW.replace("7", "1")), Picky(HIGH), .5, gate=lambda q: False).answers([q for q in questions if "good" in q])
    assert {a.who for a in found} == {"llm"}
    kept = Cascade(Tosses("x"), Picky(HIGH), 1.1).answers([q for q in questions if Cascade(Tosses("x"), Says(HIGH), 0).answer(q).who == "slm"])
    assert [bool(a.failed) for a in kept] == [False if "good" in q else True for q in questions if Cascade(Tosses("x"), Says(HIGH), 0).answer(q).who == "slm"]

def test_what_is_cut_before_its_confidence_is_told_once(caplog):
    class Cut(Says):
        def generate(self, questions, *a, **kw):
            for i, q in enumerate(questions): yield Completion(i, 0, self.text, (), (), 10, 96, "length", None)
    found = Cascade(Cut(r"so \boxed{7}"), Cut("first"), .5).answers(["What?"] * 3)
    assert {a.why for a in found} == {"cut off after 96 tokens, no confidence: deferred; the LLM was cut off after 96 tokens"}
    assert [r.getMessage().split(" was")[0] for r in caplog.records] == ["the slm", "the llm"] and "max_tokens" in caplog.text
    assert Cascade(Cut(HIGH), Says(HIGH), .5).answer("What?").why == "1 reaches the threshold 0.5: kept"    # it had said all

def test_each_model_has_its_own_sampling():
    class Notes(Says):
        def generate(self, questions, sampling, n=1, seed=0):
            self.sampling = sampling
            yield from super().generate(questions, sampling, n, seed)
    for given, want in ((None, (100, 4096)), (Sampling(max_tokens=7), (7, 7)), (dict(llm=Sampling(max_tokens=9)), (100, 9))):
        slm, llm = Notes(LOW), Notes(HIGH)
        slm.context, llm.context = 201, 10**6
        Cascade(slm, llm, .5, sampling=given).answer("What?")
        assert (slm.sampling.max_tokens, llm.sampling.max_tokens) == want
    for bad in (96, dict(large=Sampling()), dict(slm=96)):
        with pytest.raises(CoreaError, match="sampling is"): Cascade(slm, llm, .5, sampling=bad)

@pytest.mark.parametrize("kw", [dict(deadline=0), dict(deadline=True), dict(deadline="5"), dict(on_failure="wait")])
def test_settings_that_make_no_sense(kw):
    with pytest.raises(CoreaError, match=next(iter(kw))): Cascade(Says(LOW), Says(HIGH), .5, **kw)

def test_many_questions_are_a_list_of_texts():
    cascade = Cascade(slm := Says(HIGH), Says(HIGH), .5)
    assert cascade.answers([]) == []
    for bad in ("What?", ["What?", ""], ["a\ud800"]):
        with pytest.raises(CoreaError): cascade.answers(bad)
    assert not slm.asked

def test_a_cascade_may_be_the_small_model_of_another():
    class Inner:
        def __init__(self): self.cascade = Cascade(Says(LOW), Says(HIGH), .5)
        def generate(self, questions, sampling=None, n=1, seed=0):
            for i, a in enumerate(self.cascade.answers(questions, seed)): yield Completion(i, 0, a.text, (), (), 10, 20, "stop", None)
    assert Cascade(Inner(), Says("7"), .9).answer("What?", deadline=60).answer == "8"


# ---- a storm

PASSING = [code(503), code(429, retry_after_ms="5"), code(500), reset, half, text(b"<html>"), text(b'{"error": {"message": "overloaded", "code": 503}}')]
LASTING = [code(400), code(401), text(b'{"error": "filtered"}')]

def fault(question, n):
    "A third of all requests fails: most for a moment, some for good, and one in fifty hangs."
    roll = int(hashlib.sha256(f"{question} {n}".encode()).hexdigest(), 16)
    if roll % 50 == 0: return lambda h: time.sleep(60)
    return (PASSING * 3 + LASTING)[roll // 50 % 24] if roll % 3 == 0 else None

def fate(question):
    "What comes of asking until it answers: the server's answer, hanging, or a fault that lasts."
    last = next(f for n in range(1, 99) if (f := fault(question, n)) not in PASSING)
    return "good" if last is None else "bad" if last in LASTING else "hangs"

def test_a_hundred_threads_in_a_storm(monkeypatch):
    "Every request ends in an answer or one clear error, by its deadline if it has one, and no answer is paid for twice."
    monkeypatch.setattr(server.JITTER, "uniform", lambda a, b: .02)
    questions = [f"What is {i} + 1?" for i in range(300)]
    fates = {q: (fate(q), fate(q[::-1])) for q in questions}
    with Loopback(faults=fault) as small, Loopback(faults=lambda q, n: fault(q[::-1], n)) as large, ThreadPoolExecutor(100) as pool:
        slm, llm = ServerEngine(small.url, "m"), ServerEngine(large.url, "m")
        cascade = Cascade(slm, llm, .5)
        def one(q):
            begun = time.monotonic()
            try: return cascade.answer(q, deadline=4 if "hangs" in fates[q] else None)
            except CoreaError as e: return e
            finally: assert time.monotonic() - begun < 45 or "hangs" not in fates[q]
        found = dict(zip(questions, pool.map(one, questions)))
    said = {q: x if isinstance(x, Answer) else x.answer for q, x in found.items()}      # an error carries what was paid for
    for q, x in found.items():
        if fates[q] == ("good", "good"): assert isinstance(x, Answer) and not x.failed
        elif fates[q] == ("good", "bad"): assert x.failed or x.who == "slm" if isinstance(x, Answer) else said[q].answer is None
        elif fates[q][0] != "good": assert isinstance(x, CoreaError) and "\n" not in str(x) and said[q] is None
    assert {"good good", "good bad", "bad good", "hangs good"} <= {" ".join(f) for f in fates.values()} and {a.who for a in said.values() if a} == {"slm", "llm"}
    for double, engine, who in ((small, slm, "slm"), (large, llm, "llm")):
        assert max(double.paid.values()) == 1 and engine.paid.answers <= sum(double.paid.values()) and not engine.paid.untold
        for q, a in said.items():       # what was paid for is told, unless it came after the deadline
            if "hangs" not in fates[q]: assert bool(a and who in a.tokens) == bool(double.paid[q])
