"What 08c_policies cannot say about itself: the vote and the prices by hand, the regression against scikit-learn, the oracle against enumeration."
import math
import numpy as np, pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from corea.cascade import Price
from corea.core import CoreaError
from corea.metrics import oracle_curve
from corea.lab.policies import against_chord, ask_once, features, gain, learn, logistic, oracle, vote
from corea.scores import BUDGETS

cell = st.tuples(st.sampled_from(["1", "2", "3", None]), st.sampled_from([math.nan, .1, .5, .9]), st.integers(1, 30))

def frame(cells, k, gold="1"):
    "Answers to questions, k samples of each."
    f = pd.DataFrame(cells, columns=["answer", "confidence", "completion_tokens"])
    n = np.arange(len(f))
    return f.assign(dataset="d", question_id=(n // k).astype(str), sample=n % k, prompt_tokens=7, correct=(f.answer == gold).astype(int))

@settings(max_examples=60)
@given(st.lists(cell, min_size=8, max_size=8), st.integers(2, 4), st.randoms())
def test_vote_counted_by_hand(cells, k, random):
    f, price = frame(cells, 4), Price()
    i = list(range(8))
    random.shuffle(i)
    got = vote(f.iloc[i].reset_index(drop=True), price, k)
    for row, j in enumerate(i):
        own = f[(f.question_id == f.question_id[j]) & (f["sample"] < k)]
        assert got.cost[row] == pytest.approx(price.slm(own.prompt_tokens, own.completion_tokens).sum())
        read = own.dropna(subset="answer")
        if read.empty:
            assert np.isnan(got.keep[row]) and got.correct[row] == 0
            continue
        tally = {a: (len(g), g.confidence.sum()) for a, g in read.groupby("answer")}
        best = max(tally.values(), key=lambda x: (x[0], round(x[1], 9)))
        winners = [a for a, (n, c) in tally.items() if n == best[0] and abs(c - best[1]) < 1e-9]
        assert got.keep[row] == pytest.approx(best[0] / k)
        if len(winners) == 1: assert got.correct[row] == (winners[0] == "1")

@pytest.mark.parametrize("ridge", [.1, 1, 10])
def test_logistic_is_the_least_penalised_loss_of_standardised_features(ridge):
    from scipy.optimize import minimize
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 3)) * [1, 5, .1] + [0, 3, 9]
    y = (rng.random(400) < 1 / (1 + np.exp(-x[:, 0]))).astype(int)
    z = np.c_[(x - x.mean(0)) / x.std(0), np.ones(400)]
    loss = lambda b: (np.logaddexp(0, z @ b) - y * (z @ b)).sum() + ridge * (b[:-1] @ b[:-1]) / 2
    b = minimize(loss, np.zeros(4), tol=1e-10).x
    np.testing.assert_allclose(logistic(x, y, ridge)(x), 1 / (1 + np.exp(-z @ b)), atol=1e-5)

@pytest.mark.parametrize("y", [np.ones(50), np.zeros(50), np.arange(50) >= 25])
def test_logistic_survives_what_is_certain(y):
    p = logistic(np.arange(50.)[:, None], y.astype(float))(np.arange(50.)[:, None])
    assert np.isfinite(p).all() and np.abs(p - y).mean() < .2

def made(n=1200, seed=2):
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    f = pd.DataFrame(dict(dataset="d", question_id=np.arange(n).astype(str), sample=0, answer="1", correct=(rng.random(n) > hard).astype(int),
                          confidence=np.round(1 - hard, 1), expected_confidence=1 - hard, avg_prob=.9, prompt_tokens=10,
                          completion_tokens=(10 + 40 * hard).astype(int)))
    return f, f.assign(correct=(rng.random(n) < .95 - .6 * (hard > .8)).astype(int), completion_tokens=(20 + 100 * hard).astype(int))

def test_what_is_learnt_is_about_right():
    f, llm = made()
    price = Price()
    known = learn(f[:600], llm[:600], price)(f[600:])
    assert known.slm.mean() == pytest.approx(f.correct[600:].mean(), abs=.05)
    assert known.llm.mean() == pytest.approx(llm.correct[600:].mean(), abs=.05)
    paid = price.llm(llm.prompt_tokens, llm.completion_tokens)[600:]
    assert np.corrcoef(known.price, paid)[0, 1] > .99 and known.price.mean() == pytest.approx(paid.mean(), rel=.05)
    np.testing.assert_allclose(gain(known), (known.llm - known.slm) / known.price)

@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([2., 5., 30.]))
def test_no_policy_beats_the_oracle(seed, ratio):
    "At any budget, up to the step between two thresholds."
    f, llm = made(300, seed)
    price = Price(1, ratio)
    best = against_chord(oracle(f, llm, price), f, llm, price)
    for keep in ("confidence", "expected_confidence", "completion_tokens", np.random.default_rng(seed).random(300)):
        assert (against_chord(ask_once(f, price, keep), f, llm, price) <= best + .02).all()

def test_oracle_passes_through_the_oracle_curve():
    f, llm = made(400)
    price = Price()
    own, large = (c(x.prompt_tokens, x.completion_tokens) for c, x in ((price.slm, f), (price.llm, llm)))
    curve = oracle_curve(f.correct, llm.correct, own, large)
    cost = own.mean() + BUDGETS * (large.mean() - own.mean())
    inside = cost < curve["cost"][-1]
    accuracy = against_chord(oracle(f, llm, price), f, llm, price) + f.correct.mean() + BUDGETS * (llm.correct.mean() - f.correct.mean())
    np.testing.assert_allclose(accuracy[inside], np.interp(cost, curve["cost"], curve["pass1"])[inside], atol=.01)

def test_budgets_end_where_the_models_are():
    "With nothing spent the SLM alone is the whole offer; a coin stays below the chord by what the SLM costs on deferred questions."
    f, llm = made()
    price = Price(1, 10)
    own, large = (c(x.prompt_tokens, x.completion_tokens).mean() for c, x in ((price.slm, f), (price.llm, llm)))
    coins = np.mean([against_chord(ask_once(f, price, np.random.default_rng(s).random(len(f))), f, llm, price) for s in range(60)], axis=0)
    share = BUDGETS * (large - own) / large         # that each budget lets a cascade defer
    toll = share * (llm.correct.mean() - f.correct.mean()) * own / (large - own)
    np.testing.assert_allclose(coins, -toll, atol=.005)
    assert toll[-1] > .015
    w = np.vstack([np.ones(len(f)), np.arange(len(f)) % 2])
    two = against_chord(ask_once(f, price, "confidence"), f, llm, price, w)
    half = np.arange(1, len(f), 2)
    np.testing.assert_allclose(two[1], against_chord(ask_once(f.iloc[half], price, "confidence"), f.iloc[half], llm.iloc[half], price), atol=.01)

def test_features_are_finite_whatever_is_missing():
    f, _ = made(10)
    x = features(f.assign(confidence=math.nan, expected_confidence=math.nan, avg_prob=math.nan))
    assert np.isfinite(x).all() and (x[:, 1] == 1).all()

def test_what_is_wrong_is_said_in_one_line():
    f, llm = made(10)
    four = frame([("1", .5, 3)] * 8, 4)
    for wrong in (lambda: learn(f, llm[:5], Price()), lambda: learn(f[:0], llm[:0], Price()), lambda: vote(four, Price(), 5), lambda: vote(four, Price(), 1),
                  lambda: vote(f, Price(), 2)):
        with pytest.raises(CoreaError) as e: wrong()
        assert "\n" not in str(e.value)
