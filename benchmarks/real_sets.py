"""Every split of the paper's sets: loaded, and its gold answers graded as a model's would be.

Writes benchmarks/results/real_sets.csv. Sets come from COREA_DATA or the hub (`01a_published`); a split that cannot be had is named
and left out. `passed_over` counts the rows that a drawn split could not use. `self_equal` counts gold answers that math-verify (exact
match for letters) takes for equal to themselves, without the shortcut for equal texts; `others_equal` those that it also takes for the
next row's, of which equal texts are left out.

    python benchmarks/real_sets.py [SET ...]
"""
import csv, sys
from pathlib import Path
from tqdm import tqdm
from corea.answer import bare, parse, same_value
from corea.core import CoreaError
from corea.published import PUBLISHED

def verdict(answer, gold, kind):
    "A verdict without the shortcut for equal texts."
    return bare(answer) == bare(gold) if kind == "exact" else same_value(answer, gold)

def whole(name, split):
    "One row of the table, and the gold answers that are not equal to themselves."
    rows, passed = PUBLISHED[name].rows(split), PUBLISHED[name].left_out(split)
    graded = equal = others = exceptions = 0
    odd = []
    for row, after in zip(tqdm(rows, desc=f"{name}/{split}"), rows[1:] + rows[:1]):
        try:
            answer = parse(f"So it is \\boxed{{{row['gold']}}} \\confidence{{0.9}}").answer
            same = verdict(answer or "", row["gold"], row["kind"])
            others += row["gold"] != after["gold"] and verdict(answer or "", after["gold"], row["kind"])
            graded, equal = graded + 1, equal + same
            if not same: odd.append(f"{row['id']}: {row['gold']!r}, read as {answer!r}")
        except Exception as e:      # counted, and the set goes on
            exceptions += 1
            odd.append(f"{row['id']}: {type(e).__name__}: {e}")
    return [name, split, PUBLISHED[name].splits[split].n, len(rows), len(passed), graded, equal, others, exceptions], odd

def main(names=()):
    made = []
    if unknown := set(names) - set(PUBLISHED): sys.exit(f"unknown set {unknown.pop()!r}: choose from {', '.join(PUBLISHED)}")
    for name, split in [(n, k) for n in names or PUBLISHED for k in PUBLISHED[n].splits]:
        try: row, odd = whole(name, split)
        except CoreaError as e:
            print(f"left out: {e}", file=sys.stderr)
            continue
        made.append(row)
        print(*odd, sep="\n", end="\n" * bool(odd))
    if not made: sys.exit("none of the sets could be had")
    path = Path(__file__).with_name("results")/"real_sets.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(["set", "split", "rows", "loaded", "passed_over", "graded", "self_equal", "others_equal", "exceptions"])
        w.writerows(made)
    print(path.read_text(), end="")

if __name__ == "__main__": main(sys.argv[1:])
