"""Grading in bulk beside math-verify called pair by pair, as its documentation shows.

Writes benchmarks/results/grading.csv, one row for each collection of answers: the miniature's recorded answers to mathematical questions; four
models' published answers to GSM8K; and gold answers of the published sets in right and wrong spellings, ten of each question as ten samples
would be. The last two need COREA_DATA or the hub, and are left out without. `plain` is `verify(parse("$gold$"), parse("$answer$"))` for every
pair; where there are more than `MOST`, for those of a random sample, and `plain_seconds` is scaled. `cold` starts with no worker, `warm` with two
that have graded nothing. `differ_grade` counts verdicts that are not those of the same rules without processes; `differ_plain`, of `plain_pairs`, those that
are not plain math-verify's, which are also printed.

    python benchmarks/grading.py
"""
import csv, json, os, random, sys, time
from pathlib import Path
import pandas as pd
from corea import grading
from corea.answer import easy, same_value
from corea.core import FIGURES, CoreaError
from corea.data import DATASETS, load_questions

MOST, SETS = 1000, ("math500", "gsm8k", "olympiadbench")
COLUMNS = ["answers", "pairs", "distinct", "plain_pairs", "plain_seconds", "cold_seconds", "warm_seconds", "cold_ratio", "warm_ratio",
           "right", "differ_grade", "differ_plain"]

def miniature():
    "What the laptop run's models answered to mathematical questions."
    gold = {q["id"]: q["gold"] for d in DATASETS.values() if d.kind == "math" for split in ("test", "calibration") for q in load_questions(d.name, split)}
    frames = [pd.read_csv(p, usecols=["question_id", "answer"], dtype=str, keep_default_na=False)
              for p in sorted((FIGURES/"laptop"/"records").glob("*.csv.gz")) if not p.name.startswith("steps_")]
    return [(a or None, gold[i], "math") for f in frames for i, a in zip(f.question_id, f.answer) if i in gold]

def published(name, r):
    "Ten answers to each question: the gold answer as it is, in other spellings, and answers to the questions that follow."
    golds = [q["gold"] for q in load_questions(name, "test")]
    pairs = []
    for i, gold in enumerate(golds):
        other = r.choice([f"${gold}$", gold.replace(r"\frac", r"\dfrac"), f"x={gold}", gold.replace(" ", "")])
        wrong, rare = (golds[(i + k) % len(golds)] for k in (1, 2))
        pairs += [(a, gold, "math") for a in [gold] * 5 + [other] * 2 + [wrong] * 2 + [rare]]
    return pairs

def models():
    "What four models of 6 and 175 billion parameters answered to GSM8K, as its authors publish it."
    path = Path(os.environ.get("COREA_DATA") or "none")/"records"/"gsm8k_solutions"/"example_model_solutions.jsonl"
    if not path.is_file(): raise CoreaError("no copy of GSM8K's model solutions: set COREA_DATA to a folder with records/gsm8k_solutions")
    last = lambda text: text.rpartition("A:")[2].strip()
    return [(last(q[m]["solution"]), last(q["ground_truth"]).replace(",", ""), "math") for q in map(json.loads, path.open(encoding="utf-8"))
            for m in q if isinstance(q[m], dict)]

def plain(pairs):
    "Verdicts of math-verify alone."
    from math_verify import parse, verify
    return [bool(verify(parse(f"${gold}$"), parse(f"${answer or ''}$"))) for answer, gold, _ in pairs]

def read_here(answer, gold, kind):
    "The verdict of `grade` without processes and without limits."
    told = easy(answer, gold, kind)
    return same_value(answer.strip(), gold.strip()) if told is None else told

def timed(f, pairs):
    start = time.perf_counter()
    return f(pairs), time.perf_counter() - start

def row(name, pairs, r):
    runs = []
    for start in ([], [("1/2", "0.5", "math"), ("1/4", "0.25", "math")]):   # workers remember too: new ones for each run
        grading.close(), grading._seen.clear()
        grading.grade_all(start, workers=2)
        runs.append(timed(lambda p: grading.grade_all(p, workers=2), pairs))
    (told, cold), (again, warm) = runs
    few = r.sample(range(len(pairs)), min(MOST, len(pairs)))
    alone, seconds = timed(plain, [pairs[i] for i in few])
    seconds *= len(pairs) / len(few)
    differ = [(pairs[i], v) for i, v in zip(few, alone) if v != told[i]]
    for (answer, gold, _), v in dict(differ).items(): print(f"  plain math-verify says {v}: {answer!r} for {gold!r}", file=sys.stderr)
    wrong = sum(a != b or b != c for a, b, c in zip(told, again, (read_here(*p) for p in pairs)))
    return [name, len(pairs), len(set(pairs)), len(few), f"{seconds:.4g}", f"{cold:.3g}", f"{warm:.3g}", f"{seconds / cold:.3g}", f"{seconds / warm:.3g}",
            sum(told), wrong, len(differ)]

def main():
    r, rows = random.Random(0), []
    for name, pairs in (("miniature", miniature), ("gsm8k: four models", models), *((n, lambda n=n: published(n, r)) for n in SETS)):
        try: rows.append(row(name, pairs(), r))
        except CoreaError as e: print(f"left out: {e}", file=sys.stderr)
    path = Path(__file__).with_name("results")/"grading.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(COLUMNS)
        w.writerows(rows)
    print(path.read_text(), end="")

if __name__ == "__main__": main()
