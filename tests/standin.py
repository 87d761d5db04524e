"""A rehearsal of the profile `gpu-ci` where there is no GPU, no hub and no real data, from one line: `make standin`.

It makes a folder of rows in the very form of the published sets, from the miniature's questions; starts a server that speaks as vLLM's does,
in another process; and runs `make results PROFILE=stand-in`: every table and figure at the end. COREA_VLLM_PYTHON, an interpreter
with vLLM (`make vllm` makes one), puts vLLM's own server in place of the double.
"""
import json, os, random, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
from corea.core import ARTIFACTS, MODELS, ROOT, digest, load_profile, write_atomic
from corea.data import DATASETS, QUEUE
from corea.published import PUBLISHED, committed
from corea.server import vllm_server
from server import interpreter

def options(r, gold, others): return r.sample([gold, *others], 1 + len(others))

def deepmath(q, gold, r): return dict(question=q, final_answer=gold, difficulty=r.choice([2.0, 5.5]))
def math500(q, gold, r): return dict(problem=q, answer=gold)
def math(q, gold, r): return dict(problem=q, solution=rf"As one sees, it is $\boxed{{{gold}}}$.")
def gsm8k(q, gold, r): return dict(question=q, answer=f"One counts.\n#### {gold}")
def olympiadbench(q, gold, r): return dict(context=None, question=q, final_answer=[f"${gold}$"])
def gpqa(q, gold, r):
    stem, names = q.split(" A)")[0], {n[0]: n for n in QUEUE}
    return {"Question": stem, "Correct Answer": names.pop(gold)} | {f"Incorrect Answer {k}": n for k, n in enumerate(list(names.values())[:3], 1)}
def commonsenseqa(q, gold, r):
    texts = options(r, gold, ["".join(r.sample(gold, len(gold))) + s for s in "wxyz"])
    return dict(question=q, choices=dict(label=list("ABCDE"), text=texts), answerKey="ABCDE"[texts.index(gold)])

FORMS = dict(deepmath=(deepmath, "calc"), math500=(math500, "word"), math=(math, "word"), gsm8k=(gsm8k, "even"),
             olympiadbench=(olympiadbench, "clock"), gpqa=(gpqa, "queue"), commonsenseqa=(commonsenseqa, "letters"))

def rows(source):
    "As many as the real source has; those that a split may draw are all different."
    form, family = FORMS[source.name.split("/")[0]]
    r, seen, places = random.Random(f"stand-in {source.name}"), {}, committed().get(source.name, range(source.n))
    while len(seen) < len(places):
        q, gold, *_ = DATASETS[family].generate(r, r.random() > .6)
        seen.setdefault(q, form(q, gold, r))
    out = [next(iter(seen.values()))] * source.n
    for place, row in zip(places, seen.values()): out[place] = row
    return out

def write(folder):
    "All sources; nothing if they are there."
    sources = {c.source.name: c.source for s in PUBLISHED.values() for c in s.splits.values()}
    if (Path(folder)/"sets"/"stand-in.json").exists(): return
    digests = {}
    for name, source in sources.items():
        text = "".join(json.dumps(row) + "\n" for row in rows(source))
        write_atomic(Path(folder)/"sets"/f"{name}.jsonl", text)
        digests[name] = digest(text)
    write_atomic(Path(folder)/"sets"/"stand-in.json", json.dumps(digests, indent=1))

@contextmanager
def server(url, log):
    "The LLM behind an address, in another process; the double starts where vLLM would."
    with tempfile.TemporaryDirectory() as folder:
        python = os.environ.get("COREA_VLLM_PYTHON") or interpreter(folder)
        with vllm_server(MODELS/"llm", python, url.rpartition(":")[2], log, dtype="float32", enforce_eager=True,
                         max_num_seqs=64): yield

def main():
    start, folder = time.time(), ARTIFACTS/"stand-in-data"
    write(folder)
    print(f"rows in the form of the real sets: {time.time() - start:.0f} s", flush=True)
    with server(load_profile("stand-in").llm_server, ARTIFACTS/"stand-in-server.log"):
        code = subprocess.run(["make", "results", "PROFILE=stand-in"], cwd=ROOT, env=os.environ | {"COREA_DATA": str(folder)}).returncode
    print(f"stand-in for gpu-ci: {time.time() - start:.0f} s in all", flush=True)
    sys.exit(code)

if __name__ == "__main__": main()
