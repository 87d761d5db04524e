"""Seconds of one GRPO step on the real model of 06b_warm, two threads: sixteen questions, eight rollouts each, as the profile `real` trains.

The baseline is the same step as TRL takes it by itself: the policy writes with its adapters beside it, every rollout reads its prompt.
Writes benchmarks/results/real_step.csv; needs COREA_DATA or a network, and the model made once (`corea run real` makes it).

    python benchmarks/real_step.py
"""
import csv, statistics, tempfile, time
from pathlib import Path
import torch
from corea.core import load_profile
from corea.trainer import train_grpo

STEPS = 3   # the first is a warm-up

def seconds(by):
    "Median wall seconds of a step."
    cfg, begun = load_profile("real", steps=STEPS, snapshots=(), questions_per_step=16, rollouts_by=by, warmup_steps=0), []
    class Clock:
        n = 0
        def update(self, n): begun.append(time.time())
        def set_postfix(self, *_): pass
        def close(self): pass
    with tempfile.TemporaryDirectory() as d:
        train_grpo(cfg, "l1", 1, d, progress=Clock())
    return statistics.median(b - a for a, b in zip(begun, begun[1:STEPS]))

def main():
    torch.set_num_threads(2)
    a, b = seconds("engine"), seconds("transformers")
    path = Path(__file__).with_name("results")/"real_step.csv"
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["what", "ours", "baseline_name", "baseline", "ratio", "unit", "runs"])
        w.writerow(["SmolLM2-135M, 16 questions x 8 rollouts, adapters, 2 threads", f"{a:.0f}", "TRL's own rollouts", f"{b:.0f}", f"{a/b:.2f}",
                    "s per step", STEPS - 1])
    print(path.read_text(), end="")

if __name__ == "__main__": main()
