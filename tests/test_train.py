"`corea train`: from questions of one's own to a model that says how sure it is, and what it refuses and survives."
import json, os, shlex, subprocess, sys, time
from pathlib import Path
import httpx, pytest
import corea.extra.train as t
import corea.trainer as trainer
from corea.core import MODELS, ROOT, CoreaError, read_records, write_records
from corea.data import SHARES, JsonlSet, load_questions
from corea.extra.policy import read_policy
from corea.extra.train import train_own
from corea.generate import load_checkpoint
from corea.lab.command import main
from corea.server import free_port

ROWS = [dict(question=q["question"], gold=q["gold"]) for q in load_questions("calc", "dev", 140)]
FEW = dict(steps=4, save_every=2, questions_per_step=4, rollouts=4, samples=1)
QUIET = dict(profile="own-cpu", progress=False)

@pytest.fixture
def questions(tmp_path):
    write_records(tmp_path/"questions.jsonl", ROWS)
    return tmp_path/"questions.jsonl"

# ---- the three commands, pasted

COREA = [sys.executable, "-c", "import sys; from corea.lab.command import main; sys.exit(main())"]

def environment(folder):
    "Of a user who has no clone."
    return {k: v for k, v in os.environ.items() if k != "COREA_ROOT"} | dict(PYTHONPATH=str(ROOT), TQDM_DISABLE="1", HOME=str(folder))

def corea(line, folder):
    "What a command line prints."
    done = subprocess.run([*COREA, *shlex.split(line)[1:]], cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    "A fresh folder in which a model was trained; what was printed."
    folder = tmp_path_factory.mktemp("fresh")
    write_records(folder/"questions.jsonl", ROWS)
    settings = " ".join(f"--set {k}={v}" for k, v in FEW.items())
    return folder, corea(f"corea train questions.jsonl --slm slm --out mine --profile own-cpu {settings}", folder)

def test_train_calibrate_serve(pasted):
    folder, said = pasted
    lines = said.splitlines()
    place = {k: next(i for i, line in enumerate(lines) if line.startswith(k)) for k in ("questions:", "model:", "memory:", "time:", "Pass@1", "AUROC", "next:")}
    assert list(place.values()) == sorted(place.values()) and (folder/"mine"/"report.html").stat().st_size > 10_000
    said = corea(lines[place["next:"]].removeprefix("next: ").replace("LARGE_MODEL", "llm") + " --budget 0.3", folder)
    assert said.startswith("corea-policy-")
    port = free_port()
    server = subprocess.Popen([*COREA, "serve", "policy.json", "--port", str(port)], cwd=folder, env=environment(folder), stderr=subprocess.PIPE)
    try:
        ask = dict(model="corea", messages=[dict(role="user", content=ROWS[0]["question"])])
        answer = None
        while answer is None:
            assert server.poll() is None, server.stderr.read()
            try: answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=ask, timeout=600, trust_env=False)
            except httpx.ConnectError: time.sleep(.2)
        assert answer.status_code == 200 and answer.json()["corea"]["who"] in ("slm", "llm") and "boxed" in answer.json()["choices"][0]["message"]["content"]
    finally:
        server.terminate()
        server.communicate()

def test_no_question_does_two_things_and_the_policy_names_its_share(pasted):
    folder, _ = pasted
    about = json.loads((folder/"mine"/"training.json").read_text())
    shares = {share: read_records(folder/"mine"/"data"/f"{share}.jsonl") for share in t.DEALT}
    texts = [q["question"] for rows in shares.values() for q in rows]
    assert sorted(texts) == sorted(q["question"] for q in ROWS) and len(set(texts)) == len(texts)
    own = JsonlSet(str(folder/"questions.jsonl"))
    assert {s: [q["question"] for q in own.rows(s)] for s in SHARES} == {s: [q["question"] for q in shares[s]] for s in SHARES}
    assert {s: n for s, (n, _) in about["questions"].items()} == {s: len(rows) for s, rows in shares.items()}
    if (folder/"policy.json").exists(): assert read_policy(folder/"policy.json").calibration["digest"] == about["questions"]["calibration"][1]
    asked = {r["question_id"] for name in t.LOOKS for r in read_records(folder/"mine"/"records"/f"{name}.jsonl")}
    assert asked == {q["id"] for q in shares["test"]}

def test_what_is_done_is_not_done_again_and_what_differs_is_refused(pasted, tmp_path, monkeypatch):
    folder, said = pasted
    monkeypatch.setattr(t, "engine_for", lambda *_, **__: pytest.fail("a model is opened"))
    made = train_own(folder/"questions.jsonl", "slm", folder/"mine", **QUIET, **FEW)
    assert str(made).splitlines()[0] in said
    write_records(tmp_path/"more.jsonl", [*ROWS, dict(question="What is 1 + 1?", gold="2")])
    for change, says in ((dict(seed=1), "seed=0, not 1"), (dict(steps=5), "steps=4, not 5"), (dict(slm="slm-small"), "slm='slm', not 'slm-small'"),
                         (dict(questions=tmp_path/"more.jsonl"), "questions=")):
        with pytest.raises(CoreaError, match=f"begun with {says}"): train_own(**dict(questions=folder/"questions.jsonl", slm="slm", out=folder/"mine") | QUIET | FEW | change)

def test_killed_and_gone_on_with_it_comes_to_the_same(pasted, questions, tmp_path, monkeypatch):
    "Among the answers before, in training behind a checkpoint, and before the page."
    keep, left, whole = trainer.append_records, [], pasted[0]/"mine"
    def log(*a):
        if left and not left.pop(): raise KeyboardInterrupt
        keep(*a)
    def dies(*_, **__): raise KeyboardInterrupt
    go = lambda: train_own(questions, "slm", tmp_path/"mine", **QUIET, **FEW)
    with monkeypatch.context() as m:
        real = t.ask
        m.setattr(t, "ask", lambda engine, name, *a, **k: dies() if name == "before" else real(engine, name, *a, **k))
        with pytest.raises(KeyboardInterrupt): go()
    assert (tmp_path/"mine"/"work"/"cost.json").exists() and not (tmp_path/"mine"/"model").exists()
    left[:] = [0, 1, 1]     # rows of the log, from the end: the third step is never noted
    monkeypatch.setattr(trainer, "append_records", log)
    with pytest.raises(KeyboardInterrupt): go()
    assert [p.name for p in (tmp_path/"mine"/"work"/"train").glob("checkpoint-*")] == ["checkpoint-2"]
    with monkeypatch.context() as m:
        m.setattr(t, "page", dies)
        with pytest.raises(KeyboardInterrupt): go()
    assert (tmp_path/"mine"/"model").exists() and not (tmp_path/"mine"/"report.html").exists()
    go()
    files = lambda folder: {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}
    assert files(tmp_path/"mine") == files(whole)
    assert not [f for f in sorted(files(whole)) if (tmp_path/"mine"/f).read_bytes() != (whole/f).read_bytes()]

# ---- what is refused

BAD = {"no gold": ([dict(question="What?")], "line 141: needs a non-empty text 'gold'"), "no JSON": ("{\n", "line 141: not JSON"),
       "twice": ([ROWS[3]], "line 141: the question of line 4 again"), "kind": ([dict(question="Why?", gold="1", kind="essay")], "line 141: kind is 'essay'"),
       "unreadable": ([dict(question="How much?", gold=r"\frac{1}{")], r"line 141: the gold answer '\\frac{1}{' cannot be graded"),
       "few": (ROWS[:9], "9 questions: too few to train and to test on"), "few of a share": (ROWS[:62], "of 62 questions ")}

@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_told_in_a_line_before_anything_is_made(what, questions, tmp_path, capsys):
    more, says = BAD[what]
    if what.startswith("few"): write_records(questions, more)
    else:
        with open(questions, "a") as f: f.write(more if isinstance(more, str) else "".join(json.dumps(r) + "\n" for r in more))
    assert main(["train", str(questions), "--slm", "slm", "--out", str(tmp_path/"mine")]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("corea: ") and err.count("\n") == 1 and says in err and not out and not (tmp_path/"mine").exists()

@pytest.mark.parametrize("words,says", [
    (["--slm", "smol"], "no model 'smol'"), (["--slm", "slm", "--set", "stepz=3"], "unknown field 'stepz'"), (["--slm", "slm", "--set", "steps"], "--set steps: give a field"),
    (["--slm", "slm", "--set", "slm=llm"], "--set slm: a word of its own says that"), (["--slm", "slm", "--set", "progress=false"], "--set progress: a word of its own"),
    (["--slm", "slm", "--set", "seeds=[1]"], "seeds is not to be set: --seed says it"), (["--slm", "slm", "--set", "rollouts=1"], "rollouts is 1"),
    (["--slm", "slm", "--set", "micro_batch=7"], "micro_batch=7"), (["--slm", "slm", "--profile", "own-1gpu"], "torch sees 0")])
def test_wrong_words_are_told_in_a_line(words, says, questions, tmp_path, capsys):
    if "own-1gpu" in words:
        import torch
        if torch.cuda.is_available(): pytest.skip("there is a card")
    assert main(["train", str(questions), "--out", str(tmp_path/"mine"), *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("corea: ") and err.count("\n") == 1 and says in err and not (tmp_path/"mine").exists()

def test_a_folder_of_something_else_is_left_as_it_is(questions, tmp_path):
    (tmp_path/"mine").mkdir()
    (tmp_path/"mine"/"thesis.tex").write_text("years")
    with pytest.raises(CoreaError, match="holds something else"): train_own(questions, "slm", tmp_path/"mine", **QUIET)
    with pytest.raises(CoreaError, match="is a file: name a folder"): train_own(questions, "slm", questions, **QUIET)
    assert [p.name for p in (tmp_path/"mine").iterdir()] == ["thesis.tex"]
    (tmp_path/"torn").mkdir()
    (tmp_path/"torn"/t.NOTE).write_text("{")
    with pytest.raises(CoreaError, match="cannot be read"): train_own(questions, "slm", tmp_path/"torn", **QUIET)

# ---- the form, and memory

@pytest.fixture
def silent(tmp_path):
    "A base that solves, and has lost the word for confidence."
    model, tokenizer = load_checkpoint(MODELS/"slm")
    table = model.get_input_embeddings().weight.data
    table[tokenizer.convert_tokens_to_ids(r" \confidence{")] = table.mean(0)
    return trainer.save_model(model, tokenizer, tmp_path/"silent")

def test_a_base_without_the_form_is_taught_it_first(silent, questions, tmp_path, capsys):
    made = train_own(questions, str(silent), tmp_path/"mine", "own-cpu", lora=4, **FEW)
    told, shown, card = capsys.readouterr().out, made.report.read_text(), (made.model/"README.md").read_text()
    assert told.startswith("form: 0% of the base's answers have it") and "trained are adapters of rank 4" in told
    for text in (shown, card): assert "silent, taught the form of an answer, then trained for 4 steps" in text and str(tmp_path) not in text
    states = t.compared(**made.said).loc["states a confidence"]
    assert states["before"][0] == 0 and states["after"][0] > .5

def test_a_base_that_cannot_be_taught_costs_no_hours(silent, questions, tmp_path, monkeypatch):
    monkeypatch.setattr(t, "train_sft", lambda start, *_: start)
    monkeypatch.setattr(t, "train_grpo", lambda *_: pytest.fail("it is trained"))
    with pytest.raises(CoreaError, match=r"0% of the base's answers .* after lessons 0%: too few"): train_own(questions, str(silent), tmp_path/"mine", **QUIET, **FEW)

def test_too_large_a_step_is_told_with_what_takes_less(questions, tmp_path, monkeypatch):
    def full(*_): raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    monkeypatch.setattr(t, "train_grpo", full)
    with pytest.raises(CoreaError, match="--set micro_batch=8 or lora=16"): train_own(questions, "slm", tmp_path/"mine", **QUIET, **FEW)

def test_every_size_is_suited():
    "All weights where they fit, adapters where they do not, and a smaller rate for a larger model."
    for device, sizes in t.SIZES.items():
        for kind in (True, False):
            rates = [s.lr for s in sizes if bool(s.lora) is kind]
            assert rates == sorted(rates, reverse=True)
        assert [s.weights for s in sizes] == sorted(s.weights for s in sizes) and t.suits(10**13, device)
    large = t.suits(7e9, "cuda")
    assert large.lora and t.held(t.load_profile("own-1gpu", lora=large.lora), 7e9) < 80 < t.held(t.load_profile("own-1gpu", lora=0), 7e9)
