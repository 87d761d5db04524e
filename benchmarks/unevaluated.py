"""What it costs to ask that a number be worked out: answers graded with the rule of `02_answer` and without.

Writes benchmarks/results/unevaluated.csv, one row for each collection of answers: of the miniature's recorded models to mathematical questions;
of published models to MATH-500 (five 7B models, and two more) and GSM8K (four models); the gold answers of published sets against themselves; and
the table of forms in tests/grading_cases.csv. All but the first and the last need COREA_DATA, and are left out without. `plain gold` counts pairs
whose gold answer is a plain number, `refused` those of them whose answer leaves arithmetic to be done, `refused though equal` those of which
mathematics says that they are equal: the verdicts that the rule changes, which are also printed. `recorded otherwise` counts verdicts of the
miniature that differ from its records; `lost` lists the answers that the rule alone refused, but for the table of forms.

    python benchmarks/unevaluated.py
"""
import csv, json, os, re, sys
from pathlib import Path
import pandas as pd
from corea.answer import number_form, parse, unevaluated
from corea.core import FIGURES, ROOT, CoreaError
from corea.data import DATASETS, load_questions
from corea.grading import grade_all

def folder(name):
    "A folder of published records."
    path = Path(os.environ.get("COREA_DATA") or "none")/"records"/name
    if not path.is_dir(): raise CoreaError(f"no records of {name}: set COREA_DATA to a folder with records/{name}")
    return path

def miniature():
    "Answers of the laptop run's models, and what its records say of them."
    gold = {q["id"]: q["gold"] for d in DATASETS.values() if d.kind == "math" for split in ("test", "calibration") for q in load_questions(d.name, split)}
    frames = [pd.read_csv(p, usecols=["question_id", "answer", "correct"], dtype=str, keep_default_na=False)
              for p in sorted((FIGURES/"laptop"/"records").glob("*.csv.gz")) if not p.name.startswith("steps_")]
    return [(a, gold[i], "math", c in ("1", "True")) for f in frames for i, a, c in zip(f.question_id, f.answer, f.correct) if i in gold]

def seven():
    "Five 7B models on MATH-500."
    import pyarrow as pa
    rows = pa.ipc.open_stream(folder("rlcr")/"math-500"/"data-00000-of-00001.arrow").read_all().to_pylist()
    said = [(re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL), r["answer"]) for r in rows for m, text in r.items() if m.endswith("-output_0")]
    return [(parse(found[-1]).answer or found[-1], gold, "math") for found, gold in said if found]

def two():
    "A large model and one of 0.6B on MATH-500."
    said = [(r["prediction"] or "", r["answer"]) for p in sorted(folder("math500_gpt").glob("*.json")) for r in json.loads(p.read_text(encoding="utf-8"))]
    return [(parse(text).answer or text, gold, "math") for text, gold in said]

def four():
    "Four models of 6 and 175 billion parameters on GSM8K."
    last = lambda text: text.rpartition("A:")[2].strip()
    with open(folder("gsm8k_solutions")/"example_model_solutions.jsonl", encoding="utf-8") as f: rows = [json.loads(line) for line in f]
    return [(last(q[m]["solution"]), last(q["ground_truth"]).replace(",", ""), "math") for q in rows for m in q if isinstance(q[m], dict)]

def golds(name): return lambda: [(q["gold"], q["gold"], q["kind"]) for q in load_questions(name, "test")]

def cases():
    with open(ROOT/"tests"/"grading_cases.csv", newline="", encoding="utf-8") as f:
        return [(c["answer"], c["gold"], c["kind"]) for c in csv.DictReader(f)]

SOURCES = {"the miniature": miniature, "five 7B models, math500": seven, "two models, math500": two, "four models, gsm8k": four,
           **{f"{n}, gold answers": golds(n) for n in ("math500", "olympiadbench", "gsm8k")}, "grading_cases.csv": cases}

def row(name, rows):
    pairs = [r[:3] for r in rows]
    plain = [kind == "math" and bool(number_form(gold.strip())) for _, gold, kind in pairs]
    refused = [p and answer.strip() != gold.strip() and unevaluated(answer.strip(), gold.strip()) for p, (answer, gold, _) in zip(plain, pairs)]
    now, before = grade_all(pairs), grade_all(pairs, evaluated=False)
    changed = sorted({p for p, a, b in zip(pairs, now, before) if a != b})
    for answer, gold, _ in changed: print(f"  {name}: {answer!r} for {gold!r}", file=sys.stderr)
    return [name, len(pairs), len(set(pairs)), sum(plain), sum(refused), sum(a != b for a, b in zip(now, before)), sum(now),
            sum(len(r) == 4 and r[3] != right for r, right in zip(rows, now)),
            "" if name == "grading_cases.csv" else "; ".join(answer.strip() for answer, _, _ in changed)]

def main():
    made = []
    for name, answers in SOURCES.items():
        try: made.append(row(name, answers()))
        except CoreaError as e: print(f"left out: {e}", file=sys.stderr)
    path = Path(__file__).with_name("results")/"unevaluated.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["answers of", "pairs", "distinct", "plain gold", "refused", "refused though equal", "right", "recorded otherwise", "lost"])
        w.writerows(made)
    print(path.read_text(), end="")

if __name__ == "__main__": main()
