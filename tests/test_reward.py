"What 04_reward cannot say about itself: properties on any input, and groups split over real processes."
import multiprocessing, traceback
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binom
import corea.reward as reward
from corea.core import CoreaError
from corea.reward import (CONFIDENCE_TERMS, EPS, GROUP_TERMS, correctness_reward, format_reward, group_rate, kl, l2,
                          make_rewards, optimal_confidence, read_batch, scripts)

unit = st.floats(0, 1)
PROPER = ("l2", "kl", "brier", "sample_kl")
SAMPLE_TERMS = [m for m in CONFIDENCE_TERMS if m not in GROUP_TERMS]
METRICS = {"pass_at_1", "ece", "auroc", "output_ratio", "mean_confidence", "unevaluated"}

def completion(right, c): return rf"\boxed{{{111 if right else 101}}}" + (rf" \confidence{{{c:.2f}}}" if c is not None else "")

def columns(rows, chat=False, log=None):
    "Arguments as TRL passes them, for rows (right, confidence or None, question id)."
    texts, n = [completion(right, c) for right, c, _ in rows], len(rows)
    return dict(prompts=["Work out 13 (a) + 98."] * n, completion_ids=[[1]] * n, trainer_state=None, log_extra=None,
                completions=[[{"role": "assistant", "content": t}] for t in texts] if chat else texts,
                log_metric=None if log is None else lambda name, value: log.append((name, value)),
                question=["Work out 13 (a) + 98."] * n, gold=["111"] * n, kind=["math"] * n,
                question_id=[q for *_, q in rows])

cent = st.integers(0, 100).map(lambda k: k / 100)
a_row = st.tuples(st.booleans(), st.one_of(st.none(), cent), st.sampled_from("abc"))
batches = st.lists(a_row, min_size=1, max_size=24)

# ---- the terms

@pytest.mark.parametrize("name", CONFIDENCE_TERMS)
@given(c=unit, p=unit)
def test_bounded_and_silence_never_pays(name, c, p):
    term = CONFIDENCE_TERMS[name]
    assert -1 <= term(c, p) <= 0
    assert term(np.nan, p) == -1 <= term(c, p)

@pytest.mark.parametrize("name", PROPER)
def test_strictly_proper_on_the_grid(name):
    "The true rate beats every other grid value, in expectation over right and wrong and over group rates."
    grid, n = np.arange(1, 100) / 100, 8 if name in GROUP_TERMS else 1
    k = np.arange(n + 1)
    expected = CONFIDENCE_TERMS[name](grid[:, None], k / n) @ binom.pmf(k[:, None], n, grid)    # (stated, true)
    margin = expected.diagonal() - expected
    np.fill_diagonal(margin, np.inf)
    assert (margin > 1e-6).all()

@given(c=st.floats(EPS, 1 - EPS), d=st.floats(EPS, 1 - EPS), p=st.floats(.001, .999))
def test_eq5_orders_and_spaces_confidences_like_eq4(c, d, p):
    eq4 = lambda c: -(p * np.log(p / c) + (1 - p) * np.log((1 - p) / (1 - c)))
    assert (kl(c, p) - kl(d, p)) * abs(np.log(EPS)) == pytest.approx(eq4(c) - eq4(d), abs=1e-9)

@pytest.mark.parametrize("name", CONFIDENCE_TERMS)
@pytest.mark.parametrize("N", [4, 8, 16])
def test_getting_better_never_costs(name, N):
    "With the best confidence for its rate, a model that solves more earns no less in total: nothing to hack."
    p = np.linspace(0, 1, 201)
    n = N if name in GROUP_TERMS else 1
    k = np.arange(n + 1)
    earned = CONFIDENCE_TERMS[name](optimal_confidence(name, p, N)[:, None], k / n)      # (P, n + 1)
    total = p + (earned * binom.pmf(k, n, p[:, None])).sum(1)
    assert (np.diff(total) > -1e-4).all()

@pytest.mark.parametrize("N", [4, 8, 16, 32])
def test_group_l1_asks_for_the_median(N):
    p = np.array([.03, .17, .31, .44, .62, .73, .88, .99])
    assert optimal_confidence("l1", p, N) == pytest.approx(binom.median(N, p) / N, abs=1e-9)
    assert optimal_confidence("l1", .3, 8) == .25 and np.shape(optimal_confidence("l1", .3)) == ()

# ---- groups

@given(st.lists(st.tuples(st.booleans(), st.one_of(st.integers(0, 3), st.text(max_size=2), st.none()))))
def test_group_rate_is_the_mean_of_the_group(rows):
    rates = group_rate([r for r, _ in rows], [k for _, k in rows])
    assert len(rates) == len(rows)
    for rate, (_, key) in zip(rates, rows):
        assert rate == pytest.approx(np.mean([r for r, k in rows if k == key]))

@pytest.mark.parametrize("method", ["rlvr", *CONFIDENCE_TERMS])
@settings(max_examples=30, deadline=None)
@given(rows=batches, data=st.data())
def test_order_of_rows_does_not_matter(method, rows, data):
    order = data.draw(st.permutations(range(len(rows))))
    for f in make_rewards(method):
        straight, shuffled = f(**columns(rows)), f(**columns([rows[i] for i in order]))
        assert shuffled == pytest.approx([straight[i] for i in order], abs=1e-12)

@pytest.mark.parametrize("method", CONFIDENCE_TERMS)
@settings(max_examples=30, deadline=None)
@given(rows=batches)
def test_rewards_are_the_definition(method, rows):
    "Against the equations written out once more, in plain Python."
    for (right, c, q), got in zip(rows, make_rewards(method)[-1](**columns(rows, chat=True))):
        same = [r for r, _, k in rows if k == q]
        p = sum(same) / len(same) if method in GROUP_TERMS else float(right)
        x = min(max(c, .01), .99) if c is not None else None
        want = (-1 if c is None else -abs(c - p) if method.endswith("l1") else -(c - p)**2 if method in ("l2", "brier")
                else (p * np.log(x) + (1 - p) * np.log(1 - x)) / abs(np.log(.01)))
        assert got == pytest.approx(want, abs=1e-12) and -1 <= got <= 0

@settings(max_examples=30, deadline=None)
@given(rows=batches, c=cent, right=st.booleans())
def test_own_correctness_cancels_in_a_group(rows, c, right):
    "Two rollouts of a question with one confidence get one group term; the sample terms tell them apart."
    pair = [(True, c, "a"), (False, c, "a")]
    for method in GROUP_TERMS:
        *_, yes, no = make_rewards(method)[-1](**columns(rows + pair))
        assert yes == no
    for method in SAMPLE_TERMS:
        *_, yes, no = make_rewards(method)[-1](**columns(rows + pair))
        assert (yes > no) == (c > .5) and (yes < no) == (c < .5)

def test_a_question_twice_is_pooled_by_id_and_kept_apart_by_block():
    rows = [(True, .5, "a"), (True, .5, "a"), (False, .5, "a"), (False, .5, "a")]
    assert make_rewards("l1")[-1](**columns(rows)) == [0, 0, 0, 0]
    assert make_rewards("l1", group_size=2)[-1](**columns(rows)) == [-.5, -.5, -.5, -.5]
    with pytest.raises(CoreaError, match="not whole groups of 2"):
        make_rewards("l1", group_size=2)[-1](**columns([rows[0], (True, .5, "b"), *rows[2:]]))

def test_without_ids_the_question_is_the_group():
    rows = columns([(True, .5, "a"), (False, .5, "b")])
    del rows["question_id"]
    assert make_rewards("l1")[-1](**rows) == [0, 0]
    del rows["question"]
    assert make_rewards("l1")[-1](**rows) == [0, 0]

# ---- TRL's contract

def test_names_that_trl_logs():
    assert [f.__name__ for f in make_rewards("rlvr")] == ["correctness", "format"]
    for method in CONFIDENCE_TERMS:
        assert [f.__name__ for f in make_rewards(method)] == ["correctness", "format", "confidence"]
    with pytest.raises(CoreaError, match="unknown method 'sample'"): make_rewards("sample")

@pytest.mark.parametrize("method", ["rlvr", *CONFIDENCE_TERMS])
def test_plain_floats_whatever_the_form_of_a_completion(method):
    rows = [(True, .9, "a"), (False, None, "a"), (True, 0, "b")]
    for f in make_rewards(method):
        plain, chat = f(**columns(rows)), f(**columns(rows, chat=True))
        assert plain == chat and all(type(x) is float for x in plain)
        assert f(**columns([])) == []

def test_each_completion_is_parsed_and_graded_once_per_batch(monkeypatch):
    calls = {"parse": 0, "grade_all": 0}
    def counted(name, f):
        def g(*args):
            calls[name] += 1
            return f(*args)
        return g
    for name in calls: monkeypatch.setattr(reward, name, counted(name, getattr(reward, name)))
    reward._read.cache_clear()
    rows = [(True, .9, "a"), (False, .3, "a"), (True, None, "b")]
    for f in make_rewards("l1"): f(**columns(rows, chat=True))
    assert calls == {"parse": 3, "grade_all": 1}
    for f in make_rewards("l1"): f(**columns(rows[:2]))
    assert calls == {"parse": 5, "grade_all": 2}

def test_an_edited_batch_is_read_anew():
    args = columns([(True, .9, "a"), (True, .9, "a")])
    assert correctness_reward(**args) == [1, 1]
    args["completions"][0] = completion(False, .9)
    assert correctness_reward(**args) == [0, 1]
    args["gold"][1] = "5"
    assert correctness_reward(**args) == [0, 0]

def test_metrics_are_logged_once_and_never_as_nan():
    log = []
    for f in make_rewards("l1"): f(**columns([(True, .9, "a"), (False, .2, "a")], log=log))
    assert dict(log).keys() == METRICS and len(log) == 6
    assert dict(log)["auroc"] == 1 and dict(log)["mean_confidence"] == pytest.approx(.55)
    log = []
    correctness_reward(**columns([(True, None, "a"), (True, None, "a")], log=log))
    assert dict(log) == {"pass_at_1": 1, "output_ratio": 0, "unevaluated": 0}

def test_a_copied_question_is_paid_nothing_and_its_share_is_logged():
    texts = [rf"\boxed{{{a}}} \confidence{{0.5}}" for a in ("13 + 98", r"\frac{222}{2}", "111", "13 + 97", "13 + 98 = 111", "lots", "111 = 13 + 98")]
    log = []
    kept = dict(prompts=["q"] * 7, completions=texts, gold=["111"] * 7, kind=["math"] * 7)
    assert correctness_reward(**kept, log_metric=lambda *row: log.append(row)) == [0, 0, 1, 0, 1, 0, 0]
    assert dict(log)["unevaluated"] == pytest.approx(3 / 7)
    assert read_batch(**kept | dict(kind=["exact"] * 7)).unevaluated.tolist() == [0] * 7

def test_hostile_completions_cost_a_reward_not_a_run():
    texts = ["", r"\boxed{", r"\confidence{nan} \boxed{}", "\ud800", "9" * 5000, r"\boxed{" * 2000, "所" * 1000 + r"\boxed{111}"]
    for method in ("rlvr", "l1", "sample_kl"):
        for f in make_rewards(method):
            got = f(prompts=["q"] * len(texts), completions=texts, gold=["111"] * len(texts), question_id=["a"] * len(texts))
            assert all(-1 <= x <= 1 for x in got)
    assert read_batch(["q"] * 2, [[], [{"role": "assistant", "content": None}]], gold=["1", "1"]).correct.tolist() == [0, 0]

# ---- format

def test_languages_of_the_question_are_allowed():
    ask = lambda question, text: format_reward(prompts=[question], completions=[text], gold=["3"])[0]
    answer = r" \boxed{3} \confidence{0.5}"
    assert ask("How many?", "so, with θ = π/2 and x ∈ ℝ, ﬁne, 𝑥² µ ℵ₀" + answer) == 1
    assert ask("How many?", "所以" + answer) == pytest.approx(2 / 3)
    assert ask("有多少？", "所以 x" + answer) == 1
    assert ask("Сколько?", "所以" + answer) == pytest.approx(2 / 3)
    assert ask("How many?", "ｓｏ" + answer) == 1 and ask("How many?", "ｶﾅ" + answer) < 1

@given(st.text())
def test_scripts_of_any_text(text):
    assert scripts(text) == set().union(*map(scripts, text)) and None not in scripts(text)

# ---- two processes

ROWS = [(True, .9, "a"), (False, .3, "a"), (True, None, "a"), (True, .6, "a"),
        (False, .9, "b"), (True, .1, "b"), (False, .4, "b"), (False, .0, "b"),
        (True, .7, "c"), (True, 1.0, "c"), (False, .2, "c"), (False, None, "c")]
CUTS = (1, 5, 7, 11, 0)     # rank 0 has the rows before the cut, rank 1 the rest
CASES = [(cut, method, size) for cut in CUTS for method in ("rlvr", *CONFIDENCE_TERMS) for size in (None, 4)]

def everything(rows, method, size):
    log = []
    return [f(**columns(rows, log=log)) for f in make_rewards(method, size)], dict(log)

def work(rank, store, out):
    "One of two processes: every case, on its own rows."
    try:
        import torch.distributed as dist
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
        out.put((rank, [everything(ROWS[:cut] if rank == 0 else ROWS[cut:], *case) for cut, *case in CASES]))
        dist.barrier()
        dist.destroy_process_group()
    except Exception: out.put((rank, traceback.format_exc()))

@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    spawn, store = multiprocessing.get_context("spawn"), tmp_path_factory.mktemp("gloo")/"store"
    out = spawn.Queue()
    processes = [spawn.Process(target=work, args=(rank, store, out), daemon=True) for rank in (0, 1)]
    for p in processes: p.start()
    try: answers = dict(out.get(timeout=180) for _ in processes)
    finally:
        for p in processes:
            p.join(20)
            if p.is_alive(): p.terminate()
    for answer in answers.values(): assert not isinstance(answer, str), answer
    return answers

@pytest.mark.parametrize("i", range(len(CASES)), ids=lambda i: "-".join(map(str, CASES[i])))
def test_two_processes_give_the_answer_of_one(ranks, i):
    cut, *case = CASES[i]
    parts, log = everything(ROWS, *case)
    (first, log0), (second, log1) = ranks[0][i], ranks[1][i]
    assert [a + b for a, b in zip(first, second)] == parts
    assert [len(a) for a in first] == [cut] * len(parts)
    assert log0 == log1 == log

def test_the_split_would_show():
    "Without the exchange, a process with a part of a group gets another answer: the test above can fail."
    assert everything(ROWS[:5], "l1", None)[0][2] != everything(ROWS, "l1", None)[0][2][:5]

# ---- what other people's data and trainers pass

def ask(reward, text=r"\boxed{7} \confidence{0.9}", **columns): return reward(["q"], [text], **dict(gold=["7"]) | columns)

@pytest.mark.parametrize("gold", [None, float("nan")])
def test_a_row_without_a_gold_answer_is_refused_by_name(gold):
    for method in (correctness_reward, format_reward, reward.confidence_reward("l1")):
        with pytest.raises(CoreaError, match="row 0 has no gold answer .*'q'"): ask(method, gold=[gold])

def test_a_chat_may_be_told_in_parts():
    parts = [dict(type="text", text=r"\boxed{7} "), dict(type="image"), dict(type="text", text=r"\confidence{0.9}")]
    assert ask(correctness_reward, [dict(role="assistant", content=parts)]) == [1.0] == ask(format_reward, [dict(role="assistant", content=parts)])
    with pytest.raises(CoreaError, match="is no text"): ask(correctness_reward, [dict(role="assistant", content=7)])

def test_columns_may_be_arrays_and_must_be_as_long_as_the_batch():
    term, text = reward.confidence_reward("l1"), [r"\boxed{7} \confidence{0.9}", r"\boxed{8} \confidence{0.5}"]
    how = dict(gold=np.array(["7", "7"]), kind=np.array(["math"] * 2), question_id=np.array([1, 1]))
    np.testing.assert_allclose(term(["q"] * 2, text, **how), [-.4, 0])
    with pytest.raises(CoreaError, match="2 completions, but 1 question ids"): term(["q"] * 2, text, gold=["7"] * 2, question_id=[1])

def test_a_rising_weight_is_a_share_also_before_and_after_training():
    from types import SimpleNamespace as state
    weight = lambda step, most: -ask(reward.confidence_reward("rising_l1"), r"\boxed{7} \confidence{0}", trainer_state=state(global_step=step, max_steps=most))[0]
    assert [weight(0, 0), weight(1, 4), weight(9, 4)] == [0, .25, 1]

def test_a_sign_that_is_a_letter_of_an_allowed_script_is_no_other_language():
    assert ask(format_reward, "R = 5 \u2126 " + r"\boxed{7} \confidence{0.9}") == [1.0] and scripts("\u212a") == {"LATIN"}
