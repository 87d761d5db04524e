"What 08b_thresholds cannot say about itself: the p-values agree with an independent library, and the promises hold by enumeration."
import itertools, math
import numpy as np, pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binom
from corea.cascade import TAUS, TOP, choose_tau, defer
from corea.core import FIGURES, CoreaError, load_profile
from corea.metrics import auroc_parts, bootstrap_weights
from corea.thresholds import (STAKES, TESTS, betting, budget_tau, controlled, expected_tau, guaranteed_tau, hoeffding_bentkus, losses, p_values,
                              priced_tau, rehearse, walk)

GRID = np.r_[np.arange(0, 1.01, .1).round(1), TOP]
rows = st.lists(st.tuples(st.sampled_from([math.nan, *GRID[:-1]]), st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20)

@given(rows)
def test_losses_are_those_of_the_cascade(table):
    "Question by question, and net is what the cascade's accuracy says."
    s, slm, llm, q = (np.array(c) for c in zip(*table))
    net, harm = (losses(s, slm, llm, q, GRID, kind) for kind in ("net", "harm"))
    assert net.shape == (len(set(q)), len(GRID)) and (harm >= np.maximum(net, 0) - 1e-12).all() and (net[:, -1] == 0).all()
    assert (np.diff(harm, axis=1) <= 1e-12).all()
    for j, tau in enumerate(GRID):
        answer = np.where(defer(s, tau), llm, slm)
        for i, one in enumerate(np.unique(q)):
            assert net[i, j] == pytest.approx(llm[q == one].mean() - answer[q == one].mean())

@given(st.lists(st.sampled_from([math.nan, 0., .2, .5, 1.]), min_size=1, max_size=30), st.floats(0, 1))
def test_budget_is_kept_and_used(s, share):
    s = np.array(s)
    tau = budget_tau(s, share)
    higher = [t for t in [*np.unique(s[~np.isnan(s)]), TOP] if t > tau]
    assert defer(s, tau).mean() <= share + 1e-9 or tau == 0
    assert all(defer(s, t).mean() > share for t in higher)

@given(rows, st.floats(0, 500))
def test_priced_threshold_is_the_best_of_all(table, worth):
    s, slm, llm, q = (np.array(c) for c in zip(*table))
    cost = 100. + 50 * q
    pay = lambda tau: worth * np.where(defer(s, tau), llm, slm).mean() - (defer(s, tau) * cost).mean()
    assert pay(priced_tau(s, slm, llm, cost, worth)) >= max(map(pay, GRID)) - 1e-9

@settings(max_examples=50)
@given(st.integers(5, 300), st.floats(.01, .5), st.integers(0, 10_000))
def test_hoeffding_bentkus_agrees_with_mapie(n, alpha, seed):
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6)) < rng.random(6) / 2
    mean = np.maximum(x.mean(0) - 1e-12, 0)           # n times the mean is whole, and may not be rounded up past it
    theirs = compute_hoeffding_bentkus_p_value(mean, n, alpha)[:, 0]
    np.testing.assert_allclose(p_values(x.astype(float), alpha, "hoeffding_bentkus", kind="harm"), np.minimum(theirs, 1), rtol=1e-6, atol=1e-12)

def test_the_walk_and_the_conformal_rule_agree_with_mapie():
    from mapie.risk_control._base_controller import ltt_procedure
    from mapie.risk_control.methods import find_best_predict_param, get_r_hat_plus
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(40):
        n, alpha = int(rng.integers(50, 400)), rng.uniform(.02, .2)
        s, slm, llm = rng.random(n).round(1), rng.random(n), rng.random(n) < .95
        x = losses(s, slm < s ** rng.uniform(.3, 2), llm, taus=GRID, kind="harm")
        valid, _ = ltt_procedure(x.mean(0)[None], np.array([[alpha]]), .1, np.full((1, len(GRID)), n), fwer_method="fixed_sequence")
        ours = int(walk(p_values(x, alpha, "hoeffding_bentkus", kind="harm") <= .1))
        theirs = min(valid[0], default=len(GRID) - 1)
        assert ours == theirs
        bound = get_r_hat_plus(x, GRID, "crc", None, None, None)[1]
        np.testing.assert_array_equal(controlled(x, alpha), bound <= alpha + 1e-12)
        if bound[-1] < alpha: assert GRID[walk(controlled(x, alpha))] == find_best_predict_param(GRID, bound, np.array([alpha]))[0]
        seen.add(ours)
    assert len(seen) > 3

@pytest.mark.parametrize("alpha", [.1, .3, .6])
@pytest.mark.parametrize("test", TESTS)
def test_p_values_are_valid_by_enumeration(test, alpha):
    "All 3^6 samples of a loss of 0, 1/2 or 1 whose mean is exactly alpha: a small p-value is as rare as it says."
    chance = np.array([1 - alpha - alpha / 4, alpha / 2, alpha * 3 / 4])
    assert chance @ [0, .5, 1] == pytest.approx(alpha)
    draws = np.array(list(itertools.product([0, 1, 2], repeat=6)))
    p = TESTS[test]((draws / 2).T, alpha, np.ones((1, 6)))[0]
    prob = chance[draws].prod(1)
    for level in np.unique(p): assert prob[p <= level].sum() <= level + 1e-12

@pytest.mark.parametrize("test", TESTS)
def test_net_p_values_are_valid_by_enumeration(test):
    "The same for gains and losses, samples without any gain among them included."
    chance, value, alpha = np.array([.15, .6, .25]), np.array([-1., 0, 1]), .1
    draws = np.array(list(itertools.product([0, 1, 2], repeat=7)))
    p, prob = p_values(value[draws].T, alpha, test), chance[draws].prod(1)
    for level in np.unique(p): assert prob[p <= level].sum() <= level + 1e-12

@given(st.lists(st.sampled_from([0., .25, .5, 1.]), min_size=1, max_size=30), st.floats(.01, .9), st.randoms())
def test_betting_written_plainly(x, alpha, random):
    "One bet after the other, in any order; and the same bets whether a loss could have been a gain or not."
    random.shuffle(order := list(x))
    capital = []
    for share in STAKES:
        c = 1.0
        for loss in order: c *= 1 + share / (1 - alpha) * (alpha - loss)
        capital.append(c)
    for kind in ("net", "harm"): assert p_values(np.array(x)[:, None], alpha, kind=kind)[0] == pytest.approx(min(1, 1 / np.mean(capital)))

@pytest.mark.parametrize("test", TESTS)
def test_weights_are_rows_written_down_that_often(test):
    rng = np.random.default_rng(5)
    x, w = rng.integers(-1, 2, (30, 4)) / 2., rng.integers(0, 4, (3, 30))
    p = p_values(x, .2, test, w)
    for row, k in zip(p, w): np.testing.assert_allclose(row, p_values(np.repeat(x, k, axis=0), .2, test))
    np.testing.assert_array_equal(controlled(np.abs(x), .3, w)[1], controlled(np.repeat(np.abs(x), w[1], axis=0), .3))

@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_walk_stops_at_the_first_failure(passed):
    def slowly(p):
        i = len(p) - 1
        while i and p[i - 1]: i -= 1
        return i
    assert list(walk(passed)) == [slowly(p) for p in passed]

def made(shape, n=800, k=4, alpha=.05, seed=6):
    rng = np.random.default_rng(seed)
    p = np.repeat(rng.random(n), k)
    slm, llm = rng.random(n * k) < p, rng.random(n * k) < .95
    s = dict(honest=p, steep=(p ** .2).round(1), blind=rng.random(n * k), edge=np.ones(n * k))[shape]
    if shape == "edge": slm, llm = np.repeat(np.arange(n) >= math.floor(n * alpha) + 1, k), np.ones(n * k, bool)
    return s, slm, llm, np.repeat(np.arange(n), k)

@pytest.mark.parametrize("shape", ["honest", "steep", "blind", "edge"])
def test_promises_are_kept_over_a_thousand_draws(shape):
    alpha, delta, n = .05, .2, 200
    limit = binom.ppf(.999, 1000, delta) / 1000
    net, harm = (losses(*made(shape), taus=GRID, kind=kind) for kind in ("net", "harm"))
    for kind, x in (("net", net), ("harm", harm)):
        for test in TESTS:
            lost = rehearse(x, lambda x, w: p_values(x, alpha, test, w, kind) <= delta, n)
            assert (lost > alpha).mean() <= limit
    lost = rehearse(harm, lambda x, w: controlled(x, alpha, w), n)
    assert lost.mean() <= alpha + 3 * lost.std() / math.sqrt(1000)
    if shape == "edge": # and the promise is not kept by never choosing
        lost = rehearse(harm, lambda x, w: p_values(x, alpha, "hoeffding_bentkus", w, "harm") <= delta, n)
        assert (lost > alpha).mean() > .02

def test_promises_are_kept_on_the_committed_records():
    "Every trained model of the laptop's profile and the base, every family, expected confidence; stated too for one seed."
    cfg, folder, order = load_profile("laptop"), FIGURES/"laptop"/"records", ["dataset", "question_id", "sample"]
    read = lambda name: pd.read_csv(folder/f"{name}.csv.gz").sort_values(order, ignore_index=True)
    llm, alpha, delta, cells = read("llm"), .03, .1, 0
    limit, first = binom.ppf(.9999, 1000, delta) / 1000, {"base"} | {f"{m}-s{cfg.seeds[0]}" for m in cfg.methods}
    for name in ("base", *(f"{m}-s{s}" for m in cfg.methods for s in cfg.seeds)):
        f = read(name)
        assert f[order].equals(llm[order])
        for d in cfg.datasets:
            here = (f.dataset == d).to_numpy()
            for source in ("expected_confidence", "confidence") if name in first else ("expected_confidence",):
                data = f[source][here], f.correct[here], llm.correct[here], f.question_id[here]
                net, harm = (losses(*data, GRID, kind) for kind in ("net", "harm"))
                lost = rehearse(net, lambda x, w: p_values(x, alpha, "betting", w) <= delta, cfg.n_calibration)
                assert (lost > alpha).mean() <= limit, (name, d, source)
                lost = rehearse(harm, lambda x, w: controlled(x, alpha, w), cfg.n_calibration)
                assert lost.mean() <= alpha, (name, d, source)
                cells += 1
    assert cells == len(cfg.datasets) * (len(first) + 1 + len(cfg.methods) * len(cfg.seeds))

def test_thresholds_are_what_the_rehearsed_rules_choose():
    data = made("honest")
    x, harm = losses(*data), losses(*data, kind="harm")
    assert guaranteed_tau(*data, alpha=.05, delta=.2) == TAUS[walk(p_values(x, .05) <= .2)] < TOP
    assert expected_tau(*data, alpha=.05) == TAUS[walk(controlled(harm, .05))] < TOP
    assert guaranteed_tau(*data, alpha=.05, delta=.01) >= guaranteed_tau(*data, alpha=.05, delta=.2)
    assert guaranteed_tau(*data, alpha=.02) >= guaranteed_tau(*data, alpha=.2)

def test_what_is_wrong_is_said_in_one_line():
    one = [.5], [1], [1]
    for wrong in (lambda: budget_tau([.5], 2), lambda: budget_tau([], .5), lambda: priced_tau(*one, [1.], -1), lambda: losses(*one, kind="gross"),
                  lambda: guaranteed_tau(*one, delta=0), lambda: guaranteed_tau(*one, alpha=0), lambda: guaranteed_tau(*one, taus=[.5, .2, TOP]),
                  lambda: expected_tau(*one, taus=[.1, .2]), lambda: guaranteed_tau([], [], []), lambda: p_values(np.zeros((1, 1)), .1, "t"),
                  lambda: p_values(-np.ones((1, 1)), .1, kind="harm")):
        with pytest.raises(CoreaError) as e: wrong()
        assert "\n" not in str(e.value)

@pytest.mark.parametrize("score", [[50., 60.], [.5, 1.2], [-.1, .5]])
def test_scores_of_another_scale_are_refused_by_every_rule(score):
    "In per cent, every answer would be kept and the promise broken."
    right, wrong, ids = [1, 1], [0, 0], ["a", "b"]
    for rule in (guaranteed_tau, expected_tau, choose_tau, lambda *rows: budget_tau(rows[0], .5), lambda *rows: priced_tau(*rows, [1, 1], 1),
                 lambda *rows: losses(*rows, ids)):
        with pytest.raises(CoreaError, match="scores must lie in .0, 1., or be nan"): rule(score, wrong, right)

def test_question_ids_that_name_no_question_are_refused():
    "One for each row, none missing, of one kind; two data sets need names that tell them apart."
    rows = [.5, .6], [1, 0], [1, 1]
    for ids, says in (([1, 2, 3], "shape .3,. for 2 rows"), ([None, "a"], "row 0 has none"), ([math.nan, 1.], "row 0 has none"), ([("a", 1), ("b", 1)], "join set and id"),
                      (np.array([1, "1"], object), "texts and numbers")):
        for rule in (guaranteed_tau, expected_tau, losses):
            with pytest.raises(CoreaError, match="question_ids.*" + says): rule(*rows, question_ids=ids)
        with pytest.raises(CoreaError, match="question_ids"): auroc_parts(*rows[:2], ids)
        if len(ids) == 2:
            with pytest.raises(CoreaError, match="question_ids"): bootstrap_weights(ids, 3)
