"""The plan of `08g_plan` beside what was measured: tokens of the laptop run, peak memory of trainings on the CPU.

Writes benchmarks/results/plan.csv (`what, case, planned, measured, ratio`). Tokens are those of the committed records. Memory is the peak
resident size of a fresh process that takes two GRPO steps: of the miniature, and of models with random weights in larger shapes, so that
each part of the estimate is the largest in some row. Shapes marked `held out` had no part in choosing the estimate's constants.

    python benchmarks/plan.py
"""
import csv, json, resource, subprocess, sys, tempfile
from pathlib import Path
import pandas as pd
from corea.core import FIGURES, MODELS, load_profile
from corea.lab.grid import chains
from corea.lab.plan import memory, tokens

CASES = {   # hidden, layers, completions in a mini-batch, tokens of a completion, vocabulary (0: the miniature's)
    "miniature": None, "activations": (256, 8, 48, 80, 0), "long": (256, 8, 48, 300, 0), "weights": (1024, 8, 16, 80, 0),
    "logits": (512, 4, 16, 200, 32000), "held out: middling": (384, 6, 24, 150, 5000), "held out: deep": (192, 20, 32, 120, 2000)}

def train(case, prompt):
    "Two steps in this process: [planned, measured] in GB."
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
    from corea.data import load_questions
    from corea.trainer import train_grpo
    torch.set_num_threads(1)
    few = dict(steps=2, updates_per_step=1, questions_per_step=6, snapshots=())
    if CASES[case]:
        h, layers, rows, length, vocab = CASES[case]
        tokenizer, path = AutoTokenizer.from_pretrained(MODELS/"slm"), tempfile.mkdtemp()
        model = Qwen3ForCausalLM(Qwen3Config(
            hidden_size=h, num_hidden_layers=layers, num_attention_heads=h // 32, num_key_value_heads=h // 32, head_dim=32,
            intermediate_size=3 * h, vocab_size=vocab or len(tokenizer), tie_word_embeddings=True, max_position_embeddings=1024,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
        model.save_pretrained(path), tokenizer.save_pretrained(path)
        del model
        few |= dict(slm=path, questions_per_step=rows // 8, max_completion=length)
    cfg = load_profile("laptop", **few)
    train_grpo(cfg, "l1", 1, tempfile.mkdtemp(), questions=load_questions("calc", "train", 64), progress=False)
    unit = 1 if sys.platform == "darwin" else 1024
    return memory(cfg, prompt).total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9

def tokens_of_laptop():
    "Planned and measured tokens of the committed run, by end."
    cfg, records, planned = load_profile("laptop"), FIGURES/"laptop"/"records", tokens(load_profile("laptop"))
    read = [pd.read_csv(records/f"{name}.csv.gz") for name, *_ in chains(cfg)]
    for kind in ("prompt", "completion"):
        yield (f"tokens of evaluations, {kind}s", planned[planned.end.isin(["calibration", "test"])][kind].sum(),
               sum(f[f"{kind}_tokens"].sum() for f in read))
    logs = [pd.read_csv(records/f"train_{name}.csv") for name, method, _ in chains(cfg) if method]
    yield ("tokens of rollouts", planned[planned.end == "rollouts"].completion.sum(),
           sum(log.mean_length.sum() for log in logs) * cfg.questions_per_step * cfg.rollouts)

def main():
    rows = [("tokens", case, planned, measured) for case, planned, measured in tokens_of_laptop()]
    for case in CASES:
        done = subprocess.run([sys.executable, __file__, case], capture_output=True, text=True, check=True)
        rows.append(("GB", case, *json.loads(done.stdout.splitlines()[-1])))
    path = Path(__file__).with_name("results")/"plan.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["what", "case", "planned", "measured", "ratio"])
        w.writerows([what, case, f"{p:.4g}", f"{m:.4g}", f"{p / m:.3f}"] for what, case, p, m in rows)
    print(path.read_text(), end="")

if __name__ == "__main__":
    if len(sys.argv) > 1: print(json.dumps(train(sys.argv[1], prompt=20)))
    else: main()
