"""How near-duplicates of real questions are found: runs of which length, in what time and memory.

Writes benchmarks/results/overlap.csv, one row for each length of a run and each of the paper's test sets that can be had, from COREA_DATA
or the hub. `one_word` to `renumbered` plant a changed copy of every question and give the share of them that is found; `apart` is the largest
share that a question has with any question of the other sets: thresholds lie above it. The last rows hold as many
questions as the paper trains on against the largest set: `seconds`, and `peak_mb`, what that added to the peak memory of the process.

    python benchmarks/overlap.py
"""
import csv, os, random, re, resource, sys, time
from pathlib import Path
from corea.core import CoreaError
from corea.overlap import matches
from corea.published import PUBLISHED

LENGTHS, TRAIN = (3, 5, 8, 13), 16384
COLUMNS = ["set", "questions", "run", "apart", "one_word", "two_words", "four_words", "cut", "renumbered", "seconds", "peak_mb"]

def changed(text, how, r):
    "A question with some words changed, its first third cut off, or other numbers."
    words = text.split()
    if how == "cut": return " ".join(words[len(words) // 3:])
    if how == "renumbered": return re.sub(r"\d+", lambda m: str(r.randint(2, 99)), text)
    for i in r.sample(range(len(words)), min(len(words), dict(one_word=1, two_words=2, four_words=4)[how])): words[i] = "otherwise"
    return " ".join(words)

def available():
    "The test sets that can be had."
    sets = {}
    for name, s in PUBLISHED.items():
        try: sets[name] = s.rows("test")
        except CoreaError as e: print(f"left out: {e}", file=sys.stderr)
    return sets

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def main():
    sets = available()
    if len(sets) < 2: sys.exit("fewer than two of the sets could be had")
    table, r = [], random.Random(0)
    for name, test in sets.items():
        others = [q for other, rows in sets.items() if other != name for q in rows]
        for n in LENGTHS:
            found = {}
            for how in COLUMNS[4:9]:
                planted = [q | {"question": changed(q["question"], how, r)} for q in test]
                # beside its copy, not among all copies: a question of several parts would be found by its neighbour
                found[how] = sum(len(matches([p], [q], n)) for p, q in zip(planted, test)) / len(test)
            table.append(dict(set=name, questions=len(test), run=n, apart=matches(others, test, n, threshold=0).share.max(), **found))
    name, test = max(sets.items(), key=lambda item: len(item[1]))
    pool = [q for rows in sets.values() for q in rows]
    train = [q | {"question": changed(q["question"], "four_words", r)} for q in (pool * (TRAIN // len(pool) + 1))[:TRAIN]]
    for n in LENGTHS:
        before, start = peak(), time.perf_counter()
        matches(train, test, n)
        table.append({"set": f"{TRAIN} against {name}", "questions": len(test), "run": n, "seconds": time.perf_counter() - start,
                      "peak_mb": peak() - before})
    path = Path(__file__).with_name("results")/"overlap.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.DictWriter(f, COLUMNS, restval="", lineterminator="\n")
        w.writeheader()
        w.writerows({k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()} for row in table)
    print(path.read_text(), end="")

if __name__ == "__main__": main()
