"Prices of tokens: what a list may hold, and that prices put on counted tokens are those of answers priced one by one."
import re
import numpy as np, pandas as pd
import pytest
from hypothesis import given, strategies as st
from corea.extra import prices as pr
from corea.cascade import Price, break_even, cascade_cost, defer
from corea.core import CoreaError

def test_the_papers_ratios_are_the_papers_price_to_the_last_bit():
    n, m = np.random.default_rng(0).integers(0, 5000, (2, 10_000))
    for size in (7, 1.5):
        ratio = 32 / size
        for who in ("slm", "llm"):
            assert (getattr(pr.TokenPrice(1, 4, ratio, 4 * ratio), who)(n, m) == getattr(Price(slm_size=size), who)(n, m)).all()

amount = st.just(0.) | st.floats(1e-6, 1e6)
@given(amount, amount, st.floats(1e-6, 1e6), amount)
def test_each_token_costs_its_price(a, b, c, d):
    p = pr.TokenPrice(a, b, c, d)
    np.testing.assert_allclose([p.slm(1, 0), p.slm(0, 1), p.llm(1, 0), p.llm(0, 1), p.llm(3, 2)], [a, b, c, d, 3 * c + 2 * d], rtol=1e-12)

@pytest.mark.parametrize("name", ["slm_input", "slm_output", "llm_input", "llm_output"])
@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "2"])
def test_a_price_is_a_number_from_0(name, bad):
    with pytest.raises(CoreaError, match=f"{name} is .* in TokenPrice: give a number, 0 or more"):
        pr.TokenPrice(**dict(slm_input=1, slm_output=1, llm_input=1, llm_output=1) | {name: bad})

def test_a_small_model_may_be_free_and_then_only_what_is_deferred_is_paid():
    p = pr.TokenPrice(0, 0, 2, 8)
    own, asked = p.slm(np.array([100, 200]), np.array([10, 20])), p.llm(np.array([100, 200]), np.array([30, 40]))
    assert (own == 0).all() and list(cascade_cost(np.array([False, True]), own, asked)) == [0, asked[1]] and break_even(own.mean(), asked.mean()) == 1
    with pytest.raises(CoreaError, match="free leaves nothing to save"): pr.TokenPrice(1, 4, 0, 0)

HEAD = ",".join(pr.HEAD) + "\n"
GOOD = "me,small,2026-07-24,0.1,0.4,a bill\n"

@pytest.mark.parametrize("text, says", [
    (HEAD + GOOD + "me,large,2026-07-24,free,4,a bill\n", "line 3: input of large is 'free': give dollars"),
    (HEAD + GOOD + "me,large,2026-07-24,1,-4,a bill\n", "line 3: output of large is '-4'"),
    (HEAD + GOOD + "me,large,2026-07-24,nan,1,a bill\n", "line 3: input of large is 'nan'"),
    (HEAD + GOOD + "me,large,2026-07-24,1,-1,a bill\n", "line 3: output of large is '-1'"),
    (HEAD + GOOD + "me,large,24/07/2026,1,4,a bill\n", "line 3: date of large is '24/07/2026': write it as"),
    (HEAD + GOOD + "me,large,2026-07-24,1,4\n", "line 3: not the 6 fields"),
    (HEAD + GOOD + "me,large,2026-07-24,1,4,\n", "line 3: not 6 fields, none of them empty"),
    (HEAD + GOOD + "me,large,2026-07-24,1,4,a,bill\n", "line 3: not the 6 fields"),
    (HEAD + GOOD + GOOD, "line 3: me small 2026-07-24 again, first in .*line 2: keep one"),
    (GOOD, "line 1: the head is .*: write provider,model,date,input,output,source"), ("", "line 1: the head is None"), (HEAD, "mine.csv holds no prices"),
])
def test_a_bad_row_is_named(tmp_path, text, says):
    (tmp_path/"mine.csv").write_text(text)
    with pytest.raises(CoreaError, match=says): pr.read_prices(tmp_path/"mine.csv")

def test_the_latest_price_counts(tmp_path):
    (tmp_path/"mine.csv").write_text(HEAD + "me,large,2026-07-24,1,4,a bill\n" + GOOD + "me,large,2025-07-24,9,36,a bill\n")
    assert pr.price_of(pr.read_prices(tmp_path/"mine.csv"), "me", "small", "large") == pr.TokenPrice(.1, .4, 1, 4)

def test_every_price_of_the_list_says_where_it_was_read():
    f = pr.read_prices()
    assert f.source.map(lambda s: bool(re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+/blob/[0-9a-f]{40}/[\w./-]+", s))).all()

RNG = np.random.default_rng(1)
SLM, LLM = (pd.DataFrame(dict(correct=RNG.integers(0, 2, 200), score=RNG.random(200), prompt_tokens=RNG.integers(5, 50, 200),
                              completion_tokens=RNG.integers(1, 300, 200))) for _ in range(2))

def test_tokens_counted_first_cost_what_answers_cost_one_by_one():
    p, w = pr.TokenPrice(.05, .4, 1.25, 10), RNG.integers(0, 3, (4, 200)).astype(float)
    d = defer(SLM.score, .4)
    cost = cascade_cost(d, p.slm(SLM.prompt_tokens, SLM.completion_tokens), p.llm(LLM.prompt_tokens, LLM.completion_tokens))
    use = pr.used(SLM, LLM, d, weights=w)
    np.testing.assert_allclose(sum(use.costs(p)), w @ cost / w.sum(1))
    np.testing.assert_allclose(use.pass1, w @ np.where(d, LLM.correct, SLM.correct) / w.sum(1))
    np.testing.assert_allclose(use.llm_share, w @ d / w.sum(1))

def test_at_the_break_even_nothing_is_saved():
    "And with answers of one length it is the break-even of `corea.cascade`."
    alone, top = pr.used(SLM, LLM, False), pr.used(SLM, LLM, True, both=False)
    p = pr.TokenPrice(1, 4, 7, 28)
    for tau in (.1, .5, .9):
        at = pr.priced(pr.used(SLM, LLM, defer(SLM.score, tau)), alone, top, p)
        assert (at["saved"] > 0) == (defer(SLM.score, tau).mean() < at["break_even"])
    same = LLM.assign(prompt_tokens=10, completion_tokens=50)
    top = pr.used(SLM, same, True, both=False)
    at = pr.priced(pr.used(SLM, same, defer(SLM.score, .5)), alone, top, p)
    assert at["break_even"] == pytest.approx(break_even(sum(alone.costs(p)), sum(top.costs(p))))
    assert at["drop"] == pytest.approx(top.pass1 - pr.used(SLM, same, defer(SLM.score, .5)).pass1)
