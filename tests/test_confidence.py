"What 07_confidence cannot say about itself: any input, same bits, real checkpoints of another tokenizer."
import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from corea.answer import messages
from corea.confidence import (ROUTER_PROMPT, Probe, Router, average_probability, expected_confidence, probe_features,
                              router_messages, verbalised)
from corea.core import CoreaError
from corea.data import VALUES, load_questions, make_tokenizer

logprob = st.floats(-50, 0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    "A random model, small and quick."
    from transformers import Qwen3Config, Qwen3ForCausalLM
    path, tok = tmp_path_factory.mktemp("tiny"), make_tokenizer()
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1, head_dim=32,
        intermediate_size=64, tie_word_embeddings=True, max_position_embeddings=512, bos_token_id=None, initializer_range=0.1,
        eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)).save_pretrained(path)
    tok.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def questions(): return [q["question"] for q in load_questions("calc", "train", 48)]


@given(st.lists(logprob, min_size=1, max_size=30))
def test_means_lie_between_the_extremes(lp):
    a, g = average_probability(lp), average_probability(lp, "geometric")
    assert math.exp(min(lp)) * (1 - 1e-9) <= g <= a * (1 + 1e-9) <= math.exp(max(lp)) * (1 + 1e-8)


@given(st.dictionaries(st.sampled_from(VALUES), logprob, min_size=1), st.floats(-20, 20))
def test_expected_confidence_is_a_mean_and_ignores_the_rest_of_the_vocabulary(dial, shift):
    e = expected_confidence(dial)
    assert min(map(float, dial)) - 1e-9 <= e <= max(map(float, dial)) + 1e-9
    assert expected_confidence({v: lp + shift for v, lp in dial.items()}) == pytest.approx(e)


@pytest.mark.parametrize("dial", [None, {}, {"0.5": -math.inf}])
def test_no_dial_no_number(dial): assert math.isnan(expected_confidence(dial))


def test_verbalised_from_a_table():
    import pandas as pd
    got = verbalised(pd.DataFrame({"confidence": [0.5, None, float("nan"), 1]}))
    assert got.dtype == float and np.array_equal(got, [0.5, math.nan, math.nan, 1], equal_nan=True)


def test_features_do_not_depend_on_company(checkpoint, questions):
    said = [" (a) 1\\boxed{1}", "", " (b) + 22 = 24 \\boxed{24} \\confidence{0.9}"]
    f = probe_features(checkpoint, questions[:3], said)
    assert f.shape == (3, 32) and f.dtype == np.float32 and not f[1].any()
    for i in (0, 2): np.testing.assert_allclose(probe_features(checkpoint, [questions[i]], [said[i]], 1)[0], f[i], atol=1e-5)
    assert np.array_equal(f, probe_features(checkpoint, questions[:3], said))
    with pytest.raises(CoreaError, match="give one response to each"): probe_features(checkpoint, questions[:3], said[:2])


def test_features_pool_the_response_only(checkpoint, questions):
    from corea.generate import load_checkpoint
    model, tok = load_checkpoint(checkpoint)
    p = tok.apply_chat_template(messages(questions[0]), add_generation_prompt=True, return_dict=False)
    c = tok(" = 24", add_special_tokens=False)["input_ids"]
    with torch.no_grad(): h = model(torch.tensor([p + c]), output_hidden_states=True).hidden_states[-1][0, len(p):]
    got = probe_features((model, tok), [questions[0]], [c + [tok.eos_token_id]])[0]
    np.testing.assert_allclose(got, h.mean(0).numpy(), atol=1e-5)


def blobs(n=400, d=16, seed=0):
    r = np.random.default_rng(seed)
    x = r.normal(size=(n, d)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)  # not linear: a probe with no hidden layer could not


def test_probe_learns_and_generalises():
    x, y = blobs(1600)
    p = Probe(seed=3).fit(x[:1200], y[:1200]).predict(x[1200:])
    assert ((p > 0.5) == y[1200:]).mean() > 0.75 and ((0 <= p) & (p <= 1)).all()


def test_probe_keeps_its_best_epoch():
    x, _ = blobs(60)
    y = np.random.default_rng(1).integers(0, 2, 60)  # nothing to learn: later epochs only memorise
    p = Probe(epochs=40, lr=1e-2).fit(x, y)
    held = [h for _, h in p.history]
    assert np.argmin(held) < 30 and p.history[-1][0] < min(t for t, h in p.history if h == min(held))


@pytest.mark.parametrize("n", [1, 9, 10, 33])
def test_probe_of_any_size_is_reproducible(n):
    x, y = blobs(n)
    first = Probe(epochs=3, seed=5).fit(x, y).predict(x)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert np.array_equal(first, Probe(epochs=3, seed=5).fit(x, y).predict(x))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("x, y", [(np.zeros((0, 4)), []), (np.zeros((2, 4)), [1]), (np.zeros(4), [1] * 4),
                                  (np.full((2, 4), np.nan), [0, 1])])
def test_bad_features(x, y):
    with pytest.raises(CoreaError, match="cannot learn"): Probe().fit(x, y)


def test_router_prompt_is_the_papers():
    assert ROUTER_PROMPT == ("Question: {Question} Instruction: Estimate and output the probability (0.0-1.0) that a small "
                             "language model (≤ 10B) can answer the question correctly.")
    assert "{1+1}" in router_messages("What is {1+1}?")[0]["content"]


def test_router_learns_from_the_question_alone(checkpoint, questions):
    other = [q["question"] for q in load_questions("queue", "train", 48)]
    router = Router(checkpoint, lr=3e-3, epochs=10).fit(questions[:40] + other[:40], [1.0] * 40 + [0.0] * 40)
    assert router.predict(questions[40:]).min() > router.predict(other[40:]).max() + 0.3
    assert set(router.predict(questions, "greedy")) <= {float(v) for v in VALUES}
    assert router.history[-1] < router.history[0]


def test_router_same_seed_same_bits_and_survives_saving(checkpoint, questions, tmp_path):
    rates = np.linspace(0, 1, len(questions))
    fit = lambda seed: Router(checkpoint, epochs=1, batch=8, seed=seed).fit(questions, rates)
    a, _, b, c = fit(0), torch.manual_seed(4), fit(0), fit(1)
    for p, q in zip(a.model.parameters(), b.model.parameters()): assert torch.equal(p, q)
    assert (a.predict(questions) != c.predict(questions)).any()
    assert np.array_equal(Router(a.save(tmp_path/"router")).predict(questions), a.predict(questions))
    base = Router(checkpoint)
    assert (base.predict(questions) != a.predict(questions)).any()  # the base on disk was not touched
    assert base.predict([]).shape == (0,) and base.prompt_tokens([]).shape == (0,)


def test_router_where_a_value_takes_several_tokens(questions, tmp_path):
    "As with Qwen2.5, which spells 0.7 in three tokens."
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True) for s in ("<pad>", "<end>")])
    tok = PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<pad>", eos_token="<end>",
                                  chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tok), hidden_size=32, num_hidden_layers=1, num_attention_heads=1,
                                 num_key_value_heads=1, head_dim=32, intermediate_size=32, tie_word_embeddings=True,
                                 eos_token_id=tok.eos_token_id, bos_token_id=None)).save_pretrained(tmp_path)
    tok.save_pretrained(tmp_path)
    router = Router(tmp_path, lr=1e-2, epochs=40, batch=4)
    assert {len(p) for p in router.paths.values()} == {3}
    router.fit(questions[:12], [0.7] * 12)
    assert router.predict(questions[:3]) == pytest.approx([0.7] * 3, abs=0.15)
    assert list(router.predict(questions[:3], "greedy")) == [0.7] * 3


@pytest.mark.parametrize("rates", [[0.5], [0.5, 1.5], [0.5, math.nan], []])
def test_bad_rates(checkpoint, questions, rates):
    with pytest.raises(CoreaError, match="one rate"): Router(checkpoint).fit(questions[:2], rates)


def test_not_a_checkpoint(tmp_path):
    for f in (lambda: Router(tmp_path), lambda: probe_features(tmp_path, ["a"], ["b"])):
        with pytest.raises(CoreaError, match="checkpoint"): f()


def test_train_questions_are_nobody_elses():
    "The probe and the router learn from the train split; scores are read on the others."
    for d in ("calc",):
        train = {q["question"] for q in load_questions(d, "train")}
        for split in ("calibration", "dev", "test"): assert not train & {q["question"] for q in load_questions(d, split)}
