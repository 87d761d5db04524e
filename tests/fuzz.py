"""What comes from outside (words of a model, files, settings), made up or damaged, in any number: nothing but `CoreaError` may come of it.

    python tests/fuzz.py 1000000 3600        # or make fuzz INPUTS=1000000 TIME=3600

goes through the targets in turn until so many inputs are done or so many seconds are over, and names each input that raised something else or
took longer than `MOST` seconds of the processor by target and seed: `python tests/fuzz.py parse 12345` makes that one again. `tests/test_fuzz.py`
runs a few of each.
"""
import contextlib, functools, gzip, io, json, random, shutil, sys, tempfile, time, traceback
from pathlib import Path
import pandas as pd
from corea import answer, core, data
from corea.core import MODELS, CoreaError, load_profile
from corea.extra import prices, recorded
from corea.generate import load_checkpoint
from corea.lab import command
from corea.lab.records import load_records, made_up_records

MOST = 5.       # seconds of the processor for one input
PIECES = [r"\boxed", r"\confidence", "{", "}", "\\", "$", "^", "_", "%", ",", ".", "-", "(", ")", "[", "]", "=", " ", "\n", "0", "1", "8", "0.9", "1e999", "nan", "inf",
          r"\frac", r"\sqrt", r"\text", r"\times 10^", r"\cdot", "<think>", "</think>", "x", "C", "(A)", "½", "·", "√", "٣", "\u2028", "\ud800", "\x00", "answer:", "**", "km/h", "1,000",
          "9" * 40, "{" * 200, r"\overline", r"\pi", "]1,2[", "1 1/2"]
ODD = [None, True, False, 0, -1, 1, 1.5, 1e308, -0.0, float("nan"), float("inf"), 10**400, "", " ", "x", "0.5", "laptop", "/", "..", "a\nb", "\ud800", [], [[]], {}, {"a": None}, [1, "a"],
       ["l1", "l1"], [0], "http://x", {"steps": 5}]

def text(r): return "".join(r.choice(PIECES) if r.random() < .8 else chr(r.choice([r.randrange(128), r.randrange(0x110000)])) for _ in range(r.randrange(30)))

def damaged(r, blob):
    "Bytes, cut, flipped, doubled, or with others put in."
    blob = bytearray(blob)
    for _ in range(r.choice([1, 1, 1, 3, 10])):
        at, n = r.randrange(len(blob) + 1), r.choice([1, 1, 2, 8, 50])
        how = r.randrange(5)
        if how == 0: del blob[at:at + n]
        elif how == 1: blob[at:at + n] = r.randbytes(n)
        elif how == 2: blob[at:at] = blob[at:at + n] * r.choice([1, 2, 40])
        elif how == 3: blob[at:at] = r.choice([b",", b'"', b"\n", b"-", b"9" * 30, b"nan", b"\xff", b"\x00", b"{", b"[" * 2000, b"null", b"1e999", "٣".encode()])
        else: del blob[at:]
    return bytes(blob)

def changed(r, value):
    "A JSON value in which one part is another."
    if isinstance(value, (dict, list)) and value and r.random() < .85:
        value = value.copy()
        key = r.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if r.random() < .15: del value[key]
        else: value[key] = changed(r, value[key])
        return value
    return r.choice(ODD)

@functools.cache
def folder(): return Path(tempfile.mkdtemp(prefix="corea-fuzz-"))

def written(name, blob):
    (folder()/name).write_bytes(blob)
    return folder()/name

def lines(r, rows):
    "JSON lines, some of them odd, some damaged."
    blob = "".join(json.dumps(changed(r, row) if r.random() < .5 else row) + "\n" for row in rows).encode()
    return damaged(r, blob) if r.random() < .5 else blob

# targets: each takes a `random.Random` and does one thing with an input from it

def parse(r):
    said = text(r) + r.choice(["", r"\boxed{8} \confidence{0.9}"]) + text(r)
    p, span = answer.parse(said), answer.confidence_span(said)
    assert p.status in answer.STATUSES and (p.confidence is None or 0 <= p.confidence <= 1) and isinstance(said[span], str)

def rules(r):
    said, gold = text(r), r.choice(["8", r"\frac{1}{2}", "(1,2)", "C", "0.5", text(r)])
    assert answer.easy(said, gold, r.choice(["math", "exact"]), r.random() < .8) in (True, False, None)
    assert answer.easy(gold.strip(), gold) in (True, False) and isinstance(answer.latex_form(said), str)

def configuration(r):
    fields = {f: r.choice(ODD) for f in r.sample(sorted(core.Config.__dataclass_fields__), r.choice([1, 1, 2, 4]))}
    load_profile(r.choice(list(core.PROFILES)), **{k: core.thawed(v) for k, v in fields.items() if k != "profile"})

def settings(r): command.setting(r.choice(["steps=", "seeds=[", "llm_training={", "=", ""]) + text(r))

def questions(r):
    rows = [dict(question=f"What is {i} + 1?", gold=str(i + 1), id=str(i), kind="math") for i in range(5)]
    data.load_questions(str(written("mine.jsonl", lines(r, rows))), r.choice(["train", "calibration", "test"]))

def log(r): core.read_records(written("log.jsonl", lines(r, [dict(step=i, reward=.5) for i in range(4)])))

def answers(r):
    rows = [dict(dataset="a", question_id=str(i), model=m, correct=i % 2, confidence=.1 * i, prompt_tokens=9, completion_tokens=4) for i in range(4) for m in "xy"]
    if r.random() < .5: recorded.read_tidy(written("tidy.jsonl", lines(r, rows)))
    else: recorded.read_tidy(written("tidy.csv", damaged(r, pd.DataFrame(rows).to_csv(index=False).encode())))

def harness(r):
    rows = [dict(doc_id=i, doc={"q": "?"}, target="8", resps=[[[-.5, True]], [[-1.5, False]]], acc=1., filter="none", doc_hash="ab" * 20) for i in range(4)]
    recorded.read_harness(written("samples_task_2026-01-01T00-00-00.jsonl", lines(r, rows)))

def price_list(r):
    prices.read_prices(written("prices.csv", damaged(r, ("provider,model,date,input,output,source\nme,small,2026-07-24,0.1,0.4,a bill\n" * 2).encode())))

@functools.cache
def whole_records(): return made_up_records(folder()/"whole", load_profile("smoke", seeds=(0,), n_test=2, n_calibration=2, snapshot_questions=1))

def records(r):
    "A run's folder in which one file is damaged."
    here = folder()/"records"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(whole_records(), here)
    path = r.choice(sorted(here.iterdir()))
    blob = path.read_bytes()
    if path.suffix == ".gz": blob = damaged(r, blob) if r.random() < .3 else gzip.compress(damaged(r, gzip.decompress(blob)), 1)
    elif path.name == "run.json" and r.random() < .7: blob = json.dumps(changed(r, json.loads(blob))).encode()
    else: blob = damaged(r, blob)
    path.write_bytes(blob)
    load_records(here)

def checkpoint(r):
    "The smallest model, one file of it damaged, most often where the header of its weights is."
    here = folder()/"model"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(MODELS/"slm-small", here)
    path = r.choice([here/"model.safetensors"] * 3 + sorted(here.glob("*.json")))
    blob = path.read_bytes()
    path.write_bytes(damaged(r, blob[:4000]) + blob[4000:] if path.suffix == ".safetensors" else damaged(r, blob))
    load_checkpoint(here)

TARGETS = dict(parse=parse, rules=rules, configuration=configuration, settings=settings, questions=questions, log=log, answers=answers, harness=harness,
               price_list=price_list, records=records, checkpoint=checkpoint)
SHARES = dict(parse=300, rules=300, configuration=100, settings=100, questions=60, log=100, answers=60, harness=60, price_list=60, records=4, checkpoint=1)

def attempt(name, seed):
    "One input: what is wrong with what came of it, or nothing."
    start = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()): TARGETS[name](random.Random(f"{name} {seed}"))
    except CoreaError as e:
        if "\n" in str(e): return f"an error of several lines: {str(e)!r}"
    except Exception: return traceback.format_exc()
    if (spent := time.process_time() - start) > MOST: return f"{spent:.1f} s of the processor"

def main(inputs=1_000_000, seconds=3600.):
    "Through all targets in turn; the number of inputs that something was wrong with."
    from tqdm.auto import tqdm
    for name in TARGETS: attempt(name, -1)      # loads what it needs, which is not the input's time
    end, done, wrong, order = time.monotonic() + seconds, 0, 0, [name for name, share in SHARES.items() for _ in range(share)]
    random.Random(0).shuffle(order)
    with tqdm(total=inputs, unit="input") as bar:
        while done < inputs and time.monotonic() < end:
            name, seed = order[done % len(order)], done
            if fault := attempt(name, seed):
                wrong += 1
                tqdm.write(f"--- {name} {seed}\n{fault}")
            done += 1
            bar.update()
    shutil.rmtree(folder())
    print(f"{done:,} inputs, {wrong} wrong")
    return wrong

if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in TARGETS: print(attempt(sys.argv[1], int(sys.argv[2])) or "nothing wrong")
    else: sys.exit(main(*(t(x) for t, x in zip((int, float), sys.argv[1:]))) > 0)
