"Every claim has a verdict, and the verdict follows from the rule alone."
from hypothesis import given, strategies as st
from corea.lab.verdicts import claims, scoreboard, verdict

def test_scoreboard_has_a_verdict_for_every_claim_and_no_size_in_a_miniature(opened):
    f = scoreboard(opened)
    assert list(f.columns)[:11] == "claim_id claim paper ours ci_low ci_high this_low this_high n seeds verdict".split()
    assert not f.claim_id.duplicated().any() and len(f) == len(claims(opened))
    assert set(f.verdict) <= {"direction holds", "not reproduced", "not run"}
    idle = f.verdict == "not run"
    assert f[idle].ours.isna().all() and f[idle].rule.str.len().gt(0).all() and f[~idle].ours.notna().all()
    for r in f[~idle & (f.rule == "interval above 0")].itertuples(): assert (r.verdict == "direction holds") == (r.ci_low > 0)

def test_a_verdict_takes_the_interval_of_everything_drawn_again(opened):
    "The same number, and as a rule a wider interval than of this very cascade."
    f = scoreboard(opened).dropna(subset=["ours", "this_low"])
    cost = f[f.unit == "%"]
    assert ((f.ci_low <= f.ours + 1e-9) & (f.ours <= f.ci_high + 1e-9) & (f.this_low <= f.ours + 1e-9) & (f.ours <= f.this_high + 1e-9)).all()
    assert ((cost.ci_high - cost.ci_low) > 1.05 * (cost.this_high - cost.this_low)).mean() > .8
    again, this = ({c.claim_id: c for c in claims(s)} for s in (opened.redrawn(), opened))
    x, y = again["corea_cost_ood_math"].x, this["corea_cost_ood_math"].x
    assert x.shape == y.shape and (x[0] == y[0]).all() and (x[1:] != y[1:]).any()

finite = st.floats(-100, 100)

@given(st.tuples(finite, finite, finite).map(sorted), finite, st.sampled_from(["points", "%", ""]),
       st.sampled_from(["below", "above", "at most", "at least"]), finite)
def test_verdict_rules(three, paper, unit, test, bound):
    lo, v, hi = three
    e = dict(value=v, ci_low=lo, ci_high=hi)
    small, full = (verdict(e, paper, unit, test, bound, m) for m in (True, False))
    assert small != "reproduced" and (lo <= paper <= hi) <= (full == "reproduced")
    assert (small == "direction holds") == {"below": hi < bound, "above": lo > bound, "at most": v <= bound, "at least": v >= bound}[test]
    assert full in ("reproduced", small)

def test_what_is_undefined_is_never_a_success():
    nan = float("nan")
    e = dict(value=nan, ci_low=nan, ci_high=nan)
    assert {verdict(e, nan, "", t, 0, m) for t in ("below", "above", "at most", "at least") for m in (True, False)} == {"not reproduced"}

def test_a_cascade_that_defers_everything_keeps_no_promise(opened):
    "Its Pass@1 is the LLM's, at a higher price: the drop alone must not count."
    f = scoreboard(opened).set_index("claim_id")
    for drop, cost in (("corea_pass1", "corea_cost"), ("bar_drop", "bar_cost")):
        for g in ("in_domain", "ood_math"):
            if f.verdict[f"{cost}_{g}"] == "not reproduced": assert f.verdict[f"{drop}_{g}"] == "not reproduced"
            assert f"needs {cost}_{g}" in f.rule[f"{drop}_{g}"]
