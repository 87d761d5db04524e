"""One training in each layout, against the same in one process at one go.

Writes benchmarks/results/layouts.csv: the largest absolute differences of rewards, advantages and final weights from the reference, how far the
reference's weights moved at most, and seconds per step. Completions are fixed by question and place in the group (tests/fixed_rollouts.py), for each
process would draw others; seconds are therefore of scoring and learning, without writing. On the CPU processes share its cores. Rows that need
GPUs are filled where there are enough of them and what they need is installed; they too are held against one process on the CPU.

    python benchmarks/layouts.py [FILE [LAYOUT ...]]    those named alone, and what they are held against
"""
import csv, os, statistics, sys, tempfile
from dataclasses import asdict
from pathlib import Path
import torch
from safetensors.torch import load_file
import corea.trainer as trainer
from corea.core import CoreaError, load_profile, read_records
from corea.data import load_questions
from corea.layouts import cut_batch

TESTS = Path(__file__).resolve().parents[1]/"tests"
STEPS, NOT_RUN = 4, "not run"
LAYOUTS = {     # layout -> what differs from one process that reads a mini-batch at one go
    "one process": {}, "accumulation": dict(micro_batch=4), "two processes": dict(processes=2),
    "two processes, accumulation": dict(processes=2, micro_batch=2), "FSDP2": dict(processes=2, sharding="fsdp2"),
    "LoRA": dict(lora=4), "LoRA, two processes": dict(lora=4, processes=2), "LoRA, FSDP2": dict(lora=4, processes=2, sharding="fsdp2")}
ON_GPUS = {     # layout -> the same
    "one GPU": {}, "two GPUs": dict(processes=2), "FSDP2 on GPUs": dict(processes=2, sharding="fsdp2"), "ZeRO-3": dict(processes=2, sharding="zero3"),
    "vLLM beside the trainer": dict(rollouts_by="colocate"), "vLLM as a server": dict(rollouts_by="server")}

def config(**changes):
    return load_profile("smoke", **dict(steps=STEPS, snapshots=(), save_every=STEPS, warmup_steps=0, kl=0.01, entropy=0.01) | changes)

def train(cfg, out):
    "Final weights, what was rewarded, seconds per step."
    final = trainer.train_grpo(cfg, "l1", 0, out, questions=load_questions("calc", "train", 64), progress=False)
    seen = read_records(out/"seen.jsonl")
    seconds = statistics.median(b["time"] - a["time"] for a, b in zip(seen, seen[1:]))
    return load_file(final/"model.safetensors"), seen, seconds

def largest(a, b): return max((torch.as_tensor(x) - torch.as_tensor(y)).abs().max().item() for x, y in zip(a, b, strict=True))

def main(file=None, *only):
    torch.set_num_threads(1)
    sys.path.insert(0, str(TESTS))
    from fixed_rollouts import install
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    trainer.PART, rows, done = "fixed_rollouts:part", [], {}
    install(asdict(config()), setattr)
    before = load_file(Path(trainer.find_model("slm"))/"model.safetensors")
    for name, changes in [*LAYOUTS.items(), *((name, dict(device="cuda", **c)) for name, c in ON_GPUS.items())]:
        cfg = config(**changes)
        if only and name not in (*only, "LoRA" if any("LoRA" in o for o in only) else "one process"): continue
        try:
            with tempfile.TemporaryDirectory() as d: done[name] = weights, seen, seconds = train(cfg, Path(d)/"run")
        except CoreaError as e:     # too few GPUs, or a library that is not there
            if name not in ON_GPUS: raise
            print(f"{name}: {e}", file=sys.stderr)
            rows.append([name, cfg.processes, cut_batch(cfg).rows, *[NOT_RUN] * 5])
            continue
        base = done["LoRA" if cfg.lora else "one process"]
        both = lambda f: largest([f(r) for r in seen], [f(r) for r in base[1]])
        rows.append([name, cfg.processes, cut_batch(cfg).rows, f"{both(lambda r: list(r['rewards'].values())):.1e}",
                     f"{both(lambda r: r['advantages']):.1e}", f"{largest(weights.values(), [base[0][k] for k in weights]):.1e}",
                     f"{largest(weights.values(), [before[k] for k in weights]):.1e}", f"{seconds:.3f}"])
        print(rows[-1], flush=True)
    path = Path(file or Path(__file__).with_name("results")/"layouts.csv")
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["layout", "processes", "micro_batch", "rewards differ by", "advantages differ by", "weights differ by", "weights moved by",
                    "seconds per step"])
        w.writerows(rows)
    print(path.read_text(), end="")

if __name__ == "__main__": main(*sys.argv[1:])
