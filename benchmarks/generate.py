"""CPU time of `TransformersEngine` per token against a bare `model.generate` on the same prompts, batches and settings.

Writes benchmarks/results/generate.csv. The bare call gives neither log-probabilities nor confidences; the engine's row counts
its scoring pass too. One thread, CPU seconds, so that a busy machine does not show. Runs alternate; ratio of the medians.

A second row asks the same of a model that spells its confidences in digits: the real one of 06b_warm, if it was made here. Its
baseline is the same engine with its scores switched off, in batches of sixteen.

    python benchmarks/generate.py [CHECKPOINT]
"""
import csv, statistics, sys, time
from pathlib import Path
import torch
from corea.core import ARTIFACTS, MODELS
from corea.data import load_questions
from corea.generate import SCORES, Sampling, TransformersEngine, encode, pad_rows, plan

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

def measured(ways, runs):
    "Median CPU seconds per 1,000 tokens of each way, runs alternating, the first of them a warm-up."
    speed = {way: [] for way in ways}
    for run in range(-1, runs):
        for way, found in speed.items():
            t = time.process_time()
            n = way(run)
            if run >= 0: found.append((time.process_time() - t) / n * 1000)
    return [statistics.median(found) for found in speed.values()]

def real(checkpoint, runs=3):
    "The real model, whole against its sampling alone."
    engine = TransformersEngine(checkpoint, batch_size=16)
    questions = [q["question"] for q in load_questions("strategyqa", "calibration", 4)]
    def way(scores):
        def asked(seed):
            engine.scores = scores
            return sum(c.completion_tokens for c in engine.generate(questions, Sampling(1.0, max_tokens=48), n=4, seed=seed))
        return asked
    a, b = measured((way(SCORES), way(())), runs)
    return ["SmolLM2-135M, 4 questions x 4 completions, confidences spelt in digits, batch 16, 1 thread", f"{a:.2f}",
            "the same engine without scores", f"{b:.2f}", f"{a/b:.3f}", "CPU s per 1,000 tokens", runs]

def main(checkpoint=MODELS/"slm"):
    torch.set_num_threads(1)
    engine = TransformersEngine(checkpoint)
    questions = [q["question"] for q in load_questions("calc", "dev", QUESTIONS)]
    a, b = measured((lambda run: ours(engine, questions, run), lambda run: bare(engine, questions, run)), RUNS)
    rows = [[f"{QUESTIONS} questions x {SAMPLES} completions with log-probabilities, 1 thread", f"{a:.4f}",
             "bare model.generate without them", f"{b:.4f}", f"{a/b:.3f}", "CPU s per 1,000 tokens", RUNS]]
    warm = ARTIFACTS/"models"/"smollm2-warm"
    if (warm/"config.json").exists(): rows.append(real(warm))
    path = Path(__file__).with_name("results")/"generate.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["what", "ours", "baseline_name", "baseline", "ratio", "unit", "runs"])
        w.writerows(rows)
    print(path.read_text(), end="")

if __name__ == "__main__": main(*sys.argv[1:])
