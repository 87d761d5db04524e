"A run that is killed and taken up again is the run that was never killed."
import random, shutil, signal, time
import pandas as pd
import pytest, torch
from hypothesis import given, settings, strategies as st
from corea.answer import confidence_span
from corea.core import MODELS, CoreaError, load_profile
from corea.data import load_questions
from corea.generate import load_checkpoint
from corea import trainer
from corea.trainer import confidence_tokens, decoupled_advantages, grpo_config, grpo_rows, mark_whole, resume_point, train_grpo
from training_jobs import ended, grpo, grpo_killed_at_the_end, start

@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert ended(start(grpo, folder)) == 0
    return folder

def same(a, b):
    assert (a/"train.csv").read_text() == (b/"train.csv").read_text()
    for part in ("final", "step-0002"):
        assert (a/part/"model.safetensors").read_bytes() == (b/part/"model.safetensors").read_bytes(), part

def test_killed_and_resumed_is_bit_identical(unbroken, tmp_path):
    "Kill after each checkpoint and at moments in between; the end result does not know."
    rng = random.Random(0)
    for after in (1, 2, 3):
        p = start(grpo, tmp_path)
        deadline = time.time() + 120
        while p.is_alive() and time.time() < deadline:
            if (tmp_path/f"checkpoint-{2*after}").exists(): break
            time.sleep(0.01)
        time.sleep(rng.random() * 0.3)
        p.kill(), p.join()
    assert ended(start(grpo, tmp_path)) == 0
    same(unbroken, tmp_path)

def test_killed_after_the_last_checkpoint(unbroken, tmp_path):
    "Nothing is left to train: the checkpoint becomes the final model, and no step is taken on top."
    assert ended(start(grpo_killed_at_the_end, tmp_path)) == -signal.SIGKILL
    assert (tmp_path/"checkpoint-8"/"whole").exists() and not (tmp_path/"final").exists()
    assert ended(start(grpo, tmp_path)) == 0
    same(unbroken, tmp_path)

def test_rollouts_of_our_own_engine_survive_a_kill(tmp_path):
    "Its seeds come from the step: the resumed run draws what the unbroken one drew."
    run = lambda folder: start(grpo, folder, rollouts_by="engine", lora=4, updates_per_step=1, micro_batch=16, share_prompts=True, sift=8)
    whole, broken = tmp_path/"whole", tmp_path/"broken"
    assert ended(run(whole)) == 0
    p, deadline = run(broken), time.time() + 120
    while p.is_alive() and time.time() < deadline and not (broken/"checkpoint-2").exists(): time.sleep(0.01)
    p.kill(), p.join()
    assert ended(run(broken)) == 0
    same(whole, broken)

def test_the_writer_is_the_policy_with_its_adapters_merged():
    "What writes the rollouts gives the logits that training sees, also after the adapters have moved."
    from types import SimpleNamespace
    from peft import get_peft_model
    from corea.trainer import Writer, adapters
    cfg = load_profile("smoke", lora=4)
    policy = get_peft_model(load_checkpoint(MODELS/"slm")[0], adapters(4)).eval()
    trainer = SimpleNamespace(model=policy, accelerator=SimpleNamespace(unwrap_model=lambda model, **kw: model))
    writer, ids = Writer(cfg, MODELS/"slm", 0), torch.arange(20)[None]
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, p in policy.named_parameters():
                if "lora_" in name: p.normal_(0, .1)
            torch.testing.assert_close(writer.model(trainer)(ids).logits, policy(ids).logits, atol=1e-4, rtol=1e-4)

def test_answers_after_a_shared_prompt_have_the_gradients_of_whole_rows():
    "Two prompts of unlike length, five answers of unlike length: log-probabilities and gradients of plain torch."
    from corea.trainer import after_prompts
    from trl.trainer.utils import add_fused_lm_head
    model, _ = load_checkpoint(MODELS/"slm")
    prompts, which, draw = [[5, 9, 11, 7, 3], [8, 6, 3]], [0, 1, 0, 1, 1], torch.Generator().manual_seed(1)
    answers = [torch.randint(4, 40, (n,), generator=draw).tolist() for n in (3, 6, 4, 1, 6)]
    pull, loss = torch.rand(5, 6, generator=draw), 0
    for row, (p, a) in enumerate(zip(which, answers)):
        scores = model(input_ids=torch.tensor([prompts[p] + a])).logits[0, len(prompts[p]) - 1:-1].log_softmax(-1)
        loss = loss + (scores.gather(1, torch.tensor(a)[:, None])[:, 0] * pull[row, :len(a)]).sum()
    loss.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    padded = [[0] * (5 - len(prompts[p])) + prompts[p] + a + [0] * (6 - len(a)) for p, a in zip(which, answers)]
    mask = [[0] * (5 - len(prompts[p])) + [1] * (len(prompts[p]) + len(a)) + [0] * (6 - len(a)) for p, a in zip(which, answers)]
    out = after_prompts(model, torch.tensor(padded), torch.tensor(mask), 6)
    mine = (out.log_probs[:, -6:] * pull * torch.tensor(mask)[:, -6:]).sum()
    mine.backward()
    torch.testing.assert_close(mine, loss, rtol=1e-5, atol=1e-5)
    for name, p in model.named_parameters(): torch.testing.assert_close(p.grad, wanted[name], rtol=1e-4, atol=1e-5)

@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=8, max_size=8))
def test_rows_of_like_length_are_the_same_rows(lengths):
    "Each row keeps its tokens and its advantage; no part is wider than its longest row."
    from corea.trainer import by_length
    P, C = max(p for p, _ in lengths), max(c for _, c in lengths)
    rows = [dict(prompt_mask=[0] * (P - p) + [1] * p, completion_mask=[1] * c + [0] * (C - c), prompt_ids=[0] * (P - p) + [10 * r + 1] * p,
                 completion_ids=[10 * r + 2] * c + [0] * (C - c), advantages=float(r)) for r, (p, c) in enumerate(lengths)]
    parts = [{k: torch.tensor([row[k] for row in rows[i:i + 4]]) for k in rows[0]} | dict(num_items_in_batch=7) for i in (0, 4)]
    out, found = by_length(parts), {}
    for part in out:
        assert part["num_items_in_batch"] == 7 and len(part["advantages"]) == 4
        assert part["prompt_mask"].sum(1).max() == part["prompt_ids"].shape[1] and part["completion_mask"].sum(1).max() == part["completion_ids"].shape[1]
        for r, a in enumerate(part["advantages"].int().tolist()):
            found[a] = part["prompt_ids"][r][part["prompt_mask"][r] == 1].tolist(), part["completion_ids"][r][part["completion_mask"][r] == 1].tolist()
    assert found == {r: ([10 * r + 1] * p, [10 * r + 2] * c) for r, (p, c) in enumerate(lengths)}

def test_half_written_checkpoint_is_not_trusted(tmp_path):
    (tmp_path/"checkpoint-2").mkdir()
    (tmp_path/"checkpoint-2"/"model.safetensors").write_bytes(b"half")
    assert resume_point(tmp_path, 2) is None
    assert not (tmp_path/"checkpoint-2").exists()

@pytest.mark.parametrize("fault", ["gone", "cut", "changed", "more", "mark torn"])
def test_a_checkpoint_that_was_damaged_after_it_was_written_is_not_trusted(tmp_path, capsys, fault):
    "The one before it serves; damaged ones are removed, and said to be."
    for step in (2, 4):
        (tmp_path/f"checkpoint-{step}"/"shard").mkdir(parents=True)
        for name in ("model.safetensors", "optimizer.pt", "shard/rng_state.pth"): (tmp_path/f"checkpoint-{step}"/name).write_bytes(bytes(range(256)) * step)
        mark_whole(tmp_path/f"checkpoint-{step}")
    newest, path = tmp_path/"checkpoint-4", tmp_path/"checkpoint-4"/"shard"/"rng_state.pth"
    assert resume_point(tmp_path, 2) == str(newest) and not capsys.readouterr().out
    if fault == "gone": (newest/"optimizer.pt").unlink()
    if fault == "cut": path.write_bytes(path.read_bytes()[:-1])
    if fault == "changed": path.write_bytes(b"\xff" + path.read_bytes()[1:])
    if fault == "more": (newest/"scheduler.pt").touch()
    if fault == "mark torn": (newest/"whole").write_text((newest/"whole").read_text()[:-9])
    assert resume_point(tmp_path, 2) == str(tmp_path/"checkpoint-2") and not newest.exists() and str(newest) in capsys.readouterr().out

def test_a_large_file_is_told_by_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "PIECE", 10)
    big = tmp_path/"big"
    big.write_bytes(bytes(1000))
    before = trainer.fingerprint(big)
    for at in (0, 5, 990, 999):
        big.write_bytes(bytes(at) + b"x" + bytes(999 - at))
        assert trainer.fingerprint(big) != before
    assert before[0] == 1000

def test_a_finished_run_is_not_run_again(unbroken):
    before = (unbroken/"final"/"model.safetensors").stat().st_mtime_ns
    assert train_grpo(load_profile("smoke", save_every=1), "l1", 0, unbroken, progress=False) == unbroken/"final"
    assert (unbroken/"final"/"model.safetensors").stat().st_mtime_ns == before

OTHERS = {"method='l1', not 'brier'": dict(method="brier"), "seed=0, not 1": dict(seed=1), "start=": dict(model="llm"), "lr=0.0003, not 1e-05": dict(lr=1e-5),
          "steps=4, not 3": dict(steps=3), "rollouts=8, not 4": dict(rollouts=4), "lora=0, not 4": dict(lora=4), "scale_rewards='none', not 'group'": dict(scale_rewards="group"),
          "reward_weights=[1.0, 1.0, 1.0], not [1.0, 1.0, 4.0]": dict(reward_weights=(1., 1., 4.)), "questions='64 from": dict(n_train=32), "questions='64 from calc": dict(train_set="word")}

@pytest.mark.parametrize("part", ["final", "checkpoint-2"])
@pytest.mark.parametrize("message", OTHERS)
def test_the_folder_of_another_training_is_refused_in_one_line(message, part, unbroken, tmp_path):
    "Finished or half-way: neither returned nor gone on with."
    shutil.copy(unbroken/"job.json", tmp_path)
    (tmp_path/part).mkdir()
    (tmp_path/part/"whole").touch()
    change = dict(save_every=1) | OTHERS[message]
    method, seed, model = (change.pop(k, other) for k, other in (("method", "l1"), ("seed", 0), ("model", None)))
    before = (tmp_path/"job.json").read_bytes()
    with pytest.raises(CoreaError) as e: train_grpo(load_profile("smoke", **change), method, seed, tmp_path, model=model, progress=False)
    assert message in str(e.value) and str(tmp_path) in str(e.value) and "another folder" in str(e.value) and "\n" not in str(e.value)
    assert (tmp_path/"job.json").read_bytes() == before

def test_what_does_not_decide_the_weights_may_differ(unbroken):
    other = load_profile("smoke", workers=1, micro_batch=4, report_to="none", save_every=2, samples=1, n_test=5, max_drop=0.5, datasets=("word",), seeds=(0, 9),
                         methods=("rlvr",), snapshot_questions=3)
    assert train_grpo(other, "l1", 0, unbroken, progress=False) == unbroken/"final"

def test_a_bar_is_told_of_what_is_done_already(unbroken):
    told, cfg = [], load_profile("smoke", save_every=1)
    class Bar: update = staticmethod(told.append)
    train_grpo(cfg, "l1", 0, unbroken, progress=Bar)
    assert told == [cfg.steps]

def test_log_holds_each_reward_part_and_metric(unbroken):
    log = pd.read_csv(unbroken/"train.csv")
    for column in ("reward_correctness", "reward_format", "reward_confidence", "pass_at_1", "ece", "output_ratio",
                   "mean_length", "entropy", "frac_zero_std", "kl"):
        assert log[column].notna().all(), column
    total = log.reward_correctness + log.reward_format + log.reward_confidence
    pd.testing.assert_series_equal(log.reward, total, check_names=False, atol=1e-5)

def test_batches_that_cannot_be_cut_are_refused(tmp_path):
    with pytest.raises(CoreaError, match="cannot be cut"):
        grpo_config(load_profile("smoke", questions_per_step=9), 0, tmp_path)

def test_columns_for_the_rewards():
    assert set(grpo_rows(load_questions("queue", "train", 2)).column_names) == {"prompt", "question", "gold", "kind", "question_id"}

# ---- advantages of their own for the words of the confidence

class Pieces:
    "A tokenizer whose tokens are what they say; the end says nothing."
    @staticmethod
    def decode(ids, skip_special_tokens): return "".join(t for t in ids if t != "<end>" or not skip_special_tokens)

@pytest.mark.parametrize("tokens, first, count", [
    ([r"3 \boxed{3}", " \\", "confidence", "{0", ".", "9", "}", "<end>"], 1, 6),
    ([r"\boxed{3", "}\\", "conf", "idence{", "0.9", "}.", " Done", "<end>"], 1, 5),     # both ends share a token with something else
    ([r"so \confidence{0.9} it is"], 0, 1),
    ([r"\boxed{3} \confidence{", "0.9", "<end>"], 0, 3),                                # never closed
    (["<end>", r"\confidence{", r"\frac{", "1", "}{2", "}", "}", "}", "<end>"], 1, 6),
    ([r"\confidence{", "0.1}", " no, ", r"\boxed{3}", r"\confidence{", "0.2", "}", "<end>"], 4, 3),
    ([r"\confidence{", "0.1}", r" \boxed{3}", "<end>"], 0, 2),                          # before the box
    ([r"\boxed{3", r"\confidence{", "0.9}", "}", "<end>"], 0, 0),
    ([r"\confidence{", r"\boxed{3}", "}", "<end>"], 0, 0),
    ([r"\boxed{3}", " confidence{0.9}", "<end>"], 0, 0), (["<end>"], 0, 0), ([], 0, 0)])
def test_tokens_of_the_confidence(tokens, first, count):
    here = confidence_tokens(tokens, Pieces)
    assert tokens[here] == tokens[first:first + count] and (not count or here.start == first)

@pytest.fixture(scope="module")
def bytewise():
    "The miniature's tokenizer, and the token of each byte in the alphabet that such tokenizers share."
    tokenizer, own = load_checkpoint(MODELS/"slm")[1], [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in own)}
    return tokenizer, {b: tokenizer.convert_tokens_to_ids(c) for b, c in letters.items()}

PARTS = [b"\\confidence{", b"\\boxed{", b"0.9", b"}", b"{", b" ", "≠".encode(), "≠".encode()[:2], b"\xff", "🙂".encode(), "🙂".encode()[1:], b"\\"]

@given(st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_a_token_may_be_part_of_a_character(bytewise, raw):
    "Also of one that is never completed."
    tokenizer, token = bytewise
    ids = [token[b] for b in raw]
    here, text = confidence_tokens(ids, tokenizer), tokenizer.decode(ids)
    assert tokenizer.decode(ids[here]) == text[confidence_span(text)]
    if ids[here]: assert here.start == raw.rfind(b"\\confidence{")

def test_a_weight_of_the_confidence_term_counts_after_scaling():
    rewards = torch.tensor([[1, 1, -.2], [0, 1, -.4], [0, 0, -.4], [1, 0, -.2]])
    for scale, pull in (("none", .1), ("group", .75**.5), ("batch", .75**.5)):
        rest, said = decoupled_advantages(rewards, torch.tensor([1, 2, 3.]), 4, scale)
        assert said.tolist() == pytest.approx([3 * pull, -3 * pull, -3 * pull, 3 * pull], rel=2e-3)
        assert rest.argsort().tolist() == [2, 3, 1, 0] and rest.sum().item() == pytest.approx(0, abs=1e-6)
