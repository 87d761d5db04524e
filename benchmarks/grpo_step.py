"""A GRPO step through TRL against a plain torch loop that does the same work.

Writes benchmarks/results/grpo_step.csv. Both start from the same checkpoint, draw as many rollouts at the same length, call the
same reward functions, and take the same optimiser updates with clipping, KL to a reference model and entropy bonus.
Loading and the first step are left out on both sides. Runs alternate; the ratio is that of the medians.
"""
import csv, random, statistics, tempfile, time
from pathlib import Path
import torch
from corea.answer import messages
from corea.core import load_profile, set_seed
from corea.data import load_questions
from corea.generate import load_checkpoint
from corea.reward import make_rewards
from corea.trainer import find_model, train_grpo

RUNS, STEPS = 3, 7

class Clock:
    "A progress bar that only looks at its watch."
    n = 0
    def __init__(self): self.times = []
    def set_postfix(self, values): pass
    def close(self): pass
    def update(self, n=1):
        self.n += n
        self.times.append(time.perf_counter())
    def per_step(self): return (self.times[-1] - self.times[0]) / (len(self.times) - 1)

def log_probs(model, ids, mask, start, temperature):
    "Log-probabilities and entropies (rows, completion tokens) of the tokens from `start` on."
    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=ids.shape[1] - start + 1).logits[:, :-1] / temperature
    logp = torch.log_softmax(logits, -1)
    return logp.gather(-1, ids[:, start:, None]).squeeze(-1), -(logp.exp() * logp).sum(-1)

def plain(cfg, method, seed, clock):
    "GRPO as one would write it by hand."
    set_seed(seed)
    model, tok = load_checkpoint(find_model(cfg.slm))
    reference, _ = load_checkpoint(find_model(cfg.slm))
    rewards, questions = make_rewards(method), load_questions(cfg.train_set, "train", cfg.n_train)
    opt = torch.optim.AdamW(model.parameters(), lr=cfg.lr, betas=(0.9, cfg.adam_beta2), weight_decay=0.0)
    r = random.Random(seed)
    for _ in range(cfg.steps):
        rows = [q for q in r.sample(questions, cfg.questions_per_step) for _ in range(cfg.rollouts)]
        prompts = [messages(q["question"]) for q in rows]
        enc = tok.apply_chat_template(prompts, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True)
        start = enc["input_ids"].shape[1]
        with torch.no_grad():
            ids = model.generate(**enc, do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=cfg.max_completion)
        done = (ids[:, start:] == tok.eos_token_id).cumsum(1)
        keep = ((done == 0) | ((done == 1) & (ids[:, start:] == tok.eos_token_id))).long()
        completions = tok.batch_decode([row[m.bool()] for row, m in zip(ids[:, start:], keep)], skip_special_tokens=True)
        columns = {k: [q[k] for q in rows] for k in ("question", "gold", "kind")} | {"question_id": [q["id"] for q in rows]}
        total = sum(torch.tensor(f(prompts=prompts, completions=completions, **columns)) for f in rewards)
        advantage = (total.view(-1, cfg.rollouts) - total.view(-1, cfg.rollouts).mean(1, keepdim=True)).flatten()
        mask, size = torch.cat([enc["attention_mask"], keep], 1), len(rows) // cfg.updates_per_step
        with torch.no_grad():
            old = torch.cat([log_probs(model, i, m, start, 1.0)[0] for i, m in zip(ids.split(size), mask.split(size))])
            ref = torch.cat([log_probs(reference, i, m, start, 1.0)[0] for i, m in zip(ids.split(size), mask.split(size))])
        for b in torch.randperm(len(rows)).split(size):
            logp, entropy = log_probs(model, ids[b], mask[b], start, 1.0)
            ratio, a, k = (logp - old[b]).exp(), advantage[b, None], keep[b]
            loss = -torch.min(ratio * a, ratio.clamp(1 - cfg.clip, 1 + cfg.clip) * a)
            loss = loss + cfg.kl * ((ref[b] - logp).exp() - (ref[b] - logp) - 1) - cfg.entropy * entropy
            ((loss * k).sum() / k.sum()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
            opt.step()
            opt.zero_grad()
        clock.update()

def main():
    torch.set_num_threads(1)
    cfg = load_profile("laptop", steps=STEPS, save_every=STEPS, snapshots=())
    seconds = {"trl": [], "plain": []}
    for i in range(RUNS):
        clock = Clock()
        with tempfile.TemporaryDirectory() as d: train_grpo(cfg, "l1", i, d, progress=clock)
        seconds["trl"].append(clock.per_step())
        clock = Clock()
        plain(cfg, "l1", i, clock)
        seconds["plain"].append(clock.per_step())
    ours, base = (statistics.median(seconds[k]) for k in ("trl", "plain"))
    path = Path(__file__).parent/"results"/"grpo_step.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["what", "ours", "baseline_name", "baseline", "ratio", "unit", "runs"])
        w.writerow([f"GRPO step, {cfg.questions_per_step} questions x {cfg.rollouts} rollouts", f"{ours:.3f}", "plain torch loop", f"{base:.3f}",
                    f"{ours/base:.3f}", "s", RUNS])
    print(path.read_text(), end="")

if __name__ == "__main__": main()
