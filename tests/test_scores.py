"What 07a_scores cannot say about itself: prices, ties and missing scores hold for any answers, and the maps agree with scikit-learn."
import math
import numpy as np, pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from corea.cascade import Price
from corea.core import FIGURES, CoreaError
from corea.metrics import auroc, auroc_parts, bootstrap_weights, pairs
from corea.scores import MAPS, SOURCES, P_TRUE, Score, area, fit, own, p_true, score, several

FREE = [k for k in SOURCES if "logprob" not in k]
answers = st.lists(st.tuples(st.sampled_from(["1", "2", r"\text{1}", None]), st.booleans(), st.sampled_from([math.nan, 0., .3, .9, 1.]),
                             st.integers(1, 9)), min_size=8, max_size=8)

def frame(rows, k=4):
    "Answers to questions, k samples of each."
    f = pd.DataFrame(rows, columns=["answer", "correct", "confidence", "completion_tokens"])
    n = np.arange(len(f))
    return f.assign(dataset="d", question_id=(n // k).astype(str), sample=n % k, prompt_tokens=7, correct=f.correct.astype(int),
                    expected_confidence=f.confidence, avg_prob=.9)

@settings(max_examples=25)
@given(answers, st.randoms())
def test_scores_belong_to_their_rows_whatever_the_order(rows, random):
    f = frame(rows)
    i = list(range(len(f)))
    random.shuffle(i)
    for name in FREE:
        a, b = score(f, name), score(f.iloc[i].reset_index(drop=True), name)
        for x, y in zip(a, b): np.testing.assert_allclose(np.asarray(x, float)[i], y)

@settings(max_examples=25)
@given(answers)
def test_several_answers_are_charged_and_bounded(rows):
    f = frame(rows)
    q = f.question_id.astype(int)
    for how in ("mean_stated", "majority", "agreement", "avg_conf", "centroid"):
        s = several(f, how)
        assert (s.prompt == 28).all()
        assert (s.completion == f.groupby("question_id").completion_tokens.transform("sum")).all()
        assert ((s.value >= 0) & (s.value <= 1 + 1e-12) | np.isnan(s.value)).all()
    assert np.isnan(several(f, "agreement").value[f.answer.isna()]).all()
    same = f.answer.map({"1": "1", "2": "2", r"\text{1}": "1"})
    for i in np.flatnonzero(f.answer.notna()):
        others = same[(q == q[i]) & (f.index != i)]
        assert several(f, "agreement").value[i] == pytest.approx((others == same[i]).mean())

@settings(max_examples=25)
@given(answers, st.lists(st.integers(0, 3), min_size=2, max_size=2))
def test_auroc_splits_into_its_two_parts(rows, times):
    "Counted pair by pair; a question drawn twice is two questions to itself, and no opponent of its own copy."
    f = frame(rows)
    s, y, q = f.confidence.to_numpy(), f.correct.to_numpy(), f.question_id.to_numpy()
    duels = [(q[i] == q[j], (s[i] > s[j]) + (s[i] == s[j]) / 2) for i in range(8) for j in range(8)
             if y[i] == 1 and y[j] == 0 and not np.isnan(s[[i, j]]).any()]
    parts = auroc_parts(s, y, q)
    for name, same in (("within", True), ("between", False)):
        won = [v for k, v in duels if k == same]
        assert parts[name] == pytest.approx(np.mean(won)) if won else np.isnan(parts[name])
    w = np.repeat(times, 4)
    drawn = lambda x: np.repeat(x, w)
    copy = np.concatenate([np.arange(k) for k in w]).astype(int).astype(str) if w.sum() else drawn(q)
    weighted = auroc_parts(s, y, q, w)
    for name, ids in (("within", np.char.add(drawn(q).astype(str), copy)), ("between", drawn(q))):
        again = auroc_parts(drawn(s), drawn(y), ids)[name] if w.sum() else math.nan
        np.testing.assert_allclose(again, weighted[name])
    assert pairs(s, y, q.astype(int))[0].sum() == sum(k for k, _ in duels)

def test_area_charges_and_knows_its_ends():
    rng, n = np.random.default_rng(1), 400
    f = pd.DataFrame(dict(question_id=np.arange(n).astype(str), dataset="d", correct=rng.integers(0, 2, n), prompt_tokens=10, completion_tokens=20))
    llm, price = f.assign(correct=1), Price(7, 32)
    truth = own(f.assign(c=f.correct), "c")
    dear = Score(truth.value, 4 * truth.prompt, 4 * truth.completion)
    free = Score(truth.value, 0 * truth.prompt, 0 * truth.completion)
    coin = own(f.assign(c=.5), "c")
    a = [area(s, f, llm, price) for s in (free, truth, dear, coin)]
    assert a[0] > a[1] > a[2] and a[1] > 0 > a[3]
    w = np.vstack([np.ones(n), bootstrap_weights(f.question_id, 5)])
    many = area(truth, f, llm, price, w)
    assert many.shape == (6,) and many[0] == pytest.approx(a[1])
    twice = np.flatnonzero(w[1])
    i = np.repeat(twice, w[1][twice].astype(int))
    again = area(Score(*(x[i] for x in truth)), f.iloc[i], llm.iloc[i], price)
    assert many[1] == pytest.approx(again)

def test_area_of_a_score_that_is_never_there():
    f = frame([("1", True, math.nan, 3)] * 8)
    assert math.isfinite(area(score(f, "stated"), f, f, Price()))

@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0., .1, .5, .8, .95, 1., math.nan]), st.booleans()), min_size=3, max_size=60), st.sampled_from(list(MAPS)))
def test_maps_give_probabilities_and_keep_what_is_missing(rows, kind):
    s, y = np.array(rows, float).T
    if np.isnan(s).all():
        with pytest.raises(CoreaError): fit(s, y, kind)
        return
    new = np.array([0, .05, .4, .9, 1, math.nan])
    p = fit(s, y, kind)(new)
    assert (np.isnan(p) == np.isnan(new)).all() and ((p[:-1] >= 0) & (p[:-1] <= 1)).all()
    step = np.diff(p[:-1])
    assert (step >= -1e-12).all() or kind == "histogram" or kind == "platt" and (step <= 1e-12).all()

def sample(n=600):
    rng = np.random.default_rng(2)
    s = np.round(rng.random(n), 2)
    return s, (rng.random(n) < s ** 2).astype(float)

def test_platt_and_isotonic_agree_with_scikit_learn():
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression
    s, y = sample()
    new, up = np.linspace(-.2, 1.2, 50), y.sum()
    iso = IsotonicRegression(out_of_bounds="clip").fit(s, y)
    np.testing.assert_allclose(fit(s, y, "isotonic")(new), iso.predict(new), atol=1e-9)
    soft = np.where(y == 1, (up + 1) / (up + 2), 1 / (len(y) - up + 2))
    both, labels = np.r_[s, s][:, None], np.r_[np.ones(len(s)), np.zeros(len(s))]
    lr = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(both, labels, sample_weight=np.r_[soft, 1 - soft])
    np.testing.assert_allclose(fit(s, y, "platt")(new), lr.predict_proba(new[:, None])[:, 1], atol=1e-4)

def test_temperature_finds_the_temperature():
    from scipy.special import expit, logit
    rng = np.random.default_rng(3)
    p = rng.uniform(.05, .95, 50_000)
    y = rng.random(len(p)) < p
    hot = expit(3 * logit(p))
    np.testing.assert_allclose(fit(hot, y, "temperature")(hot), p, atol=.02)

def test_histogram_is_the_share_right_of_each_bin():
    s, y = np.repeat([.1, .9], 50), np.r_[np.ones(10), np.zeros(40), np.ones(40), np.zeros(10)]
    np.testing.assert_allclose(fit(s, y, "histogram")([.1, .9]), [.2, .8])

def test_expected_confidence_is_finer_than_stated_on_the_records():
    f = pd.read_csv(FIGURES/"laptop"/"records"/"l1-s4.csv.gz").query("split == 'test'")
    stated, expected = (f[c].dropna() for c in ("confidence", "expected_confidence"))
    assert expected.nunique() >= 10 * stated.nunique()
    by = {c: np.mean([auroc(g[c], g.correct) for _, g in f.groupby("dataset")]) for c in ("confidence", "expected_confidence")}
    assert by["expected_confidence"] > by["confidence"]

class Told:
    "An engine that says True with a given probability, spelt with one token or two."
    def __init__(self, p):
        self.p, self.seen = p, []
        self.tokenizer = type("T", (), {"apply_chat_template": staticmethod(self.prompts),
                                        "__call__": lambda _, s, **kw: {"input_ids": [1] if s == "True" else [2, 3]}})()
    def prompts(self, chats, **kw):
        self.seen += [c[0]["content"] for c in chats]
        return [[9] * 5 for _ in chats]
    def _ask(self, contexts, wanted):
        return [{t: math.log({1: self.p, 2: 1 - self.p}.get(t, 1)) for t in w} for w in wanted]

def test_p_true_reads_the_reply_and_charges_the_prompt():
    f = frame([("1", True, .5, 3), (None, False, .5, 3)] * 4).assign(question="2+3?")
    engine = Told(.8)
    s = p_true(f, engine)
    np.testing.assert_allclose(s.value, np.where(f.answer.isna(), np.nan, .8))
    assert (s.prompt == 12).all() and (s.completion == 5).all()
    assert engine.seen[0] == P_TRUE.format(question="2+3?", answer="1")
    for none in (None, object()):
        with pytest.raises(CoreaError, match="give an engine"): score(f, "p_true", none)
    with pytest.raises(CoreaError, match="give an engine"): score(f.drop(columns="question"), "p_true", engine)

def test_what_is_wrong_is_said_in_one_line():
    f = frame([("1", True, .5, 3)] * 8)
    for wrong in (lambda: score(f, "mood"), lambda: score(f, "sum_logprob"), lambda: several(f.iloc[:1], "majority"), lambda: fit([.5], [1], "spline")):
        with pytest.raises(CoreaError) as e: wrong()
        assert "\n" not in str(e.value)
