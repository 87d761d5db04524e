"""What 03_metrics cannot show by itself: agreement with slow, plain definitions on anything hypothesis thinks of."""
import itertools, math, tracemalloc

import numpy as np, pandas as pd
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from sklearn.metrics import roc_auc_score

import corea.metrics as m
from corea.core import CoreaError

bits = st.integers(0, 1)
tenths = st.integers(0, 10).map(lambda i: i / 10)
confidences = st.one_of(tenths, st.floats(0, 1), st.just(math.nan))
rows = st.lists(st.tuples(confidences, bits, bits, st.floats(.1, 9), st.floats(.1, 9), st.integers(0, 3)), max_size=25)

def unzip(rows):
    return [np.array(c, dtype=float) for c in zip(*rows)] if rows else [np.zeros(0)] * 6

def each_metric(conf, slm, llm, c0, c1, w=None):
    "Every metric of the module on one table, by name."
    taus = [0, .25, .5, .95, 2]
    out = {f"ece {scheme} {bins}": m.ece(conf, slm, bins, scheme, w) for scheme in ("width", "mass") for bins in (1, 10, 15)}
    out |= {f.__name__: f(conf, slm, weights=w) for f in (m.brier, m.auroc, m.aurc)}
    out |= {"pass_at_1": m.pass_at_1(slm, w), "output_ratio": m.output_ratio(conf, w), "average": m.average(c1, w),
            "bins": m.bin_sums(conf, slm, weights=w)}
    out |= {"gain": m.gain_over_chord(conf, slm, llm, c0, c1, w), "benefit": m.benefit_auroc(conf, slm, llm, w)}
    out |= {f"curve {k}": v for k, v in m.deferral_curve(conf, slm, llm, c0, c1, taus, w).items()}
    oracle = m.oracle_curve(slm, llm, c0, c1, 2, w) # its ends; what lies between is checked below
    return out | {f"oracle {k}": v for k, v in oracle.items()}

# --- weights ---------------------------------------------------------------------------------------------------------

@given(rows)
def test_integer_weights_are_repeated_rows(rows):
    *table, w = unzip(rows)
    written_out = each_metric(*[np.repeat(x, w.astype(int)) for x in table])
    for name, value in each_metric(*table, w).items():
        assert_allclose(value, written_out[name], rtol=0, atol=1e-9, err_msg=name)

@given(rows)
def test_weights_of_one_change_nothing_and_axes_stay(rows):
    *table, w = unzip(rows)
    plain = each_metric(*table)
    many = each_metric(*table, np.stack([np.ones_like(w), w, 0 * w] * 2).reshape(2, 3, -1).astype(np.float32))
    alone = each_metric(*table, w)
    for name in plain:
        assert many[name].shape == (2, 3, *np.shape(plain[name])), name
        for half in many[name]:
            assert_allclose(half[0], plain[name], rtol=0, atol=1e-9, err_msg=name)
            assert_allclose(half[1], alone[name], rtol=0, atol=1e-9, err_msg=name)
            if name != "bins": assert np.isnan(half[2]).all(), name

def test_slabs_do_not_show(monkeypatch):
    rng = np.random.default_rng(0)
    table = [rng.integers(0, 11, 50) / 10, *rng.integers(0, 2, (2, 50)), *rng.uniform(1, 5, (2, 50))]
    w = m.bootstrap_weights(np.arange(50), 40)
    whole = each_metric(*table, w)
    monkeypatch.setattr(m, "SLAB", 150) # three replicates at a time
    for name, value in each_metric(*table, w).items(): assert_allclose(value, whole[name], rtol=0, atol=1e-12)

def test_a_thousand_replicates_stay_below_300_mb():
    rng = np.random.default_rng(0)
    table = [rng.random(6000), *rng.integers(0, 2, (2, 6000)), *rng.uniform([[1], [6]], [[5], [9]], (2, 6000))]
    tracemalloc.start()
    try:
        w = m.bootstrap_weights(np.repeat(np.arange(1500), 4))
        out = each_metric(*table, w)
        peak = tracemalloc.get_traced_memory()[1]
    finally: tracemalloc.stop()
    assert peak < 300e6, peak
    assert all(len(v) == 1000 and np.isfinite(v).all() for v in out.values())

# --- calibration -----------------------------------------------------------------------------------------------------

@given(rows, st.integers(1, 20))
def test_ece_is_the_loop_over_bins(rows, bins):
    conf, correct, *_ = unzip(rows)
    keep = ~np.isnan(conf)
    c, y = conf[keep], correct[keep]
    gap = 0
    for b in range(bins):
        lo, hi = b / bins - 5e-8, (b + 1) / bins - 5e-8 # an edge belongs to the bin above, however it is stored
        near = np.abs(c * bins - np.round(c * bins)) < 1e-6
        x = np.where(near, np.round(c * bins) / bins, c)
        inside = (x >= lo) & ((x < hi) | (b == bins - 1))
        if inside.any(): gap += abs(y[inside].mean() - c[inside].mean()) * inside.mean()
    assert_allclose(m.ece(conf, correct, bins), gap if len(c) else np.nan, atol=1e-9)

@given(rows, st.integers(1, 20), st.sampled_from(["width", "mass"]))
def test_ece_is_a_share_and_tables_agree(rows, bins, scheme):
    conf, correct, *_ = unzip(rows)
    value, sums = m.ece(conf, correct, bins, scheme), m.bin_sums(conf, correct, bins, scheme)
    assert np.isnan(value) if np.isnan(conf).all() else 0 <= value <= 1
    keep = ~np.isnan(conf)
    assert_allclose(sums.sum(0), [keep.sum(), conf[keep].sum(), correct[keep].sum()], atol=1e-9)
    r = m.reliability(conf, correct, bins)
    filled = r[r["count"] > 0]
    assert list(r.columns) == ["lo", "hi", "count", "confidence", "accuracy"] and len(r) == bins
    assert r["count"].sum() == keep.sum() and r.accuracy.isna().sum() == bins - len(filled)
    assert ((filled.confidence > filled.lo - 1e-6) & (filled.confidence < filled.hi + 1e-6)).all()
    if keep.any():
        assert_allclose((filled["count"] * (filled.accuracy - filled.confidence).abs()).sum() / keep.sum(),
                        m.ece(conf, correct, bins))

@pytest.mark.parametrize("dtype", [float, np.float32])
@pytest.mark.parametrize("bins", [5, 10, 15, 20])
def test_a_confidence_on_an_edge_opens_its_bin(bins, dtype):
    edges = np.array([i / bins for i in range(bins + 1)], dtype)
    index = [m.bin_sums([e], [1], bins)[:, 0].argmax() for e in edges]
    assert index == [*range(bins), bins - 1]

def test_bins_of_equal_mass():
    conf, correct = np.arange(100) / 100, np.zeros(100)
    assert_array_equal(m.bin_sums(conf, correct, 10, "mass")[:, 0], np.full(10, 10))
    # a tie is not split, and goes where its middle lies
    assert_array_equal(m.bin_sums([.1, .5, .5, .5, .5, .9], np.zeros(6), 3, "mass")[:, 0], [1, 4, 1])
    assert m.ece([.1, .5, .5, .5, .5, .9], np.zeros(6), 3, "mass") == pytest.approx(.5)

# --- ranking ---------------------------------------------------------------------------------------------------------

@given(rows)
def test_auroc_is_the_count_of_pairs(rows):
    conf, correct, *_ = unzip(rows)
    right, wrong = conf[(correct == 1) & ~np.isnan(conf)], conf[(correct == 0) & ~np.isnan(conf)]
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(right, wrong)]
    assert_allclose(m.auroc(conf, correct), np.mean(pairs) if pairs else np.nan, atol=1e-12)

@given(rows)
def test_auroc_agrees_with_sklearn(rows):
    conf, correct, *_, w = unzip([r for r in rows if not math.isnan(r[0])])
    if len({*correct[w > 0]}) < 2: return
    assert_allclose(m.auroc(conf, correct, w), roc_auc_score(correct, conf, sample_weight=w), atol=1e-12)

@given(st.lists(st.tuples(st.one_of(st.integers(-20, 20), st.just(math.nan)), bits), max_size=25))
def test_auroc_sees_order_only(rows):
    score, correct = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    value = m.auroc(score, correct)
    for change in (np.exp, lambda s: s**3, lambda s: 7 * s - 2, lambda s: np.where(s > 19, np.inf, s)):
        assert_equal(m.auroc(change(score), correct), value)
    assert_allclose(m.auroc(-score, correct), 1 - value, atol=1e-12)
    assert_allclose(m.auroc(score, 1 - correct), 1 - value, atol=1e-12)

@given(rows)
def test_area_is_that_under_the_risk_coverage_curve(rows):
    conf, correct, *_ = unzip(rows)
    curve = m.risk_coverage(conf, correct)
    assert curve.threshold.is_monotonic_decreasing and curve.threshold.is_unique
    for r in curve.itertuples():
        kept = np.where(np.isnan(conf), -np.inf, conf) >= r.threshold
        assert_allclose([r.coverage, r.risk], [kept.mean(), 1 - correct[kept].mean()])
    if len(conf) == 0: return
    # errors grow in straight lines between the points; risk is errors over coverage
    grid = (np.arange(20_000) + .5) / 20_000
    errors = np.interp(grid, [0, *curve.coverage], [0, *(curve.coverage * curve.risk)])
    assert_allclose(m.aurc(conf, correct), (errors / grid).mean(), atol=1e-3)

def test_aurc_of_many_rows_is_the_usual_mean_of_risks():
    rng = np.random.default_rng(0)
    score, correct = rng.random(20_000), rng.integers(0, 2, 20_000)
    risks = np.cumsum(1 - correct[np.argsort(-score)]) / np.arange(1, 20_001)
    assert m.aurc(score, correct) == pytest.approx(risks.mean(), abs=5e-4)

# --- cascade ---------------------------------------------------------------------------------------------------------

@given(rows, st.lists(st.one_of(tenths, st.floats(-1, 2)), min_size=1, max_size=6))
def test_deferral_curve_is_the_rule_row_by_row(rows, taus):
    score, slm, llm, c0, c1, _ = unzip(rows)
    curve = m.deferral_curve(score, slm, llm, c0, c1, taus)
    for i, tau in enumerate(taus):
        one = m.deferral_curve(score, slm, llm, c0, c1, tau)
        defer = ~(score >= tau)
        slow = [m.average(np.where(defer, llm, slm)), m.average(c0 + defer * c1), m.average(defer)]
        for name, value in zip(("pass1", "cost", "llm_share"), slow):
            assert_allclose(curve[name][i], value, atol=1e-12)
            assert_allclose(one[name], value, atol=1e-12)
            assert np.ndim(one[name]) == 0

@given(rows)
def test_ends_of_the_curve_are_the_models_alone(rows):
    score, slm, llm, c0, c1, _ = unzip([r for r in rows if not math.isnan(r[0])])
    curve = m.deferral_curve(score, slm, llm, c0, c1, [-np.inf, np.inf])
    a, b, x, y = m.pass_at_1(slm), m.pass_at_1(llm), m.average(c0), m.average(c1)
    assert_allclose(curve["pass1"], [a, b], atol=1e-12)
    assert_allclose(curve["cost"], [x, x + y], atol=1e-12)
    assert_allclose(curve["llm_share"], [0, 1] if len(score) else [np.nan, np.nan])
    assert_allclose(m.chord([x, y], (x, a), (y, b)), [a, b] if x != y else [np.fmax(a, b)] * 2, atol=1e-12)

@given(rows, st.lists(bits, min_size=25, max_size=25))
def test_no_deferral_lies_above_the_oracle(rows, policy):
    _, slm, llm, c0, c1, _ = unzip(rows)
    if not rows: return
    oracle = m.oracle_curve(slm, llm, c0, c1, points=None)
    defer = np.array(policy[:len(slm)])
    won, paid = m.pass_at_1(np.where(defer, llm, slm)), m.average(c0 + defer * c1)
    assert won <= np.interp(paid, oracle["cost"], oracle["pass1"]) + 1e-9
    assert_allclose(oracle["pass1"][-1], m.pass_at_1(np.maximum(slm, llm)))
    coarse = m.oracle_curve(slm, llm, c0, c1, points=5)
    assert_allclose(np.interp(coarse["cost"], oracle["cost"], oracle["pass1"]), coarse["pass1"], atol=1e-9)

def test_a_score_worth_nothing_is_random_deferral():
    rng = np.random.default_rng(0)
    n = 100_000
    slm, llm = rng.random(n) < .5, rng.random(n) < .8
    at = m.deferral_curve(rng.random(n), slm, llm, np.ones(n), np.full(n, 4), [.2, .5, .8])
    assert_allclose(at["pass1"], m.random_deferral(at["llm_share"], .5, .8), atol=.01)
    assert (at["pass1"] < m.chord(at["cost"], (1, .5), (4, .8))).all() # it pays twice
    assert (m.ibc_lift((at["cost"], at["pass1"]), (1, .5), (4, .8)) < 0).all()

@given(rows)
def test_gain_is_the_area_between_curve_and_chord(rows):
    if not rows: return
    score, slm, llm, c0, c1, _ = unzip(rows)
    gain = m.gain_over_chord(score, slm, llm, c0, c1)
    if c1.mean() <= c0.mean(): return assert_equal(gain, np.nan)
    at = m.deferral_curve(score, slm, llm, c0, c1, [-np.inf, *np.unique(score[~np.isnan(score)]), np.inf])
    x = np.r_[c0.mean(), at["cost"]]    # missing scores are deferred at every threshold: the curve begins before them
    y = np.r_[slm.mean(), at["pass1"]]
    grid = np.unique(np.r_[x[x < c1.mean()], c1.mean()])
    height = np.interp(grid, x, y) - m.chord(grid, (c0.mean(), slm.mean()), (c1.mean(), llm.mean()))
    assert_allclose(gain, np.trapezoid(height, grid) / (c1.mean() - c0.mean()), atol=1e-9)

@given(rows)
def test_gain_over_a_coin_is_what_is_helped_less_what_is_spoilt(rows):
    if not rows: return
    score, slm, llm, *_ = unzip(rows)
    low = np.where(np.isnan(score), -1, score)
    def part(event): return event.mean() * (1 - event.mean()) * np.nan_to_num(m.auroc(low, 1 - event) - .5)
    gain = m.gain_over_chord(score, slm, llm, 0 * slm, 0 * slm + 1)
    assert_allclose(gain, part((1 - slm) * llm) - part(slm * (1 - llm)), atol=1e-9)
    assert_equal(m.benefit_auroc(score, slm, llm), m.auroc(low, 1 - (1 - slm) * llm))

@given(st.floats(1, 5), st.floats(1, 9), st.floats(.1, .9), st.floats(-.4, .4))
def test_lift_has_the_sign_of_the_distance_to_the_chord(cost, more, a, off):
    slm, llm = (1, .1), (1 + more, .95)
    x = 1 + (cost - 1) / 4 * more
    lift = m.ibc_lift((x, m.chord(x, slm, llm) + off), slm, llm)
    if x - 1 < 1e-6: assert np.isnan(lift) or x > 1
    else: assert np.sign(np.round(lift, 9)) == np.sign(off) or abs(off) < 1e-8

def test_chord_and_lift_where_they_are_flat_or_steep():
    assert m.chord(3, (2, .4), (2, .7)) == .7 == m.chord(3, (2, .7), (2, .4))
    assert_allclose(m.chord([[2], [4]], (np.array([[1], [3]]), .5), (5, 1)), [[.625], [.75]])
    assert_equal(m.ibc_lift((1, .5), (1, .5), (5, 1)), np.nan)
    assert_equal(m.ibc_lift((3, .6), (1, .5), (5, .5)), np.nan)

# --- intervals -------------------------------------------------------------------------------------------------------

def test_bootstrap_draws_whole_questions_and_pairs_by_id():
    ids = np.array(["q3", "q1", "q1", "q2", "q3", "q3"])
    w = m.bootstrap_weights(ids, 200, seed=1)
    assert w.shape == (200, 6) and w.dtype == np.float32
    assert (w[:, 1] == w[:, 2]).all() and (w[:, 0] == w[:, 4]).all() and (w[:, 4] == w[:, 5]).all()
    assert (w[:, [0, 1, 3]].sum(1) == 3).all()
    order = np.array([5, 2, 0, 1, 3, 4])
    assert_array_equal(m.bootstrap_weights(ids[order], 200, seed=1), w[:, order]) # row order does not matter
    assert_array_equal(m.bootstrap_weights(pd.Series(ids), 200, seed=1), w)
    assert (m.bootstrap_weights(ids, 200, seed=2) != w).any()

def test_strata_keep_their_number_of_questions():
    rng = np.random.default_rng(0)
    ids = np.repeat(rng.permutation(30), 2)
    sets = np.where(ids % 3 == 0, "queue", "letters")
    w = m.bootstrap_weights(ids, 100, strata=sets)
    assert (w[:, sets == "queue"].sum(1) == 20).all() and (w[:, sets == "letters"].sum(1) == 40).all()
    assert (m.bootstrap_weights(ids, 100)[:, sets == "queue"].sum(1) != 20).any()
    for a, b in itertools.combinations(range(60), 2):
        if ids[a] == ids[b]: assert (w[:, a] == w[:, b]).all()
    assert abs(w.mean() - 1) < 1e-6 and abs(w.var() - 1) < .1 # Poisson-like, as multiplicities are

def test_intervals_hold_the_truth_as_often_as_they_say():
    rng, hits, n = np.random.default_rng(0), [], 100
    ids = np.repeat(np.arange(n), 2)
    w = m.bootstrap_weights(ids, 200)
    for _ in range(300):
        p = rng.random(n)[ids] # a fresh sample of questions each time
        y = (rng.random(2 * n) < p).astype(int)
        for value, reps, truth in ((m.pass_at_1(y), m.pass_at_1(y, w), 1/2), (m.auroc(p, y), m.auroc(p, y, w), 5/6),
                                   (m.brier(p, y), m.brier(p, y, w), 1/6)):
            lo, hi = m.interval(value, reps)
            hits.append(lo <= truth <= hi)
    assert .91 < np.mean(hits) < .98

def test_interval_shapes_and_gaps():
    reps = np.array([[1., np.nan, 5], [2, np.nan, 5], [3, np.nan, np.nan]])
    lo, hi = m.interval([2, 1, 9], reps, level=.5)
    assert_equal(lo, [1.5, np.nan, 5])
    assert_equal(hi, [2.5, np.nan, 9]) # widened to its own estimate
    assert_equal(m.interval(np.nan, [1., 2.]), (np.nan, np.nan))
    assert_equal(m.interval(.5, np.zeros(0)), (np.nan, np.nan))

def test_intervals_are_quantiles_of_what_is_defined():
    rng = np.random.default_rng(0)
    reps = rng.normal(size=(400, 5, 6))
    reps[:, 1:3][rng.random((400, 2, 6)) < .1] = np.nan    # columns with gaps beside columns without
    for level in (.5, .9, .95):
        want = np.nanquantile(reps, [(1 - level) / 2, (1 + level) / 2], axis=0)
        assert_allclose(m.interval(np.zeros((5, 6)), reps, level), [np.minimum(want[0], 0), np.maximum(want[1], 0)], rtol=0, atol=1e-12)

def test_seeds():
    assert_equal(m.seed_spread([]), (np.nan, np.nan, 0))
    assert_equal(m.seed_spread([.4, np.nan]), (.4, np.nan, 1))
    assert m.seed_spread([1, 2, 3]) == (2, 1, 3)

def called_one_by_one(score, y, z):
    "Shares of calls and parts of the gap, question after question: equal scores share what they give."
    share, acc = [0], [y.mean()]
    for v in np.unique(score):
        k = (score == v).sum()
        for _ in range(k):
            share.append(share[-1] + 1 / len(score))
            acc.append(acc[-1] + (z - y)[score == v].sum() / len(score) / k)
    return np.array(share), (np.array(acc) - y.mean()) / (z.mean() - y.mean())

@pytest.mark.parametrize("seed", range(8))
def test_figures_of_routers_are_those_of_calls_counted_one_by_one(seed):
    rng = np.random.default_rng(seed)
    score, y = rng.random(40).round(1), (rng.random(40) < .4).astype(int)
    z = np.maximum(y, rng.random(40) < .7).astype(int)
    share, part = called_one_by_one(score, y, z)
    def reached(level):
        k = np.flatnonzero(part >= level - 1e-12)[0]
        return share[k-1] + (share[k] - share[k-1]) * (level - part[k-1]) / (part[k] - part[k-1])
    found = m.routing(score, y, z)
    assert_allclose([found["apgr"], found["cpt50"], found["cpt80"]], [np.trapezoid(part, share), reached(.5), reached(.8)])
    twice = m.routing(score, y, z, np.array([np.ones(40), np.full(40, 2.)]))
    for k, x in found.items(): assert_allclose(twice[k], [x, x])

# --- bad input -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call, says", [
    (lambda: m.ece([.5], [.5]), "correct: wants 0 or 1"),
    (lambda: m.pass_at_1([1, None]), "correct: wants 0 or 1"),
    (lambda: m.auroc([.5], [1, 0]), "pair them by question"),
    (lambda: m.brier([1.5], [1]), r"conf: wants values in \[0, 1\]"),
    (lambda: m.output_ratio(["high"]), "conf: wants a number"),
    (lambda: m.average([[1]]), "one dimension"),
    (lambda: m.average([1], [-1]), "weights: want numbers of at least 0"),
    (lambda: m.average([1], [np.nan]), "weights: want numbers of at least 0"),
    (lambda: m.average([1], np.ones((2, 3))), "last axis must be the rows"),
    (lambda: m.ece([.5], [1], bins=0), "bins=0"),
    (lambda: m.ece([.5], [1], scheme="x"), "choose width or mass"),
    (lambda: m.deferral_curve([.5], [1], [1], [1], [np.nan], .5), "llm_cost: wants a finite number"),
    (lambda: m.deferral_curve([.5], [1], [1], [1], [1], [np.nan]), "taus"),
])
def test_bad_input_gets_one_clear_line(call, says):
    with pytest.raises(CoreaError, match=says) as e: call()
    assert "\n" not in str(e.value)

def test_inputs_are_left_alone():
    conf, correct, w = np.array([.9, np.nan, .1]), np.array([True, False, True]), np.ones((2, 3), np.float32)
    before = [x.copy() for x in (conf, correct, w)]
    each_metric(conf, correct, correct, np.ones(3), np.ones(3), w)
    for x, y in zip((conf, correct, w), before): assert_array_equal(x, y)
