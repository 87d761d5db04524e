"""What 05_generate cannot show by itself: one contract for every engine, damaged checkpoints, properties.

The contract runs on a server too, on a test double and, as on vLLM itself, if this interpreter has vLLM or COREA_VLLM_PYTHON names one that has:

    COREA_VLLM_PYTHON=path/to/vllm-env/bin/python pytest tests/test_generate.py -k vllm
"""
import itertools, json, math, os, shutil, subprocess, sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import corea.generate as g
from corea.server import ServerEngine, vllm_server
import server as double
from corea.answer import INSTRUCTION, TOYS, messages
from corea.core import CoreaError
from corea.data import make_tokenizer
from generate_jobs import JOBS, QUESTIONS, run_jobs

ROOT = Path(__file__).resolve().parents[1]
SEVEN = " (a) + 2 = 7 \\boxed{7} \\confidence{1.0}"
# what the tiny model learns by heart; a favourite comes three times, so that greedy choices are no ties
TEXTS = [(t["question"], t["completion"]) for t in [*TOYS, TOYS[0], TOYS[0]]] + [
    (QUESTIONS[1], " (a) + 2 = 7 (b) + 3 = 10 \\boxed{10} \\confidence{0.8}"),
    (QUESTIONS[1], " (a) + 2 = 7 (b) + 3 = 10 \\boxed{10} \\confidence{0.8}"),
    (QUESTIONS[1], " (a) + 2 = 7 (b) + 3 = 10 \\boxed{10} \\confidence{0.8}"),
    (QUESTIONS[1], " (a) + 2 = 7 (b) + 3 = 11 \\boxed{11} \\confidence{0.1}"),
    (QUESTIONS[2], SEVEN), (QUESTIONS[2], SEVEN), (QUESTIONS[2], SEVEN), (QUESTIONS[2], " no answer")]

def spelling_tokenizer():
    "Bytes only, so that `0.7` takes three tokens; the instruction stays one, to keep prompts short."
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False)
                          for s in ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")])
    t.add_tokens([AddedToken("\n" + INSTRUCTION, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<|pad|>", eos_token="<|end|>",
                                   chat_template=make_tokenizer().chat_template, clean_up_tokenization_spaces=False)

def tiny_model(tokenizer):
    "A Qwen3 of one head that has learnt TEXTS by heart, in a second or two."
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1,
            head_dim=32, intermediate_size=96, max_position_embeddings=128, tie_word_embeddings=True,
            initializer_range=.08, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id))
    prompts = g.encode(tokenizer, [q for q, _ in TEXTS])
    rows = [(p, tokenizer(t + tokenizer.eos_token, add_special_tokens=False)["input_ids"])
            for p, (_, t) in zip(prompts, TEXTS)]
    ids, mask = g.pad_rows([p + c for p, c in rows], tokenizer.pad_token_id)
    labels = ids.masked_fill(mask == 0, -100)
    for r, (p, _) in enumerate(rows): labels[r, :len(p)] = -100
    opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        opt.step(), opt.zero_grad()
    return model.eval()

@pytest.fixture(scope="session", params=["one_token", "spelt"])
def checkpoint(request, tmp_path_factory):
    "A folder as `save_pretrained` leaves it, confidences in one token or in three."
    path = tmp_path_factory.mktemp("ck")/request.param
    tokenizer = spelling_tokenizer() if request.param == "spelt" else make_tokenizer(["\n" + INSTRUCTION])
    model = tiny_model(tokenizer)
    model.save_pretrained(path), tokenizer.save_pretrained(path)
    return path

@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    "A checkpoint for tests that need only one."
    tokenizer, path = make_tokenizer(["\n" + INSTRUCTION]), tmp_path_factory.mktemp("ck")/"one"
    tiny_model(tokenizer).save_pretrained(path), tokenizer.save_pretrained(path)
    return path

@pytest.fixture
def engine(folder): return g.TransformersEngine(folder, batch_size=5)

# ---- the contract, for every engine

def vllm_python():
    "An interpreter that has vLLM, or None."
    return os.environ.get("COREA_VLLM_PYTHON") or (sys.executable if find_spec("vllm") else None)

def vllm_jobs(checkpoint, out):
    env = os.environ | dict(PYTHONPATH=str(ROOT), HF_HUB_OFFLINE="1", VLLM_ENGINE_READY_TIMEOUT_S="3600")
    done = subprocess.run([vllm_python(), str(ROOT/"tests"/"generate_jobs.py"), str(checkpoint), str(out)], env=env,
                          capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    tuples = lambda c: c | {k: tuple(c[k]) for k in ("token_ids", "logprobs")}
    return {name: [g.Completion(**tuples(c)) for c in cs] for name, cs in json.loads(out.read_text()).items()}

@pytest.fixture(scope="session")
def transformers_jobs(checkpoint): return run_jobs(g.TransformersEngine(checkpoint, batch_size=7))

@pytest.fixture(scope="session", params=["transformers", "sifting", "server", "vllm", "vllm_server"])
def got(request, checkpoint, tmp_path_factory):
    "What an engine answers to every job."
    engine, folder = request.param, tmp_path_factory.mktemp(request.param)
    if engine == "transformers": return request.getfixturevalue("transformers_jobs")
    if engine == "sifting": return run_jobs(g.TransformersEngine(checkpoint, batch_size=7, sift=3))
    if "vllm" in engine and not vllm_python(): pytest.skip("no vLLM here: set COREA_VLLM_PYTHON to an interpreter that has it")
    if engine == "vllm": return vllm_jobs(checkpoint, folder/"out.json")
    python = vllm_python() if engine == "vllm_server" else double.interpreter(folder)
    with vllm_server(checkpoint, python=python, log=folder/"log", dtype="float32", enforce_eager=True) as url:
        return run_jobs(ServerEngine(url, tokenizer=checkpoint, batch_size=7))

@pytest.fixture(scope="session")
def reference(checkpoint):
    "Plain passes of the model, one row at a time, written without the module under test."
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    @cache
    def passed(ids):
        with torch.no_grad(): return model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    class R:
        ends = tokenizer.eos_token_id
        def decode(ids): return tokenizer.decode(ids, skip_special_tokens=True)
        def ids(text): return tokenizer(text, add_special_tokens=False)["input_ids"]
        def prompt(q): return R.ids(tokenizer.apply_chat_template(messages(q), add_generation_prompt=True, tokenize=False))
        def logp(ids): return passed(tuple(ids))
        def score(prompt, ids):
            logp = R.logp(prompt + ids[:-1])
            return [logp[len(prompt)-1+j, t].item() for j, t in enumerate(ids)]
        def greedy(q):
            ids = R.prompt(q)
            while ids[-1] != R.ends and len(ids) < 128: ids.append(R.logp(ids)[-1].argmax().item())
            return ids[len(R.prompt(q)):]
    return R

def question(name, c): return (QUESTIONS[::-1] if name == "backwards" else QUESTIONS)[c.index]

def read(reference, name, c): # what the model had read before it began to write
    return reference.prompt(question(name, c)) + reference.ids(JOBS[name].get("begun", [""] * 3)[c.index])

def test_scores_that_nobody_wants_change_no_text(checkpoint, transformers_jobs):
    "Text and counts are the same; what is switched off is left out."
    whole = transformers_jobs
    for scores in ((), ("logprobs",), ("confidence",)):
        for name, cs in run_jobs(g.TransformersEngine(checkpoint, batch_size=7, scores=scores)).items():
            for c, w in zip(cs, whole[name], strict=True):
                assert (c.text, c.token_ids, c.prompt_tokens, c.finish_reason) == (w.text, w.token_ids, w.prompt_tokens, w.finish_reason)
                assert c.logprobs == (w.logprobs if "logprobs" in scores else ())
                assert c.confidence_logprobs == (w.confidence_logprobs if "confidence" in scores else None)

def test_contract_each_answer_once(got):
    for name, n in dict(greedy=1, backwards=1, narrow=1, drawn=6, cooler=4, short=1).items():
        assert [(c.index, c.sample) for c in got[name]] == list(itertools.product(range(3), range(n))), name
    assert got["nothing"] == []

def test_contract_prompt_text_and_counts(got, reference):
    for name, cs in got.items():
        for c in cs:
            assert c.prompt_tokens == len(read(reference, name, c))
            assert c.completion_tokens == len(c.token_ids) == len(c.logprobs) > 0
            text = reference.decode(list(c.token_ids))
            assert text.startswith(c.text) if name in ("stopped", "closed", "boxed") else text == c.text, name

def test_contract_greedy_is_the_plain_loop(got, reference):
    for name in ("greedy", "backwards", "narrow"):
        for c in got[name]: assert list(c.token_ids) == reference.greedy(question(name, c)), name

def test_contract_a_begun_answer_is_gone_on_with(got, reference):
    for whole, rest, begun in zip(got["greedy"], got["begun"], JOBS["begun"]["begun"], strict=True):
        assert begun + rest.text == whole.text
        assert rest.token_ids == whole.token_ids[len(reference.ids(begun)):] and rest.finish_reason == "stop"
        assert rest.confidence_logprobs == pytest.approx(whole.confidence_logprobs, abs=1e-3)
    assert got["begun"][1].logprobs == pytest.approx(got["greedy"][1].logprobs, abs=1e-3)

def test_contract_logprobs_are_the_models_at_temperature_1(got, reference):
    for name in ("greedy", "drawn", "cooler", "narrow", "stopped", "short"):
        for c in got[name]:
            want = reference.score(reference.prompt(question(name, c)), list(c.token_ids))
            assert c.logprobs == pytest.approx(want, abs=1e-3), name

def test_contract_confidence_distribution(got, reference):
    stated = 0
    for name, cs in got.items():
        for c in cs:
            if "\\confidence{" not in c.text:
                assert c.confidence_logprobs is None
                continue
            ids, stated = list(c.token_ids), stated + 1
            at = max(k for k in range(len(ids) + 1) if reference.decode(ids[:k]).endswith("\\confidence{"))
            context = read(reference, name, c) + ids[:at]
            want = {v: sum(reference.score(context, reference.ids(v))) for v in (f"{i/10:.1f}" for i in range(11))}
            assert list(c.confidence_logprobs) == list(want)
            assert c.confidence_logprobs == pytest.approx(want, abs=1e-3)
            if name == "greedy": assert sum(map(math.exp, want.values())) == pytest.approx(1, abs=0.2)  # by heart
    assert stated > 20

def test_contract_seeds(got):
    tokens = lambda name: [c.token_ids for c in got[name]]
    assert tokens("drawn") == tokens("again") != tokens("other")
    assert len({(c.index, c.text) for c in got["drawn"]}) > 4      # samples of one question differ

def test_contract_finish_reasons(got, reference):
    for c in got["greedy"] + got["drawn"]:
        assert c.finish_reason == ("stop" if c.token_ids[-1] == reference.ends else "length")
        assert reference.ends not in c.token_ids[:-1]
    assert all(c.finish_reason == "stop" for c in got["greedy"])
    for c, whole in zip(got["short"], got["greedy"]):
        assert c.finish_reason == "length" and c.token_ids == whole.token_ids[:4]

def test_contract_stop_strings(got, reference):
    hit = 0
    for c, whole in zip(got["stopped"], got["greedy"]):
        if "xed{1" not in whole.text:
            assert (c.text, c.token_ids) == (whole.text, whole.token_ids)
            continue
        hit += 1
        assert c.text == whole.text[:whole.text.index("xed{1")] and c.finish_reason == "stop"
        assert c.token_ids == whole.token_ids[:c.completion_tokens]
        assert "xed{1" in reference.decode(c.token_ids) and "xed{1" not in reference.decode(c.token_ids[:-1])
    assert hit >= 2

def test_contract_strings_that_stay(got, reference, request):
    ends_early = "server" not in request.node.name      # a server takes four strings at the most: given more, it goes on to the end token
    for c, whole in zip(got["closed"], got["greedy"]):      # these models say nothing behind their confidence
        assert c.text == whole.text and c.text.endswith("}") and c.finish_reason == "stop"
        assert c.token_ids == whole.token_ids[:c.completion_tokens] and whole.completion_tokens - c.completion_tokens == ends_early
        assert c.confidence_logprobs == pytest.approx(whole.confidence_logprobs, abs=1e-3)
    for c, whole in zip(got["boxed"], got["greedy"]):
        assert c.text == whole.text[:whole.text.index("boxed{") + 6] and c.finish_reason == "stop"
        assert c.token_ids == whole.token_ids[:c.completion_tokens] and "boxed{" not in reference.decode(c.token_ids[:-1])

def test_contract_done_batches_are_skipped_and_the_rest_is_the_same(got):
    have = {(c.index, c.sample): c.token_ids for c in got["done"]}
    assert {(2, s) for s in range(6)} <= have.keys() != {(c.index, c.sample) for c in got["drawn"]}
    assert have == {(c.index, c.sample): c.token_ids for c in got["drawn"] if (c.index, c.sample) in have}

# ---- transformers alone

def test_the_callers_random_state_gradients_and_mode_are_untouched(folder):
    import torch
    model, tokenizer = g.load_checkpoint(folder)
    model.train()
    own, state = model.generation_config, torch.random.get_rng_state()
    for _ in g.TransformersEngine(model, tokenizer, batch_size=2).generate(QUESTIONS, g.Sampling(1.0), n=2):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert model.training and model.generation_config is own
        assert torch.equal(state, torch.random.get_rng_state())
    model(torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]])).loss.backward()    # nothing cached without gradient

def test_an_interrupted_run_goes_on_with_the_same_text(engine):
    import torch
    ask = lambda **kw: engine.generate(QUESTIONS, g.Sampling(1.0), n=5, seed=3, **kw)
    whole = list(ask())
    stream = ask()
    kept = [next(stream) for _ in range(7)]
    stream.close()
    torch.rand(9)
    assert kept == whole[:7]
    assert list(ask(done={(c.index, c.sample) for c in kept})) == whole[5:]
    assert list(ask(done={(c.index, c.sample) for c in whole})) == []

def test_generation_settings_of_the_checkpoint_do_not_count(folder, tmp_path):
    shutil.copytree(folder, tmp_path/"ck")
    (tmp_path/"ck"/"generation_config.json").write_text(json.dumps(
        dict(do_sample=True, top_k=1, repetition_penalty=5.0, temperature=9.0, max_new_tokens=2, min_p=.9)))
    ask = lambda path: list(g.TransformersEngine(path).generate(QUESTIONS, g.Sampling(1.0), n=4, seed=1))
    assert ask(tmp_path/"ck") == ask(folder)

@pytest.mark.parametrize("kind", ["", "unheard-of"])
def test_a_checkpoints_own_code_is_neither_run_nor_offered(folder, tmp_path, monkeypatch, kind):
    "Even where somebody sits at the terminal, who could be asked."
    path = shutil.copytree(folder, tmp_path/"ck")
    (path/"own.py").write_text(f"open({str(tmp_path/'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\nclass Tokenizer: pass\n")
    for name, says in {"config.json": dict(AutoConfig="own.Config", AutoModelForCausalLM="own.Model"), "tokenizer_config.json": dict(AutoTokenizer=["own.Tokenizer", None])}.items():
        said = json.loads((path/name).read_text()) | dict(auto_map=says)
        (path/name).write_text(json.dumps(said | (dict(model_type=kind) if kind and name == "config.json" else {})))
    monkeypatch.setattr("builtins.input", lambda *a: "y")
    try: g.load_checkpoint(path)
    except CoreaError as e: assert kind and str(path) in str(e)
    assert not (tmp_path/"ran").exists()

def test_scoring_in_small_pieces_gives_the_same(folder):
    model, tokenizer = g.load_checkpoint(folder)
    rows, keep = g.encode(tokenizer, QUESTIONS), [2, 3, 4]
    one, many = (list(g.next_logprobs(model, rows, keep, tokenizer.pad_token_id, budget=b)) for b in (1, 2**26))
    assert [len(x) for x in one] == keep
    for a, b in zip(one, many): assert (a - b).abs().max() < 1e-4

def test_a_tokenizer_without_padding_token_pads_with_its_end_token(folder):
    model, tokenizer = g.load_checkpoint(folder)
    want = list(g.TransformersEngine(model, tokenizer).generate(QUESTIONS, g.Sampling(0, stop="}")))
    tokenizer.pad_token = None
    assert list(g.TransformersEngine(model, tokenizer).generate(QUESTIONS, g.Sampling(0, stop="}"))) == want

def test_no_distribution_where_the_context_leaves_no_room(engine):
    c = next(engine.generate(QUESTIONS[:1], g.Sampling(0)))
    at = g.confidence_at([engine.piece(t) for t in c.token_ids])
    engine.context = c.prompt_tokens + at + 1
    assert next(engine.generate(QUESTIONS[:1], g.Sampling(0, max_tokens=at + 1))).confidence_logprobs is not None
    engine.context -= 1
    assert next(engine.generate(QUESTIONS[:1], g.Sampling(0, max_tokens=at))).confidence_logprobs is None

def test_progress_bar_counts_answers(engine, capsys):
    list(engine.generate(QUESTIONS, g.Sampling(0, max_tokens=2), n=2, progress=True))
    assert "6/6" in capsys.readouterr().err
    list(engine.generate(QUESTIONS, g.Sampling(0, max_tokens=2), n=2))
    assert capsys.readouterr().err == ""

# ---- bad input: one clear line

def test_bad_requests_are_refused_at_the_call(engine, folder):
    with pytest.raises(CoreaError, match="give a list"): engine.generate("Work out 1.")
    for wrong in (" (a)", [" (a)"]):
        with pytest.raises(CoreaError, match="for 3 questions"): engine.generate(QUESTIONS, begun=wrong)
    with pytest.raises(CoreaError, match="question 1 has .* exceed the model's 128"):
        engine.generate([QUESTIONS[0], QUESTIONS[0]*20], g.Sampling())
    with pytest.raises(CoreaError, match="no tokenizer"): g.TransformersEngine(engine.model)
    tokenizer = g.load_checkpoint(folder)[1]
    tokenizer.chat_template = None
    with pytest.raises(CoreaError, match="no chat template"):
        g.TransformersEngine(engine.model, tokenizer).generate(QUESTIONS)

@pytest.mark.parametrize("bad", [dict(temperature=-1), dict(temperature=math.inf), dict(temperature=math.nan),
                                 dict(top_p=0), dict(top_p=1.1), dict(max_tokens=0), dict(max_tokens=1.5),
                                 dict(stop=[""]), dict(stop=[3]), dict(until=[""])])
def test_bad_sampling(bad):
    with pytest.raises(CoreaError, match=next(iter(bad))): g.Sampling(**bad)

def damage_missing_weights(p):
    from safetensors.torch import load_file, save_file
    w = load_file(p/"model.safetensors")
    w.pop("model.layers.1.mlp.up_proj.weight")
    save_file(w, p/"model.safetensors", metadata={"format": "pt"})

DAMAGE = {
    "no checkpoint folder": shutil.rmtree,
    "it has no config.json": lambda p: (p/"config.json").unlink(),
    "it has no weights": lambda p: (p/"model.safetensors").unlink(),
    "it has no tokenizer": lambda p: [f.unlink() for f in p.glob("tokenizer*")],
    "lacks 1 of its weights, as model.layers.1.mlp.up_proj.weight": damage_missing_weights,
    "cannot load": lambda p: (p/"model.safetensors").write_bytes((p/"model.safetensors").read_bytes()[:5000]),
    "cannot load ": lambda p: (p/"config.json").write_text("{"),
    " cannot load": lambda p: (p/"tokenizer.json").write_text("[]"),
    "cannot  load": lambda p: (p/"config.json").write_text((p/"config.json").read_text().replace("48,", "64,")),
}

@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_checkpoint_is_named_in_one_line(folder, tmp_path, message):
    path = tmp_path/"ck"
    shutil.copytree(folder, path)
    DAMAGE[message](path)
    with pytest.raises(CoreaError) as e: g.TransformersEngine(path)
    assert " ".join(message.split()) in str(e.value) and str(path) in str(e.value) and "\n" not in str(e.value)

PINNED = """
import sys
from corea.generate import TransformersEngine, at_commit, load_checkpoint
for commit in sys.argv[1:]:
    name = "owner/name@" + commit
    model, tokenizer = load_checkpoint(name)
    print(model.num_parameters(), len(tokenizer), at_commit(name) == ("owner/name", {"revision": commit}), TransformersEngine(name).context, flush=True)
"""

def test_a_hub_id_with_a_commit_opens_that_commit(folder, tmp_path):
    "From the hub library's own cache, without a network: two commits are there, of which one is broken."
    good, broken = "a" * 40, "b" * 40
    snapshots = tmp_path/"models--owner--name"/"snapshots"
    shutil.copytree(folder, snapshots/good)
    (snapshots/broken).mkdir(parents=True)
    env = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PINNED, good, broken], env=env, cwd=tmp_path, capture_output=True, text=True)
    model, tokenizer = g.load_checkpoint(folder)
    assert done.stdout.split() == [str(model.num_parameters()), str(len(tokenizer)), "True", "128"], done.stderr[-800:]
    assert done.returncode and "cannot load owner/name@bbbb" in done.stderr

@pytest.mark.skipif(bool(find_spec("vllm")), reason="vLLM is installed here")
def test_without_vllm_the_error_says_what_to_install(folder):
    with pytest.raises(CoreaError, match="vllm is not installed"): g.VLLMEngine(folder)

# ---- properties

@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 5), st.integers(1, 9))
def test_plan_is_a_partition_longest_first(lengths, n, size):
    batches = g.plan(lengths, n, size)
    rows = [k for b in batches for k in b]
    assert sorted(rows) == list(itertools.product(range(len(lengths)), range(n)))
    assert all(len(b) == size for b in batches[:-1]) and all(batches)
    got = [lengths[i] for i, _ in rows]
    assert got == sorted(got, reverse=True)

words = st.lists(st.text("ab{c", min_size=1, max_size=3), max_size=2)

@given(st.lists(st.sampled_from("ab{c"), max_size=12), words, words)
def test_finish_keeps_the_shortest_prefix_that_has_ended(pieces, stop, until):
    ids, decode, END = ["ab{c".index(p) for p in pieces], lambda ids: "".join("ab{c"[i] for i in ids), 2
    kept, text, why = g.finish(ids, decode, {END}, stop, until)
    over = lambda k: k and (ids[k-1] == END or any(s in decode(ids[:k]) for s in (*stop, *until)))
    first = next((k for k in range(len(ids) + 1) if over(k)), None)
    assert (kept, why) == ((ids, "length") if first is None else (ids[:first], "stop"))
    assert decode(kept).startswith(text) and not any(s in text for s in set(stop) - set(until))
    said = decode([i for i in kept if i != END])
    assert text == said or any(said.endswith(s) for s in stop)      # nothing is lost but what a stop string takes with it

@given(st.lists(st.sampled_from(["\\confidence{", "\\conf", "idence{", "{0", "0.9", "}", "x", "\\confidence", ""])))
def test_confidence_at_is_the_last_token_boundary_behind_a_mark(pieces):
    text, k = "".join(pieces), g.confidence_at(pieces)
    if k is not None: assert "".join(pieces[:k]) == text[:text.rfind(g.MARK) + len(g.MARK)]
    else:
        end = text.rfind(g.MARK) + len(g.MARK)
        assert g.MARK not in text or all(len("".join(pieces[:j])) != end for j in range(len(pieces) + 1))
