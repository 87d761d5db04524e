"""CPU time of `TransformersEngine` per token against a bare `model.generate` on the same prompts, batches and settings.

Writes benchmarks/results/generate.csv. The bare call gives neither log-probabilities nor confidences; the engine's row counts
its scoring pass too. One thread, CPU seconds, so that a busy machine does not show. Runs alternate; ratio of the medians.

    python benchmarks/generate.py [CHECKPOINT]
"""
import csv, statistics, sys, time
from pathlib import Path
import torch
from corea.core import MODELS
from corea.data import load_questions
from corea.generate import Sampling, TransformersEngine, encode, pad_rows, plan

RUNS, QUESTIONS, SAMPLES, TOKENS = 5, 64, 4, 96

def bare(engine, questions, seed):
    "Sample the engine's own batches with nothing around it; returns tokens."
    torch.manual_seed(seed)
    prompts, tokens = encode(engine.tokenizer, questions), 0
    for keys in plan([len(p) for p in prompts], SAMPLES, engine.batch_size):
        ids, mask = pad_rows([prompts[i] for i, _ in keys], engine.pad, left=True)
        with torch.no_grad():
            out = engine.model.generate(input_ids=ids, attention_mask=mask, do_sample=True, temperature=0.6, top_p=1.0,
                                        top_k=0, max_new_tokens=TOKENS, pad_token_id=engine.pad)
        tokens += (out[:, ids.shape[1]:] != engine.pad).sum().item()
    return tokens

def ours(engine, questions, seed):
    "The same through the engine, log-probabilities and confidences included; returns tokens."
    found = engine.generate(questions, Sampling(0.6, max_tokens=TOKENS), n=SAMPLES, seed=seed)
    return sum(c.completion_tokens for c in found)

def main(checkpoint=MODELS/"slm"):
    torch.set_num_threads(1)
    engine = TransformersEngine(checkpoint)
    questions = [q["question"] for q in load_questions("calc", "dev", QUESTIONS)]
    speed = {ours: [], bare: []}
    for run in range(-1, RUNS):     # the first is a warm-up
        for way, found in speed.items():
            t = time.process_time()
            n = way(engine, questions, run)
            if run >= 0: found.append((time.process_time() - t) / n * 1000)
    a, b = (statistics.median(found) for found in speed.values())
    path = Path(__file__).with_name("results")/"generate.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["what", "ours", "baseline_name", "baseline", "ratio", "unit", "runs"])
        w.writerow([f"{QUESTIONS} questions x {SAMPLES} completions with log-probabilities, 1 thread", f"{a:.4f}",
                    "bare model.generate without them", f"{b:.4f}", f"{a/b:.3f}", "CPU s per 1,000 tokens", RUNS])
    print(path.read_text(), end="")

if __name__ == "__main__": main(*sys.argv[1:])
