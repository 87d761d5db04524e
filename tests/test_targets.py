"What 04a_targets cannot say about itself: properties of the composed targets, on any batch."
import json
from types import SimpleNamespace
import numpy as np, pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
import corea.reward as reward
from corea.core import CoreaError
from corea.metrics import auroc_parts, pairs
from corea.reward import GROUP_TERMS, find_term, hybrid, leave_one_out, make_rewards, optimal_confidence, shrunken
from corea.extra.targets import advantages, answers, best_effort, errors_off, own_share, push, rivals, safe_weight, simulate, stretch

COMPOSED = ["loo_l1", "loo_l2", "loo_kl", "shrunk_l1", "shrunk3_l2", "shrunk_kl", "hybrid_l1", "hybrid25_l2", "hybrid90_kl", "rising_l1",
            "rising_brier", "rising_loo_l2", "decoupled_kl", "decoupled_hybrid_l1", "rising_decoupled_sample_l1"]
SAMPLE = dict(l1="sample_l1", l2="brier", kl="sample_kl")
few = settings(max_examples=25, deadline=None)

def columns(rows, **more):
    "Arguments as TRL passes them, for rows (right, confidence or None, question id)."
    text = lambda right, c: rf"\boxed{{{111 if right else 101}}}" + ("" if c is None else rf" \confidence{{{c}}}")
    return dict(prompts=["?"] * len(rows), completions=[text(r, c) for r, c, _ in rows], gold=["111"] * len(rows),
                question_id=[q for *_, q in rows]) | more

def pay(method, rows, **more): return make_rewards(method)[-1](**columns(rows, **more))

row = st.tuples(st.booleans(), st.one_of(st.none(), st.integers(0, 100).map(lambda k: k / 100)))
groups = st.dictionaries(st.sampled_from("abc"), st.lists(row, min_size=2, max_size=8), min_size=1)
batches = groups.map(lambda g: [(*r, q) for q, rows in g.items() for r in rows])

# ---- composed methods

@pytest.mark.parametrize("method", COMPOSED)
@few
@given(rows=batches, data=st.data())
def test_bounded_and_blind_to_order(method, rows, data):
    order, straight = data.draw(st.permutations(range(len(rows)))), pay(method, rows)
    assert pay(method, [rows[i] for i in order]) == pytest.approx([straight[i] for i in order], abs=1e-12)
    assert all(-1 <= x <= 0 and type(x) is float for x in straight)
    assert all(x == -1 for x, (_, c, _) in zip(straight, rows) if c is None)

@pytest.mark.parametrize("distance", GROUP_TERMS)
@few
@given(rows=batches)
def test_the_ends_of_hybrid_and_shrunk_are_the_papers_terms(distance, rows):
    assert pay(f"hybrid100_{distance}", rows) == pay(SAMPLE[distance], rows)
    assert pay(f"hybrid0_{distance}", rows) == pay(f"shrunk0_{distance}", rows) == pay(distance, rows)

@few
@given(rows=batches)
def test_targets_are_their_definition(rows):
    right, keys = [r for r, *_ in rows], [q for *_, q in rows]
    for i, (loo, shrunk, mixed) in enumerate(zip(leave_one_out(right, keys), shrunken(right, keys, 5), hybrid(right, keys, 30))):
        same = [r for r, k in zip(right, keys) if k == keys[i]]
        others = [r for j, (r, k) in enumerate(zip(right, keys)) if k == keys[i] and j != i]
        assert loo == pytest.approx(np.mean(others))
        assert shrunk == pytest.approx((sum(same) + 2.5) / (len(same) + 5))
        assert mixed == pytest.approx(.3 * right[i] + .7 * np.mean(same))

@given(p=st.floats(.02, .98), N=st.integers(2, 16))
@few
def test_leave_one_out_asks_for_the_rate_whatever_the_own_answer(p, N):
    assert own_share("loo_l2", N, p) == pytest.approx(0, abs=1e-9)
    for method in ("loo_l2", "loo_kl"): assert optimal_confidence(method, p, N) == pytest.approx(p, abs=1 / 3200)

@given(percent=st.integers(0, 100), strength=st.integers(0, 9), p=st.floats(.02, .98), N=st.integers(2, 16))
@few
def test_own_share_and_optimum_of_the_others(percent, strength, p, N):
    assert own_share(f"hybrid{percent}_l2", N, p) == pytest.approx(percent / 100 + (1 - percent / 100) / N)
    assert own_share(f"shrunk{strength}_l2", N, p) == pytest.approx(1 / (N + strength))
    assert optimal_confidence(f"hybrid{percent}_l2", p, N) == pytest.approx(p, abs=1 / 3200)
    assert optimal_confidence(f"shrunk{strength}_l2", p, N) == pytest.approx((N * p + strength / 2) / (N + strength), abs=1 / 3200)

def test_a_target_sees_the_rows_of_other_processes(monkeypatch):
    rows = [(True, .4, "a"), (False, .4, "a"), (False, .4, "b"), (True, .4, "a"), (True, .4, "b")]
    whole = {m: pay(m, rows) for m in COMPOSED}
    other = [(1.0, "a"), (0.0, "a")]
    monkeypatch.setattr(reward, "gather_rows", lambda mine: (other + mine, slice(2, 2 + len(mine))))
    for m in COMPOSED: assert pay(m, rows[2:]) == pytest.approx(whole[m][2:])

def test_rising_weight_follows_the_trainer():
    rows = [(True, .3, "a"), (False, None, "a")]
    full = np.array(pay("l2", rows))
    for step in (0, 1, 4): assert pay("rising_l2", rows, trainer_state=SimpleNamespace(global_step=step, max_steps=4)) == pytest.approx(full * step / 4)
    assert pay("l2", rows, trainer_state=SimpleNamespace(global_step=0, max_steps=4)) == pay("rising_l2", rows) == full.tolist()

@few
@given(rows=batches)
def test_decoupling_changes_who_is_taught_and_not_what_is_paid(rows):
    for m in ("l1", "brier", "loo_l2", "hybrid25_kl"):
        assert pay(f"decoupled_{m}", rows) == pay(m, rows)
        assert [make_rewards(p + m)[-1].term.decoupled for p in ("", "rising_", "decoupled_", "rising_decoupled_")] == [False, False, True, True]

@pytest.mark.parametrize("name", ["loo", "loo_l3", "loo3_l2", "loo_brier", "mean_l2", "rising_", "rising_rlvr", "loo_rising_l2", "shrunk-1_l2",
                                  "decoupled_", "decoupled_rlvr", "decoupled_rising_l1", "decoupled_decoupled_l1", "loo_decoupled_l2",
                                  "hybrid0.5_l2", "sample"])
def test_a_name_without_meaning_is_told_what_is_known(name):
    with pytest.raises(CoreaError, match=f"unknown method '{name}': choose rlvr, l1, l2, kl, .*loo, shrunk, hybrid"): make_rewards(name)

def test_numbers_out_of_range_are_told_before_training():
    with pytest.raises(CoreaError, match="hybrid takes 101 %"): make_rewards("hybrid101_l2")
    with pytest.raises(CoreaError, match="group of one"): pay("loo_l2", [(True, .5, "a"), (True, .5, "b")])

# ---- derivations

@given(N=st.integers(2, 12), percent=st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_safe_weights(N, percent):
    own = percent / 100
    assert safe_weight("loo_l2", N) == pytest.approx(N - 1, rel=.02)
    assert safe_weight(f"hybrid{percent}_l2", N) == pytest.approx(1 / (own**2 + (1 - own**2) / N), rel=.02)

def test_beyond_the_safe_weight_it_pays_to_be_worse():
    p = np.linspace(0, 1, 101)
    for method in ("brier", "l1", "loo_l2", "hybrid_l2"):
        w = safe_weight(method)
        assert (np.diff(best_effort(method, p, weight=.97 * w)) > 0).all() and (np.diff(best_effort(method, p, weight=1.2 * w)) < 0).any()

@given(c=st.floats(0, 1), p=st.floats(.01, .99), N=st.integers(2, 12), weight=st.floats(0, 9))
@few
def test_no_weight_makes_a_group_term_turn_against_being_right(c, p, N, weight):
    for method in GROUP_TERMS: assert push(method, c, p, N, weight) == pytest.approx((N - 1) / N * p * (1 - p))
    assert push("brier", c, p, N, weight) == pytest.approx((N - 1) / N * p * (1 - p) * (1 - weight * (1 - 2 * c)))

def test_simulation_tells_right_from_wrong():
    right, target = simulate("loo_l2", .6, 4, 3000, seed=2)
    assert right.shape == target.shape == (3000, 4) and (right.sum(1, keepdims=True) - right == 3 * target).all()
    assert errors_off(.6, right.mean(1)) < 3 < errors_off(.65, right.mean(1))
    assert rivals("l2", .6, .6) < 3 < rivals("l2", .5, .6)

def test_scaling_makes_the_distance_of_confidences_irrelevant_where_a_group_agrees():
    assert stretch(0, .3) == pytest.approx(stretch(0, .03), rel=.02) and stretch(8, .3) == pytest.approx(-stretch(0, .3))
    assert stretch(4, .3) > 5 * stretch(4, .03) and stretch(0, .03, scale=False) == pytest.approx(.03)
    assert not advantages(np.ones(8), np.full(8, .7)).any()

# ---- records

@few
@given(rows=batches)
def test_parts_of_auroc_are_shares_of_pairs(rows):
    f = pd.DataFrame(rows, columns=["correct", "confidence", "question_id"]).astype(dict(correct=float, confidence=float))
    won = dict(within=[], between=[])
    for r in f[f.correct == 1].dropna().itertuples():
        for w in f[f.correct == 0].dropna().itertuples():
            won["within" if r.question_id == w.question_id else "between"].append((r.confidence > w.confidence) + .5 * (r.confidence == w.confidence))
    assert pairs(f.confidence, f.correct, pd.factorize(f.question_id)[0])[0].sum() == len(won["within"])
    got = auroc_parts(f.confidence, f.correct, f.question_id)
    for part, duels in won.items(): assert got[part] == pytest.approx(np.mean(duels) if duels else np.nan, nan_ok=True)

def test_answers_says_what_was_not_run(tmp_path):
    (tmp_path/"run.json").write_text(json.dumps(dict(config=dict(seeds=[4, 5]))))
    f = pd.DataFrame(dict(split=["test", "test", "calibration"], dataset=["calc", "word", "calc"], question_id="q", sample=0, correct=1, confidence=.5))
    f.to_csv(tmp_path/"l1-s5.csv.gz", index=False)
    assert {s: len(g) for s, g in answers("l1", folder=tmp_path).items()} == {5: 1} and answers("l2", folder=tmp_path) == {}
