"""What must hold on a GPU before anything else is asked of it, and how fast it is; one line of JSON for each check, as it is made.

    python .ci/gpu/contract.py CHECKPOINT DEVICE FILE

The engine in 32 bits on the device gives the greedy tokens of the CPU, and its log-probabilities within TOLERANCE; in 16 bits it is compared and told.
The same seed gives the same text twice. One training by GRPO, through `train_grpo` and through TRL's own trainer with a reward of one line.
A check that fails says so in its line and the others go on; the exit status is the number that failed.
"""
import json, sys, tempfile, time, traceback
from pathlib import Path
import torch
from corea.core import append_records, load_profile, set_seed
from corea.data import load_questions
from corea.generate import Sampling, TransformersEngine, free_memory, load_checkpoint
from corea.trainer import grpo_config, grpo_rows, train_grpo

TOLERANCE = 5e-3        # of a log-probability, in 32 bits
QUESTIONS, TOKENS, STEPS = 16, 48, 3

def engine_on(checkpoint, device, dtype, batch_size=256):
    "An engine that holds its weights as `dtype`."
    model, tokenizer = load_checkpoint(checkpoint, device, str(dtype).removeprefix("torch."))
    return TransformersEngine(model, tokenizer, batch_size=batch_size)

def greedy(engine, questions):
    "Each question's most likely answer."
    return sorted(engine.generate(questions, Sampling(0, max_tokens=TOKENS)), key=lambda c: c.index)

def compared(found, wanted):
    "Share of answers with the same tokens, and the largest and mean difference of log-probabilities up to where they part."
    apart = []
    for a, b in zip(found, wanted, strict=True):
        n = next((k for k, (x, y) in enumerate(zip(a.token_ids, b.token_ids)) if x != y), min(len(a.token_ids), len(b.token_ids)))
        apart += [abs(x - y) for x, y in zip(a.logprobs[:n], b.logprobs[:n])]
    same = sum(a.token_ids == b.token_ids for a, b in zip(found, wanted)) / len(wanted)
    return dict(same_answers=same, logprob_apart_at_most=max(apart, default=0.), logprob_apart_mean=sum(apart) / max(1, len(apart)))

def waited(device):
    "The clock, when the device has done its work."
    if device == "cuda": torch.cuda.synchronize()
    return time.perf_counter()

def peak(device):
    "GB at most since the last call; None off a GPU."
    if device != "cuda": return None
    most = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return most

def check_engine(checkpoint, device, dtype, exact):
    "Greedy answers beside the CPU's."
    questions = [q["question"] for q in load_questions("calc", "dev", QUESTIONS)]
    start = waited(device)
    engine = engine_on(checkpoint, device, dtype)
    loaded = waited(device) - start
    told = compared(greedy(engine, questions), greedy(engine_on(checkpoint, "cpu", torch.float32), questions))
    draw = lambda: [c.token_ids for c in engine.generate(questions, Sampling(1., max_tokens=TOKENS), n=4, seed=3)]
    told |= dict(load_seconds=loaded, seed_repeats=draw() == draw(), peak_gb=peak(device))
    if exact: assert told["same_answers"] == 1 and told["logprob_apart_at_most"] < TOLERANCE, told
    assert told["seed_repeats"], told
    return told

def check_rollouts(checkpoint, device):
    "Tokens a second by batch size, in the form that training uses."
    questions, told = [q["question"] for q in load_questions("calc", "dev", 64)], {}
    for rows in (64, 256, 512):
        engine = engine_on(checkpoint, device, torch.bfloat16 if device == "cuda" else torch.float32, batch_size=rows)
        ask = lambda n: sum(c.completion_tokens for c in engine.generate(questions, Sampling(1., max_tokens=TOKENS), n=n, seed=1))
        ask(1)
        start = waited(device)
        tokens = ask(max(1, rows // len(questions)))
        told[f"tokens_a_second_{rows}_rows"] = tokens / (waited(device) - start)
        if device != "cuda": break
    return told | dict(peak_gb=peak(device))

class Clock:
    "A progress bar that only looks at its watch."
    n = 0
    def __init__(self): self.times = [time.perf_counter()]
    def set_postfix(self, values): pass
    def close(self): pass
    def update(self, n=1):
        self.n += n
        self.times.append(time.perf_counter())

def check_training(checkpoint, device):
    "Seconds per step of `train_grpo`, of TRL's own trainer with its own settings of the same batch, and their ratio without the first step."
    from transformers import TrainerCallback
    from trl import GRPOTrainer
    cfg = load_profile("smoke", slm=str(checkpoint), device=device, steps=STEPS, save_every=STEPS, snapshots=(), questions_per_step=8, max_completion=64)
    questions = load_questions(cfg.train_set, "train", cfg.n_train)
    clock, own = Clock(), Clock()
    with tempfile.TemporaryDirectory() as d:
        train_grpo(cfg, "l1", 0, Path(d)/"ours", questions=questions, progress=clock)
        ours_peak = peak(device)
        free_memory()
        class Watch(TrainerCallback):
            def on_step_end(self, args, state, control, **kw):
                if state.global_step % cfg.updates_per_step == 0: own.update()
        set_seed(0)
        model, tokenizer = load_checkpoint(checkpoint)
        args = grpo_config(cfg, 0, Path(d)/"trl")
        args.save_strategy = "no"
        reward = lambda completions, **columns: [float("boxed" in str(c)) for c in completions]
        GRPOTrainer(model, reward_funcs=[reward], args=args, train_dataset=grpo_rows(questions), processing_class=tokenizer, callbacks=[Watch()]).train()
    seconds = [b - a for a, b in zip(clock.times[1:], clock.times[2:])], [b - a for a, b in zip(own.times[1:], own.times[2:])]
    mean = [sum(s) / len(s) for s in seconds]
    return dict(ours=mean[0], trl=mean[1], ratio=mean[0] / mean[1], first_step=clock.times[1] - clock.times[0], peak_gb=ours_peak, trl_peak_gb=peak(device))

def main(checkpoint, device, file):
    failed = 0
    for name, check, *rest in (("engine, 32 bits", check_engine, torch.float32, True), ("engine, 16 bits", check_engine, torch.bfloat16, False),
                               ("rollouts", check_rollouts), ("training", check_training)):
        start = time.perf_counter()
        try: told = dict(holds=True, **check(checkpoint, device, *rest))
        except Exception as e:      # what failed is a result too
            traceback.print_exc()
            told, failed = dict(holds=False, error=f"{type(e).__name__}: {e}"[:2000]), failed + 1
        row = dict(check=name, device=torch.cuda.get_device_name() if device == "cuda" else device, checkpoint=Path(checkpoint).name,
                   seconds=time.perf_counter() - start, **told)
        append_records(file, [row])
        print(json.dumps(row), flush=True)
        free_memory()
    sys.exit(failed)

if __name__ == "__main__": main(*sys.argv[1:])
