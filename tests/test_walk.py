"The fast way of 03a_walk held against the plain functions of 03_metrics, on tables that have everything which may go wrong."
import numpy as np
import pytest
from numpy.testing import assert_allclose
import corea.metrics as m
from corea.core import CoreaError
from corea.lab.walk import LANES, blocks, gaps, losses, shared, stated, walked

def table(case):
    "Ties and none, missing scores, several samples of a question, weights of zero, fractions and blocks that are not full."
    rng = np.random.default_rng(case)
    q, samples, r = rng.integers(1, 25), rng.integers(1, 5), rng.integers(1, 150)
    n, question = q * samples, np.repeat(np.arange(q), samples)
    score = rng.random(n) if case % 2 else rng.integers(0, 6, n) / 5
    score[rng.random(n) < rng.choice([0, .3, 1], p=[.3, .6, .1])] = np.nan
    slm, llm = rng.integers(0, 2, (2, n)).astype(float)
    own, large = rng.uniform([[1], [3]], [[5], [9]], (2, n))
    asked, spared = (rng.random(n), own) if case % 3 == 0 else (0 * own, 0 * own)    # a router: deferring may make it cheaper
    w = m.bootstrap_weights(np.arange(q), r, seed=case).astype(float)
    w[:, rng.random(q) < .2] = 0
    if case % 4 == 0: w *= rng.random(w.shape)
    return w, question, score, slm, llm, own, large, asked, spared

@pytest.mark.parametrize("case", range(60))
def test_the_walk_gives_what_the_plain_functions_give(case):
    w, question, score, slm, llm, own, large, asked, spared = table(case)
    full = w[:, question]
    plain = dict(auroc=m.auroc(score, slm, full), aurc=m.aurc(score, slm, full), benefit_auroc=m.benefit_auroc(score, slm, llm, full),
                 gain_chord=m.gain_over_chord(score, slm, llm, own, large, full, asked, spared))
    for bins in (7, 10):
        fast = walked(w, score, slm, llm, own, large, asked, spared, bins, question)
        assert fast.keys() == plain.keys() | {"ece_mass"}
        for name, value in (plain | dict(ece_mass=m.ece(score, slm, bins, "mass", full))).items():
            assert_allclose(fast[name], value, rtol=0, atol=1e-9, err_msg=name)

@pytest.mark.parametrize("case", range(60))
def test_sums_of_columns_give_what_the_plain_functions_give(case):
    w, question, score, slm, *_ = table(case)
    full, (c, y) = w[:, question], m.columns(conf=score, correct=slm)
    pairs = [(stated(c), m.output_ratio(score, full)), (losses(c, y), m.brier(score, slm, full))]
    pairs += [(gaps(c, y, bins), m.ece(score, slm, bins, weights=full)) for bins in (1, 10, 15)]
    for columns, value in pairs: assert_allclose(shared(full @ columns), value, rtol=0, atol=1e-9)

def test_the_tables_have_what_may_go_wrong():
    w, question, score = zip(*(table(case)[:3] for case in range(60)))
    assert any(np.isnan(s).all() for s in score) and any(0 < np.isnan(s).mean() < 1 for s in score) and any(np.isfinite(s).all() for s in score)
    assert {blocks(x).whole for x in w} == {True, False} and {len(x) > LANES for x in w} == {True, False}
    assert any(len(x) % LANES for x in w) and any((x.sum(1) == 0).any() for x in w) and any(len(q) > len(set(q)) for q in question)

@pytest.mark.parametrize("case", range(4))
def test_laid_out_once_is_the_same(case):
    w, question, *rows = table(case)
    one, other = (walked(x, *rows, question=question) for x in (w, blocks(w)))
    for name in one: np.testing.assert_array_equal(one[name], other[name])

def test_no_rows_and_no_replicates():
    none = np.zeros(0)
    for name, value in walked(np.ones((3, 0)), none, none).items(): np.testing.assert_array_equal(value, [np.nan] * 3, err_msg=name)
    assert all(len(x) == 0 for x in walked(np.ones((0, 2)), np.array([.1, .2]), np.array([0., 1])).values())

@pytest.mark.parametrize("bad", [-np.inf, np.inf])
def test_an_infinite_score_is_refused(bad):
    "The plain functions let a missing score tie with minus infinity; the walk takes missing ones first."
    with pytest.raises(CoreaError, match="finite"): walked(np.ones((1, 3)), np.array([bad, np.nan, .5]), np.array([1., 0, 1]))
