"""The requests of the engine contract, and a worker that runs them on vLLM in whatever interpreter calls it:

    python tests/generate_jobs.py CHECKPOINT OUT.json
"""
import dataclasses, json, sys
from corea.generate import CLOSED

QUESTIONS = ["Work out 13 (a) + 98.", "Work out 5 (a) + 2 (b) + 3.", "Work out 5 (a) + 2."]
GREEDY, DRAWN = dict(temperature=0), dict(temperature=1.0)
JOBS = {    # name -> arguments of generate, sampling apart
    "greedy": dict(questions=QUESTIONS, sampling=GREEDY),
    "backwards": dict(questions=QUESTIONS[::-1], sampling=GREEDY),
    "narrow": dict(questions=QUESTIONS, sampling=DRAWN | dict(top_p=1e-6)),
    "drawn": dict(questions=QUESTIONS, sampling=DRAWN, n=6, seed=7),
    "again": dict(questions=QUESTIONS, sampling=DRAWN, n=6, seed=7),
    "other": dict(questions=QUESTIONS, sampling=DRAWN, n=6, seed=8),
    "cooler": dict(questions=QUESTIONS, sampling=dict(temperature=0.6), n=4, seed=7),
    "stopped": dict(questions=QUESTIONS, sampling=GREEDY | dict(stop=["xed{1", "never"])),
    "closed": dict(questions=QUESTIONS, sampling=GREEDY | dict(until=CLOSED)),
    "boxed": dict(questions=QUESTIONS, sampling=GREEDY | dict(until=["boxed{", "never"])),
    "short": dict(questions=QUESTIONS, sampling=GREEDY | dict(max_tokens=4)),
    "done": dict(questions=QUESTIONS, sampling=DRAWN, n=6, seed=7, done=[[i, s] for i in (0, 1) for s in range(6)]),
    "begun": dict(questions=QUESTIONS, sampling=GREEDY | dict(max_tokens=64), begun=[" (a) + 98", "", " (a) + 2 = 7 \\boxed{"]),
    "nothing": dict(questions=[], sampling=GREEDY),
}

def run_jobs(engine):
    "Completions of every job, sorted by (index, sample)."
    from corea.generate import Sampling
    out = {}
    for name, job in JOBS.items():
        job = job | dict(sampling=Sampling(**job["sampling"]), done=[tuple(d) for d in job.get("done", ())])
        out[name] = sorted(engine.generate(**job), key=lambda c: (c.index, c.sample))
    return out

if __name__ == "__main__":
    from corea.generate import VLLMEngine
    got = run_jobs(VLLMEngine(sys.argv[1], batch_size=7, enforce_eager=True, gpu_memory_utilization=0.5))
    with open(sys.argv[2], "w") as f:
        json.dump({name: [dataclasses.asdict(c) for c in cs] for name, cs in got.items()}, f)
