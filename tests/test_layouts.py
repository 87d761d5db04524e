"One training in many layouts: equal completions give equal rewards, advantages and, up to rounding, weights."
import os, signal, subprocess, sys, time
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file
import corea.layouts as layouts, corea.trainer as trainer, fixed_rollouts
from corea.answer import confidence_span
from corea.core import CoreaError, load_profile, read_records
from corea.data import load_questions
from corea.generate import load_checkpoint
from corea.layouts import Cut, check_layout, cut_batch
from fixed_rollouts import install
from processes import gone

HERE = Path(__file__).parent
# Of two layouts, all weights but one in a thousand differ by less than the first, none by more than the second, and training moves them by more than the
# third. Sums come in another order, and Adam makes much of that where a gradient is next to nothing.
CLOSE, LOOSE, MOVED = 1e-5, 1e-4, 2e-4

def config(**changes):
    small = dict(steps=2, questions_per_step=4, snapshots=(), save_every=1, warmup_steps=0, kl=0.01, entropy=0.01)
    return load_profile("smoke", **small | changes)

def training(folder, monkeypatch):
    "Train with fixed completions: final weights, and what was rewarded."
    def train(name="run", stop=None, bar=False, method="l1", **changes):
        cfg, out = config(**changes), folder/name
        with monkeypatch.context() as m:
            m.setattr(trainer, "PART", "fixed_rollouts:part")
            m.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
            if stop: m.setenv("COREA_TEST_STOP", stop)
            if cfg.processes == 1: install(asdict(cfg), m.setattr)
            final = trainer.train_grpo(cfg, method, 0, out, questions=load_questions("calc", "train", 16), progress=bar)
        assert not list(out.glob("checkpoint-*"))
        return load_file(final/"model.safetensors"), read_records(out/"seen.jsonl")
    return train

@pytest.fixture
def train(tmp_path, monkeypatch): return training(tmp_path, monkeypatch)

@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "What one process does at one go."
    with pytest.MonkeyPatch.context() as m: return training(tmp_path_factory.mktemp("alone"), m)()

def apart(a, b, share=1.):
    "The largest difference, or the one that a share of the weights keeps within."
    gaps = torch.cat([(a[k] - b[k]).abs().ravel() for k in a])
    return gaps.max() if share == 1 else gaps.quantile(share)

def same(one, other):
    assert [(r["rewards"], r["advantages"]) for r in one[1]] == [(r["rewards"], r["advantages"]) for r in other[1]]
    assert one[0].keys() == other[0].keys() and apart(one[0], other[0], .999) < CLOSE and apart(one[0], other[0]) < LOOSE

def start(): return load_file(Path(trainer.find_model("slm"))/"model.safetensors")

def test_accumulation(train, alone):
    "Passes of two completions, whose numbers of tokens differ."
    assert len(alone[1]) == 2 and apart(alone[0], start()) > MOVED
    same(alone, train(micro_batch=2))
    same(alone, train("shared", share_prompts=True))

def test_lora_is_saved_merged_and_resumed_from_adapters(train, tmp_path):
    adapted = train("alone", lora=4)
    changed = {k for k, v in start().items() if (v != adapted[0][k]).any()}
    assert all(".layers." in k and k.endswith("_proj.weight") for k in changed) and len(changed) == 3 * 7
    load_checkpoint(tmp_path/"alone"/"final")
    with pytest.raises(CoreaError, match="stopped by a test"): train("broken", "0 2 raise", lora=4)
    assert (tmp_path/"broken"/"checkpoint-2"/"adapter_model.safetensors").exists()
    with pytest.raises(CoreaError, match="begun with lora=4"): train("broken")
    assert not apart(train("broken", lora=4)[0], adapted[0])
    same(adapted, train("two", lora=4, processes=2))

class Bar:
    "A progress bar that remembers."
    def __init__(self): self.n, self.told = 0, []
    def set_postfix(self, values): self.told.append(values)
    def update(self, n): self.n += n
    def close(self): self.told.append("closed")

def test_fsdp2(train, alone):
    "Sharded, with a bar of the caller's that moves with the first process."
    sharded = train(processes=2, sharding="fsdp2", bar=(bar := Bar()))
    assert bar.n == 2 and "reward" in bar.told[0] and bar.told[-1] == "closed"
    assert all(r["sharded"] for r in sharded[1]) and not any(r["sharded"] for r in alone[1])
    same(alone, sharded)

def test_decoupled_sharded_in_passes_and_a_group_in_both_processes(train):
    odd = dict(questions_per_step=3, updates_per_step=1, method="decoupled_l1", scale_rewards="group")
    one = train("one", **odd)
    same(one, train("two", processes=2, sharding="fsdp2", micro_batch=4, **odd))
    assert apart(one[0], train("coupled", **odd | dict(method="l1"))[0]) > MOVED

def test_decoupled_in_passes_and_with_adapters(train):
    for n in (0, 4): same(*(train(f"{n} {rows}", method="decoupled_brier", lora=n, micro_batch=rows) for rows in (0, 2)))

@pytest.mark.parametrize("scale", ["none", "group"])
def test_decoupled_is_rlvr_where_nobody_states_a_confidence(train, monkeypatch, scale):
    monkeypatch.setattr(fixed_rollouts, "write", lambda question, gold, k: f"{question} \\boxed{{{gold if k % 3 else 0}}}")
    plain, ours = (train(m, method=m, scale_rewards=scale)[0] for m in ("rlvr", "decoupled_l1"))
    assert not apart(plain, ours) and apart(plain, start()) > MOVED

@pytest.fixture
def given(monkeypatch):
    "What the trainer is given to learn from, batch by batch."
    cls, seen = trainer.trainer_class(), []
    score = cls._generate_and_score_completions
    monkeypatch.setattr(cls, "_generate_and_score_completions", lambda self, inputs: seen.append(score(self, inputs)) or seen[-1])
    return seen

def confidence_mask(batch):
    "Where the confidence stands, by adding up what each token alone says: these texts are ASCII."
    tokenizer, mask = load_checkpoint(trainer.find_model("slm"))[1], torch.zeros_like(batch["completion_mask"], dtype=torch.bool)
    for to, ids, n in zip(mask, batch["completion_ids"].tolist(), batch["completion_mask"].sum(1).tolist()):
        said = [tokenizer.decode(i, skip_special_tokens=True) for i in ids[:n]]
        chars = range(10**6)[confidence_span("".join(said))]
        begins = accumulate(map(len, said), initial=0)
        for i, (word, begin) in enumerate(zip(said, begins)): to[i] = any(c in chars for c in range(begin, begin + max(len(word), 1)))
    return mask

@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_reasoning_gets_the_advantage_of_rlvr_and_confidence_its_own(train, given, scale):
    small = dict(scale_rewards=scale, steps=1)
    train("rlvr", method="rlvr", **small)
    rewards = torch.tensor(train("ours", method="decoupled_l1", **small)[1][0]["rewards"]["confidence"]).view(-1, 8)
    plain, ours = given
    assert torch.equal(plain["completion_ids"], ours["completion_ids"]) and plain["advantages"].dim() == 1
    where, all_alike = confidence_mask(ours), plain["advantages"][:, None].expand_as(ours["advantages"])
    assert 0 < where.sum() and not where.all(1).any() and where.any(1).sum() > 16
    assert torch.equal(ours["advantages"][~where], all_alike[~where])
    own = rewards - rewards.mean(1, keepdim=True)
    own = own / dict(none=1, group=rewards.std(1, keepdim=True), batch=rewards.std())[scale]
    torch.testing.assert_close(ours["advantages"][where], own.view(-1, 1).expand_as(where)[where], atol=1e-6, rtol=5e-3)

@pytest.mark.parametrize("scale", ["none", "group"])
def test_a_rising_weight_survives_scaling(train, given, scale):
    for m in ("decoupled_l1", "rising_decoupled_l1"): train(m, method=m, scale_rewards=scale, updates_per_step=1)
    _, full, first, second = (b["advantages"] for b in given)
    assert not first[confidence_mask(given[2])].any()
    where = confidence_mask(given[3])
    assert torch.equal(second[~where], full[~where])
    torch.testing.assert_close(second[where], full[where] / 2, atol=1e-6, rtol=5e-3)

def test_two_processes_and_a_group_in_both_killed_and_gone_on_with_by_another_number(train, tmp_path):
    "Three questions for two processes: the completions of the second lie in both. Of one that is killed, none is left."
    odd = dict(questions_per_step=3, updates_per_step=1)
    with pytest.raises(CoreaError, match="process 1 of 2 failed: ended by SIGKILL"): train("run", "1 1 kill", processes=2, **odd)
    assert gone([int(p.name) for p in (tmp_path/"run"/"pids").iterdir()])
    assert (tmp_path/"run"/"checkpoint-1"/"whole").exists() and not (tmp_path/"run"/"final").exists()
    same(train("one", **odd), train("run", **odd))

def test_processes_do_not_outlive_their_parent(tmp_path):
    (tmp_path/"napping.py").write_text("import os, time\ndef nap(folder):\n    open(f'{folder}/{os.getpid()}', 'w').close()\n    time.sleep(300)\n")
    (tmp_path/"pids").mkdir()
    code = f"from corea.layouts import launch; launch('napping:nap', {str(tmp_path/'pids')!r}, 2, {str(tmp_path/'logs')!r})"
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    for sig in (signal.SIGKILL, signal.SIGTERM):
        parent, end = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL), time.monotonic() + 60
        while len(pids := [int(p.name) for p in (tmp_path/"pids").iterdir()]) < 2 and time.monotonic() < end: time.sleep(0.1)
        parent.send_signal(sig)
        assert parent.wait(20) == (128 + sig if sig == signal.SIGTERM else -sig)
        assert len(pids) == 2 and gone(pids)
        for p in pids: (tmp_path/"pids"/str(p)).unlink()

def test_an_error_of_one_process_is_told_in_one_line(tmp_path):
    with pytest.raises(CoreaError) as e: layouts.launch("corea.core:read_records", tmp_path/"none.json", 2, tmp_path/"logs")
    assert "of 2 failed: FileNotFoundError: " in str(e.value) and "\n" not in str(e.value)

@pytest.mark.parametrize("changes, cut", [
    ({}, (32, 1)), (dict(processes=2), (16, 1)), (dict(processes=2, micro_batch=4), (4, 4)), (dict(updates_per_step=4), (16, 1))])
def test_cut(changes, cut): assert cut_batch(load_profile("smoke", **changes)) == Cut(*cut)

@pytest.mark.parametrize("changes, error", [
    (dict(questions_per_step=9), "9 questions a step cannot be cut into 2 whole"),
    (dict(processes=3), "32 completions cannot be cut for 3 processes"),
    (dict(micro_batch=5), "32 completions of one process cannot be cut by micro_batch=5"),
    (dict(processes=2, micro_batch=32), "16 completions of one")])
def test_what_cannot_be_cut(changes, error):
    with pytest.raises(CoreaError, match=error): check_layout(load_profile("smoke", **changes))

@pytest.mark.parametrize("changes, error", [
    (dict(sharding="fsdp2"), "in one process"), (dict(processes=2, sharding="zero3"), "on a CPU"), (dict(rollouts_by="server"), "on GPUs only"),
    (dict(device="cuda", rollouts_by="colocate", tensor_parallel=2), "multiple of tensor_parallel"),
    (dict(processes=2, loss_type="bnpo"), "use dapo"), (dict(lora=4), "lora needs peft: pip"), (dict(report_to="wandb"), "wandb needs wandb"),
    (dict(device="cuda", rollouts_by="colocate"), "colocate needs vllm"),
    (dict(device="cuda", processes=2, sharding="zero3"), "zero3 needs deepspeed"),
    (dict(device="cuda", processes=999, questions_per_step=999, updates_per_step=1), "want a GPU each")])
def test_what_does_not_go_together(changes, error, monkeypatch):
    monkeypatch.setattr(layouts, "find_spec", lambda name: None)
    with pytest.raises(CoreaError, match=error): check_layout(load_profile("smoke", **changes))
