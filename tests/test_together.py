"What 08d_together cannot say about itself: policies that must equal the plain cascade, thresholds against enumeration, hints at both ends."
import itertools
import numpy as np, pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from corea.cascade import Price, cascade_cost, defer
from corea.core import CoreaError, MODELS, load_profile
from corea.data import load_questions
from corea.generate import Completion, Sampling, TransformersEngine
from corea.metrics import chord
from corea.lab.policies import Offer, against_chord, ask_once, learn, read_answers
from corea.lab.records import made_up_records
from corea.scores import BUDGETS, answered, asked, cuts, samples_of
from corea.lab.together import (SHARES, again, alone, compare, gated, hint_cost, hinted, length, on_budget, on_plane, over_mix, policies, reached, settle, smaller,
                            statement, then, tiers)

PRICE = Price()

def frame(n, seed=0, samples=4, skill=1.):
    "Answers to n questions, all that the records hold."
    rng = np.random.default_rng(seed)
    hard, size = np.repeat(rng.random(n), samples), n * samples
    right = rng.random(size) > hard**skill
    said = np.where(rng.random(size) < .1, np.nan, np.round(1 - hard, 1))
    return pd.DataFrame(dict(dataset="d", question_id=np.repeat([f"q{i:03}" for i in range(n)], samples), sample=np.tile(range(samples), n), correct=right.astype(int),
                             answer=np.where(right, "1", rng.integers(2, 4, size).astype(str)), confidence=said, expected_confidence=1 - hard, avg_prob=.8 + .2 * (1 - hard),
                             router=1 - hard, router_prompt_tokens=9, router_completion_tokens=1, prompt_tokens=(9 + 9 * hard).astype(int),
                             completion_tokens=rng.integers(10, 30, size)))

def large(f, seed=9): return f.assign(correct=(np.random.default_rng(seed).random(len(f)) < .9).astype(int), completion_tokens=f.completion_tokens + 3)

def spent(offer, llm, tau): # right and price of each row, one at a time
    keep = [k >= tau for k in offer.keep]
    return [(y, c) if k else (z, c + d) for k, y, c, z, d in zip(keep, offer.correct, offer.cost, *llm)]

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([-np.inf, 0., .35, .5, 1., np.inf]))
def test_a_gate_that_never_shuts_is_the_two_model_cascade(seed, tau):
    f, llm = frame(6, seed), large(frame(6, seed))
    plain, router = ask_once(f, PRICE, "confidence"), f.router.where(np.arange(24) % 5 > 0)     # some without an estimate
    for open_ in (gated(plain, router, 0, -np.inf), gated(plain, np.full(24, np.nan), 0, .9)):
        for a, b in zip(open_, plain): np.testing.assert_array_equal(a, b)
    own, other = alone(f, PRICE.slm), alone(llm, PRICE.llm)
    got = spent(gated(plain, router, 0, -np.inf), other, tau)
    if 0 <= tau <= 1:
        d = defer(f.confidence, tau)
        np.testing.assert_array_equal([c for _, c in got], cascade_cost(d, own[1], other[1]))
        np.testing.assert_array_equal([y for y, _ in got], np.where(d, other[0], own[0]))
    np.testing.assert_array_equal(against_chord(gated(plain, router, 0, -np.inf), f, llm, PRICE), against_chord(plain, f, llm, PRICE))

def test_a_gate_spares_the_small_model():
    f, llm = frame(5), large(frame(5))
    own, other = alone(f, PRICE.slm), alone(llm, PRICE.llm)
    for g in (.3, f.router[4], np.inf):
        got = spent(gated(ask_once(f, PRICE, "confidence"), f.router, 13., g), other, .5)
        for i, (y, c) in enumerate(got):
            shut, kept = f.router[i] < g, f.confidence[i] >= .5
            assert c == pytest.approx(13 + (0 if shut else own[1][i]) + (other[1][i] if shut or not kept else 0))
            assert y == (own[0][i] if kept and not shut else other[0][i])

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([-np.inf, .25, .5, .9, np.inf]), st.sampled_from([-np.inf, .25, .5, np.inf]))
def test_two_tiers_of_three_are_the_two_model_cascade(seed, t, u):
    f, g, llm = frame(6, seed), frame(6, seed, skill=.5), alone(large(frame(6, seed)), PRICE.llm)
    a, b, nothing = ask_once(f, PRICE, "confidence"), ask_once(g, PRICE, "expected_confidence"), Offer(np.full(24, np.nan), np.zeros(24), np.zeros(24))
    assert spent(then(nothing, b, t), llm, u) == spent(b, llm, u)       # no first tier
    assert spent(then(a, nothing, t), llm, u) == spent(a, llm, t)       # no second
    for i, (y, c) in enumerate(spent(then(a, b, t), llm, u)):           # all three, row by row
        if a.keep[i] >= t: want = a.correct[i], a.cost[i]
        elif b.keep[i] >= u: want = b.correct[i], a.cost[i] + b.cost[i]
        else: want = llm[0][i], a.cost[i] + b.cost[i] + llm[1][i]
        assert (y, c) == pytest.approx(want)

def test_a_chain_of_four_joins_either_way():
    f = frame(8)
    links = [ask_once(f.assign(correct=np.random.default_rng(s).integers(0, 2, 32)), PRICE, np.random.default_rng(s).random(32)) for s in range(3)]
    a, b, c = links
    left, llm = then(then(a, b, .6), c, .5), alone(large(f), PRICE.llm)
    for i, (y, cost) in enumerate(spent(left, llm, .4)):
        k = next((k for k, (o, t) in enumerate(zip(links, (.6, .5, .4))) if o.keep[i] >= t), 3)
        assert cost == pytest.approx(sum(o.cost[i] for o in links[:k + 1]) + (llm[1][i] if k == 3 else 0))
        assert y == (llm[0][i] if k == 3 else links[k].correct[i])

def test_a_second_try_counted_by_hand():
    f = frame(9, 3).sample(frac=1, random_state=0).reset_index(drop=True)
    got, (q, _) = again(f, PRICE), samples_of(f)
    for i in range(len(f)):
        own = np.flatnonzero(q == q[i])
        j = own[(list(own).index(i) + 1) % len(own)]
        assert j != i and got.correct[i] == f.correct[j]
        assert got.cost[i] == PRICE.slm(f.prompt_tokens[j], f.completion_tokens[j])
        sure = 0 if np.isnan(f.confidence[j]) else f.confidence[j]
        assert got.keep[i] == pytest.approx((f.answer[i] == f.answer[j]) + sure)

@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999))
def test_no_pair_of_settings_does_better_on_calibration(seed):
    f, llm = frame(4, seed), alone(large(frame(4, seed), seed), PRICE.llm)
    offers = [gated(ask_once(f, PRICE, "confidence"), f.router, 13., g) for g in (-np.inf, .3, .6, np.inf)]
    every = [np.mean(spent(o, llm, t), axis=0) for o in offers for t in [-np.inf, *f.confidence.dropna().unique(), np.inf]]
    budgets = np.linspace(.5, 1.5, 7) * llm[1].mean()
    right, cost = reached(offers, settle(offers, llm, budgets), llm)
    cheapest = min(c for _, c in every)
    for b, y, c in zip(budgets, right, cost):
        if b < cheapest:
            assert c == pytest.approx(cheapest)
            continue
        assert c <= b + 1e-6
        best = max(y for y, c in every if c <= b)
        for (y0, c0), (y1, c1) in itertools.permutations(every, 2):     # or a coin between two that spends the budget
            if c0 < b < c1: best = max(best, y0 + (y1 - y0) * (b - c0) / (c1 - c0))
        assert y == pytest.approx(best, abs=1e-9)

def test_what_is_reached_weighs_rows_as_repeating_them_does():
    f, llm = frame(6), alone(large(frame(6)), PRICE.llm)
    offer, w = ask_once(f, PRICE, "confidence"), np.random.default_rng(0).integers(0, 3, 24)
    settled, rows = settle([offer], llm, [150, 300]), np.repeat(np.arange(24), w)
    right, cost = reached([offer], settled, llm, np.stack([w, np.ones(24)]))
    few = reached([Offer(*(x[rows] for x in offer))], settled, tuple(x[rows] for x in llm))
    np.testing.assert_allclose((right[0], cost[0]), few)
    np.testing.assert_allclose((right[1], cost[1]), reached([offer], settled, llm))

def test_the_mix_is_the_chord_of_two_and_the_upper_edge_of_three():
    two = [(np.array([0, 1]), np.array([1., 3.])), (np.array([1, 1]), np.array([9., 11.]))]
    cost = np.array([1., 2, 5, 10, 12])
    np.testing.assert_allclose(over_mix(np.zeros(5), cost, two), -chord(cost, (2, .5), (10, 1)))
    for middle in (.3, .9):     # worth nothing, worth much
        three = [two[0], (np.full(2, middle), np.full(2, 4.)), two[1]]
        points = [(2, .5), (4, middle), (10, 1)]
        edge = [max([a0 + (a1 - a0) * (c - c0) / (c1 - c0) for (c0, a0), (c1, a1) in itertools.combinations(points, 2) if c0 <= c <= c1], default=0) for c in cost[1:4]]
        np.testing.assert_allclose(over_mix(np.zeros(3), cost[1:4], three), -np.array(edge))

def test_neither_a_budget_left_over_nor_one_overspent_is_a_gain():
    f, llm = frame(50), large(frame(50))
    (own, c0), (other, c1) = models = [alone(f, PRICE.slm), alone(llm, PRICE.llm)]
    due = c0.mean() + SHARES * (c1.mean() - c0.mean())
    mean = {"never": (own, c0), "always": (other, c0 + c1)}
    offers = {k: [Offer(np.full(200, x), own, c0)] for k, x in (("never", np.inf), ("always", np.nan))}
    for k, x in on_budget(models, models, offers, offers).items():
        y, c = (v.mean() for v in mean[k])
        np.testing.assert_allclose(x, y - chord(np.maximum(due, c), (c0.mean(), own.mean()), (c1.mean(), other.mean())))

def test_policies_agree_with_what_they_are_made_of():
    f, g = frame(60), frame(60, 1)
    sides = [f, large(f)], [g, large(g, 8)]
    make = policies(*sides[0], PRICE)
    old, new = make(*sides[0]), make(*sides[1])
    assert {k: len(v) for k, v in old.items()} == {k: len(v) for k, v in new.items()}       # thresholds of calibration, for both
    plane = on_plane(*sides, (PRICE.slm, PRICE.llm), make)
    assert all(x.shape == SHARES.shape and np.isfinite(x).all() for x in plane.values())
    assert plane["oracle at the gate"].mean() > plane["oracle"].mean() > max(plane[k].mean() for k in ("COREA", "gain, own", "vote of 2", "second try"))
    own, other = alone(g, PRICE.slm), alone(sides[1][1], PRICE.llm)
    right, cost = reached(new["COREA or coin"][1:], [((0, 0.), (1, 0.), .25)], other)        # a quarter goes straight to the LLM
    assert (right[0], cost[0]) == pytest.approx(tuple(.75 * np.mean(a) + .25 * np.mean(b) for a, b in zip(own, other)))

def test_a_policy_that_knows_nothing_becomes_the_chord_if_it_may():
    f, g = (frame(400, s).assign(confidence=np.random.default_rng(s).random(1600).round(1)) for s in (0, 1))
    sides = [f, large(f)], [g, large(g, 8)]
    plane = on_plane(*sides, (PRICE.slm, PRICE.llm), policies(*sides[0], PRICE))
    assert plane["COREA"].mean() < -.02 and abs(plane["COREA or coin"].mean()) < .006

def test_what_is_learnt_may_be_learnt_from_the_question_alone():
    f = frame(300)
    known = learn(f, large(f), PRICE, length)(f)
    assert np.corrcoef(known.slm, f.expected_confidence)[0, 1] > .8 and np.ptp(known.slm[f.prompt_tokens == 9]) < 1e-12

def test_tiers_price_a_smaller_model_in_the_same_unit():
    f, small = frame(20), frame(20, skill=2.)
    offers = tiers(small, PRICE, 1.4)(small, f, large(f))
    np.testing.assert_allclose(offers["small, LLM"][0].cost, .2 * PRICE.slm(small.prompt_tokens, small.completion_tokens))
    assert smaller(PRICE, 32)(3, 4) == PRICE.llm(3, 4) and len(offers["small, SLM, LLM"]) == len(cuts(small.confidence, BUDGETS[::5]))

# ---- records of a run

@pytest.fixture
def run(tmp_path):
    "Records of two families, with a smaller SLM."
    cfg = load_profile("smoke", datasets=("calc", "word"), samples=4, variants=dict(small=dict(slm="slm-small", slm_size=1.5, methods=("rlvr", "l1"))))
    folder = made_up_records(tmp_path/"records", cfg)
    for p in folder.glob("*.csv.gz"):
        if p.name.startswith(("steps", "texts")): continue
        x = pd.read_csv(p)
        x.assign(answer=x.correct).sample(frac=1, random_state=1).to_csv(p, index=False)     # in no order
    return folder, cfg

def test_a_run_is_compared_family_by_family(run):
    folder, cfg = run
    found = compare(folder, cfg, PRICE, 5)
    assert set(found) == {"calc", "word"} and all(x.shape == (6, len(SHARES)) for by in found.values() for x in by.values())
    three = compare(folder, cfg, PRICE, 5, small="small")
    assert list(three["calc"]) == ["small, LLM", "SLM, LLM", "small, SLM, LLM"]
    one = compare(folder, load_profile("smoke", datasets=("word",), samples=4), PRICE, 5)
    assert "gain, others" in found["word"] and "gain, others" not in one["word"]
    np.testing.assert_array_equal(one["word"]["COREA"][0], found["word"]["COREA"][0])
    (folder/"l1@small-s0.csv.gz").unlink()
    with pytest.raises(CoreaError, match="no records of l1@small-s0 in .*: run the profile first"): compare(folder, cfg, PRICE, 5, small="small")

def test_the_statement_names_every_policy_once_where_it_belongs():
    up, flat, down = (np.full((9, 3), x) + np.linspace(-.001, .001, 9)[:, None] for x in (.1, 0., -.1))
    up[0], flat[0], down[0] = .1, 0, -.1
    text = statement({"here": dict(a=up, b=up, c=down, random=up), "there": dict(a=up, b=flat, c=down, random=up)})
    every, some, none = text.split("\n")
    assert "**a** (+10.0)" in every and "**b** (+5.0; not clear on there)" in some and "**c** (-10.0; below on here, there)" in none
    assert "random" not in text and "no policy" not in text

def test_what_is_wrong_is_said_in_one_line(run):
    f, llm = frame(6), large(frame(6))
    off, make = f.assign(question_id=f.question_id.str.replace("q003", "q033")), policies(f, llm, PRICE)
    for wrong, match in ((lambda: on_plane([f, llm], [off, llm], (PRICE.slm, PRICE.llm), make), "row 12: one model answers question_id q033, another q003"),
                         (lambda: on_plane([f, llm[:8]], [f, llm], (PRICE.slm, PRICE.llm), make), "24 answers of one model, 8 of another"),
                         (lambda: settle([], alone(llm, PRICE.llm), [1]), "no offers"), (lambda: read_answers(run[0], "l1-s7"), "no records of l1-s7"),
                         (lambda: then(ask_once(f, PRICE, "confidence"), ask_once(f[:4], PRICE, "confidence"), .5), "second has 4 rows, first has 24"),
                         (lambda: gated(ask_once(f, PRICE, "confidence"), f.router[:3], 0, .5), "router has 3"),
                         *((lambda k=k: hinted(None, None, [], k), f"hint of {k!r} tokens") for k in (-1, 1.5, True, None))):
        with pytest.raises(CoreaError, match=match) as e: wrong()
        assert "\n" not in str(e.value)

# ---- hints

@pytest.fixture(scope="module")
def pair(): return TransformersEngine(MODELS/"slm"), TransformersEngine(MODELS/"llm"), load_questions("calc", "dev", 12)

def test_a_hint_of_no_tokens_is_the_slm_and_one_without_end_the_llm(pair):
    slm, llm, rows = pair
    f, own = hinted(slm, llm, rows, 0, seed=3), asked(slm, rows, n=1, seed=3)
    pd.testing.assert_frame_equal(f[own.columns], own)
    np.testing.assert_array_equal(hint_cost(f, PRICE), PRICE.slm(own.prompt_tokens, own.completion_tokens))
    f, own = hinted(slm, llm, rows, 96, seed=3), asked(llm, rows, n=1, seed=3)
    assert list(f.correct) == list(own.correct) and list(f.answer) == list(own.answer)
    np.testing.assert_array_equal(hint_cost(f, PRICE), PRICE.llm(own.prompt_tokens, own.completion_tokens))

def test_a_hint_is_the_beginning_of_the_llms_answer_and_both_are_paid_for(pair):
    slm, llm, rows = pair
    greedy = Sampling(0)
    whole, f = {c.index: c for c in llm.generate([r["question"] for r in rows], greedy)}, hinted(slm, llm, rows, 22, greedy).set_index("question_id")
    assert 0 < (f.completion_tokens == 0).sum() < len(f)        # some say all that there is to say
    for i, r in enumerate(rows):
        x, c = f.loc[r["id"]], whole[i]
        assert c.text.startswith(x.hint) and x.hint_completion_tokens == min(22, c.completion_tokens) and x.hint_prompt_tokens == c.prompt_tokens
        if c.completion_tokens <= 22: assert (x.prompt_tokens, x.completion_tokens) == (0, 0)
        else: assert x.prompt_tokens == c.prompt_tokens + 22 and x.completion_tokens > 0     # the same tokenizer reads as many

class Cut:
    "An LLM whose hint ends within a character, and an SLM that says how it was begun."
    def generate(self, questions, sampling, n=1, seed=0, done=(), progress=False, begun=None):
        for i, b in reversed(list(enumerate(begun or [None] * len(questions)))):
            text = "7 caf\ufffd" if b is None else f" {b!r} \\boxed{{7}}"
            yield Completion(i, 0, text, (), (-.1,), 5, 2, "length" if b is None else "stop", None)

def test_half_a_character_is_left_out_of_a_hint():
    f = hinted(Cut(), Cut(), [dict(id=k, dataset="d", question="?", gold="7") for k in "ba"], 2)
    assert list(f.hint) == ["7 caf"] * 2 and list(f.correct) == [1, 1] and list(f.question_id) == ["a", "b"]

def test_a_begun_answer_is_read_with_its_beginning():
    rows = [dict(id="a", dataset="d", question="?", gold="7")]
    f = answered(rows, [Completion(0, 0, "7}", (), (-.1,), 5, 2, "stop", None)], begun=[r"\boxed{"])
    assert f.answer[0] == "7" and f.correct[0] == 1
