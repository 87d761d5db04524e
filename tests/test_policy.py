"What a policy promises, refuses and survives: `corea calibrate` and `corea report`."
import json, re, sys
from pathlib import Path
import numpy as np, pytest
import corea.extra.policy as p
from corea.cascade import TOP, defer
from corea.core import FIGURES, MODELS, CoreaError, digest, read_records, write_records
from corea.extra.policy import Rule, Table, calibrate, ledger_report, read_policy
from corea.lab.command import main
from test_server import Loopback

ROWS = [dict(id=str(i), question=f"What is {i} + 1?", gold=str(i % 5)) for i in range(60)]
NOW = dict(progress=False)

sys.path.append(str(Path(__file__).parents[1]/"benchmarks"))
import promise

@pytest.fixture(scope="module")
def laptop(): return p.load_records(FIGURES/"laptop"/"records")

@pytest.fixture
def questions(tmp_path):
    write_records(tmp_path/"questions.jsonl", ROWS)
    return tmp_path/"questions.jsonl"

@pytest.fixture(scope="module")
def pair():
    with Loopback() as slm, Loopback() as llm: yield slm, llm

def answers(*whos):
    "Answers of a small model that is right below 30 and knows it, and of a large one that is always right."
    for who in whos:
        for i, q in enumerate(ROWS):
            sure = who == "llm" or i < 30
            yield dict(who=who, id=q["id"], text=rf"\boxed{{{q['gold'] if sure else 9}}} \confidence{{{.9 if sure else .2}}}", prompt_tokens=10, completion_tokens=5)

@pytest.fixture
def policy(questions, tmp_path):
    write_records(tmp_path/"said.jsonl", answers("slm", "llm"))
    return calibrate(questions, "slm", "llm", tmp_path/"policy.json", records=tmp_path/"said.jsonl")

# ---- questions

BAD = {"no gold": ([dict(question="What?")], "line 61: needs a non-empty text 'gold'"), "no JSON": ("{", "line 61: not JSON"),
       "twice": ([dict(question="What is  3 + 1?", gold="4")], "line 61: the question of line 4 again"), "one id twice": ([ROWS[2] | dict(question="Why?")], "line 61: id '2'"),
       "unreadable": ([dict(question="How much?", gold=r"\frac{1}{")], r"line 61: the gold answer '\\frac{1}{' cannot be graded"),
       "no sign": ([dict(question="How much?", gold="??")], "line 61: the gold answer '??' cannot be graded")}

@pytest.mark.parametrize("what", BAD)
def test_a_bad_question_is_named_by_its_line_before_anybody_is_asked(what, questions, tmp_path, pair, capsys):
    more, says = BAD[what]
    with open(questions, "a") as f: f.write(more if isinstance(more, str) else "".join(json.dumps(r) + "\n" for r in more))
    if isinstance(more, str):
        with open(questions, "a") as f: f.write("\n")
    before = sum(pair[0].asked.values())
    assert main(["calibrate", str(questions), "--slm", pair[0].url, "--llm", pair[1].url, "--out", str(tmp_path/"p.json")]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("corea: ") and err.count("\n") == 1 and says in err and not out and sum(pair[0].asked.values()) == before
    assert not (tmp_path/"p.json").exists()

def test_too_few_questions_are_told_with_the_number_that_would_do(questions, tmp_path, pair):
    before = sum(pair[0].asked.values())
    with pytest.raises(CoreaError, match="60 questions cannot show a loss of at most 0.01 with probability 0.95.* give (\\d+) or more") as e:
        calibrate(questions, pair[0].url, pair[1].url, tmp_path/"p.json", delta=.05, **NOW)
    assert sum(pair[0].asked.values()) == before
    n = int(re.search(r"give (\d+)", str(e.value))[1])
    ideal = lambda n: Table({s: np.ones(n) for s in p.SCORES}, dict(slm=np.ones(n), llm=np.ones(n)), dict(slm=np.ones(n), llm=np.ones(n)))
    assert p.tau_by(Rule(.01, .05), ideal(n), "stated", 3) < TOP == p.tau_by(Rule(.01, .05), ideal(n - 1), "stated", 3)
    write_records(questions, ROWS[:5])
    with pytest.raises(CoreaError, match="5 questions: too few"): calibrate(questions, "slm", "llm", tmp_path/"p.json", **NOW)

# ---- asking, dying, going on

def test_killed_and_resumed_it_gives_the_same_file(questions, tmp_path, pair, monkeypatch):
    ask = lambda folder: calibrate(questions, pair[0].url, pair[1].url, tmp_path/folder/"policy.json", budget=.5, **NOW)
    whole, keep, left = ask("whole"), p.append_records, [25, 50]
    def dies(path, rows):
        left[0] -= 1
        if left[0] < 0: raise KeyboardInterrupt
        keep(path, rows)
    monkeypatch.setattr(p, "append_records", dies)
    for _ in range(2):      # among the answers of the small model, and among those of the large
        with pytest.raises(KeyboardInterrupt): ask("killed")
        left.pop(0)
        with open(tmp_path/"killed"/"policy.answers.jsonl", "a") as f: f.write('{"key": "to')
    there = {(r["who"], r["id"]) for r in read_records(tmp_path/"killed"/"policy.answers.jsonl")}
    assert len(there) == 75
    late = []
    monkeypatch.setattr(p, "append_records", lambda path, rows: late.extend(rows) or keep(path, rows))
    assert ask("killed").about == whole.about
    assert [r["who"] for r in late] == ["llm"] * 45       # what was kept is not asked again
    assert (tmp_path/"killed"/"policy.json").read_bytes() == (tmp_path/"whole"/"policy.json").read_bytes()
    assert len(read_records(tmp_path/"killed"/"policy.answers.jsonl")) == 120

def test_a_question_or_a_model_that_changed_is_asked_again(questions, tmp_path, pair):
    ask = lambda **kw: calibrate(questions, pair[0].url, pair[1].url, tmp_path/"policy.json", budget=.5, **NOW, **kw)
    ask()
    pair[0].asked.clear()
    write_records(questions, [ROWS[0] | dict(question="What is 0 + 2?"), *ROWS[1:]])
    ask()
    assert dict(pair[0].asked) == {"What is 0 + 2?": 1}
    ask(seed=1)
    assert sum(pair[0].asked.values()) == 61

@pytest.mark.parametrize("seed", [0, 3])
def test_the_cascade_of_a_policy_decides_as_the_table(questions, tmp_path, pair, seed):
    found = calibrate(questions, pair[0].url, pair[1].url, tmp_path/"policy.json", budget=.5, seed=seed, score="stated", **NOW)
    rows = {(r["who"], r["id"]): r for r in read_records(tmp_path/"policy.answers.jsonl")}
    said = [p.parse(rows["slm", q["id"]]["text"]) for q in ROWS]
    table = defer([None if s.answer is None else s.confidence for s in said], found.tau)
    batch = found.cascade().answers([q["question"] for q in ROWS], found.seed)
    assert [a.who == "llm" for a in batch] == table.tolist() and 0 < table.sum() < 60
    assert [a.text for a in batch] == [rows["llm" if d else "slm", q["id"]]["text"] for d, q in zip(table, ROWS)]
    assert np.mean(table) == pytest.approx(found.expected["llm_share"][0]) and sum(a.cost for a in batch) / 60 == pytest.approx(found.expected["cost"][0])

def test_records_lack_nothing_and_repeat_nothing(questions, tmp_path):
    said = list(answers("slm", "llm"))
    for rows, says in ((said[:-1], "no answer of llm to '59' \\(1 of 60"), (said + said[:1], "line 121: slm answers '0' again"), (["x"], "line 1: give who"),
                       ([said[0] | dict(completion_tokens=None)], "line 1: completion_tokens is 'None'"), ([said[0] | dict(expected=2)], "line 1: expected is '2'")):
        write_records(tmp_path/"said.jsonl", rows)
        with pytest.raises(CoreaError, match=says): calibrate(questions, "slm", "llm", tmp_path/"p.json", records=tmp_path/"said.jsonl")

@pytest.mark.parametrize("temperature", [0., .7])
def test_a_policy_from_records_is_served_as_it_was_calibrated(temperature, questions, tmp_path, pair):
    write_records(tmp_path/"said.jsonl", answers("slm", "llm"))
    found = calibrate(questions, pair[0].url, pair[1].url, tmp_path/"policy.json", records=tmp_path/"said.jsonl", temperature=temperature, max_tokens=50)
    assert {(x.temperature, x.max_tokens) for x in found.cascade().models.sampling.values()} == {(temperature, 50)}

# ---- records that are graded already

TIDY = [dict(question_id=f"{i:03}", model=m, correct=int(m == "big" or i % 4 > 0), confidence=.9 if i % 4 else .3) for i in range(800) for m in ("small", "big")]
SAMPLES = {m: [dict(doc_id=i, acc=float(m == "big" or i % 4 > 0), resps=[[[-.1, False]], [[-3. if i % 4 else -.2, False]]]) for i in range(800)] for m in ("small", "big")}

def written(form, folder):
    "Paths of the same 800 answers of two models."
    if form == "tidy": write_records(folder/"tidy.jsonl", TIDY)
    if form == "csv": (folder/"tidy.csv").write_text("question_id,model,correct,confidence\n" + "".join(",".join(map(str, r.values())) + "\n" for r in TIDY))
    for m, rows in SAMPLES.items():
        (folder/m).mkdir(exist_ok=True)
        write_records(folder/m/"samples_arc.jsonl", rows)
    return dict(tidy=[folder/"tidy.jsonl"], csv=[folder/"tidy.csv"], harness=[folder/m/"samples_arc.jsonl" for m in SAMPLES])[form]

@pytest.mark.parametrize("form", ["tidy", "csv", "harness"])
def test_graded_records_choose_and_promise_but_are_not_served(form, tmp_path, capsys):
    paths = list(map(str, written(form, tmp_path)))
    assert main(["calibrate", "--slm", "small", "--llm", "big", "--target-drop", ".02", "--delta", ".05", "--records", *paths, "--out", str(tmp_path/"policy.json")]) == 0
    found = read_policy(tmp_path/"policy.json")
    assert found.score == "stated" and found.expected["llm_share"][0] == .25 and found.expected["accuracy"][0] == 1 and found.calibration["questions"] == 800
    assert found.expected["slm"]["cost"] == 1 and found.expected["llm"]["cost"] == pytest.approx(32 / 7, abs=1e-5)
    assert main(["serve", str(tmp_path/"policy.json")]) == 1
    assert "do not say how the models were asked" in capsys.readouterr().err

def test_a_run_of_the_book_is_read_as_its_tables_read_it(tmp_path):
    folder = FIGURES/"laptop"/"records"
    found = calibrate(None, "l1-s4", "llm", tmp_path/"policy.json", target_drop=.05, delta=.1, score="expected", records=folder)
    t = p.of_run(p.load_records(folder), "l1-s4", "llm", p.Price())
    assert found.calibration["questions"] == 1800 and len(t) == 7200
    assert found.tau == p.guaranteed_tau(t.scores["expected"], t.correct["slm"], t.correct["llm"], t.ids, alpha=.05, delta=.1) < TOP

@pytest.mark.parametrize("how, says", [
    (dict(slm="smal"), "no answers of 'smal': give one of big, small"), (dict(records=None), "give questions, or records"), (dict(gate=True), "a gate learns from questions"),
    (dict(records="answers"), "nobody has graded"), (dict(records="none.jsonl"), "none.jsonl")])
def test_graded_records_that_do_not_fit_are_told_in_one_line(how, says, tmp_path):
    write_records(tmp_path/"answers.jsonl", answers("slm", "llm"))
    how = dict(slm="small", records=str(written("tidy", tmp_path)[0])) | how
    if how["records"] == "answers": how["records"] = tmp_path/"answers.jsonl"
    with pytest.raises(CoreaError, match=says) as e: calibrate(None, how.pop("slm"), "big", tmp_path/"policy.json", **how)
    assert "\n" not in str(e.value)

def test_graded_records_want_no_questions(questions, tmp_path):
    with pytest.raises(CoreaError, match="graded already: leave the questions out"): calibrate(questions, "small", "big", tmp_path/"p.json", records=written("tidy", tmp_path))

# ---- the gate

LONG = [dict(id=str(i), question=f"What is {10**(8 * (i % 3 == 0)) + i} + 1?", gold=str(i % 5)) for i in range(900)]

def told(who, hard): return rf"\boxed{{GOLD}} \confidence{{.9}}" if who == "llm" or not hard else r"\boxed{99} \confidence{.1}"

@pytest.fixture
def gated(tmp_path):
    "A policy over questions of which every third is long, and beyond the small model."
    write_records(tmp_path/"long.jsonl", LONG)
    write_records(tmp_path/"said.jsonl", [dict(who=who, id=q["id"], text=told(who, i % 3 == 0).replace("GOLD", q["gold"]), prompt_tokens=10, completion_tokens=5)
                                          for who in ("slm", "llm") for i, q in enumerate(LONG)])
    return lambda **how: calibrate(tmp_path/"long.jsonl", "slm", "llm", tmp_path/"policy.json", records=tmp_path/"said.jsonl", **how)

def test_a_gate_is_learnt_from_a_third_and_shown_on_the_others(gated, tmp_path):
    plain, found = gated(target_drop=.05, delta=.1, score="stated"), gated(target_drop=.05, delta=.1, score="stated", gate=True)
    learnt = sum(p.teaches(q["question"]) for q in LONG)
    assert 200 < learnt < 400 and found.calibration["questions"] == 900 - learnt and plain.calibration["questions"] == 900
    gate = p.Gate(**json.loads((tmp_path/"policy.json").read_text())["gate"])       # numbers, and nothing else
    assert [gate(q["question"]) for q in LONG] == [i % 3 == 0 for i in range(900)]
    assert found.expected["accuracy"][0] == plain.expected["accuracy"][0] == 1 and found.expected["saved"][0] > plain.expected["saved"][0] + .05
    assert sum(found.calibration["histogram"]) == sum(not gate(q["question"]) for q in LONG if not p.teaches(q["question"]))     # of those that are asked
    assert "sent past the small model" in str(found) and read_policy(tmp_path/"policy.json") == found

@pytest.mark.parametrize("how, says", [(dict(budget=.2), "a budget counts what is deferred"), (dict(target_drop=.01, delta=.05), "questions cannot show a loss")])
def test_a_gate_where_it_cannot_be(how, says, gated):
    with pytest.raises(CoreaError, match=says): gated(gate=True, **how) if "budget" in how else gated(gate=True, **how | dict(target_drop=.004))

def test_a_gate_that_would_spare_nothing_is_left_out(gated):
    assert gated(target_drop=.05, gate=True, price=p.TokenPrice(0, 0, 1, 4)).gate == {}     # the small model is free

# ---- what is promised

def test_a_promise_over_three_scores_holds_as_often_as_it_says(monkeypatch):
    "Each draw chooses score and threshold anew; what it loses is known, for the draws are from a world that is."
    monkeypatch.setattr(p, "would_do", lambda *a: None)     # which takes its time
    rng, n, rule = np.random.default_rng(0), 20_000, Rule(.08, .2)
    hard = rng.random(n)
    world = Table({s: np.clip(1 - hard + rng.normal(0, .3, n), 0, 1).round(2) for s in p.SCORES}, dict(slm=(rng.random(n) > hard).astype(float), llm=(rng.random(n) < .9).astype(float)),
                  dict(slm=np.ones(n), llm=np.full(n, 5.)))
    lost = []
    for k in range(60):
        at = np.random.default_rng(k).integers(0, n, 400)
        some = Table(*({key: x[at] for key, x in part.items()} for part in (world.scores, world.correct, world.cost)))
        try: score, tau = p.chosen_score(rule, some, p.SCORES)
        except CoreaError: continue
        lost.append(world.correct["llm"].mean() - world.at(score, tau)["pass1"])
    assert len(lost) > 30 and np.mean(np.array(lost) > .08) <= .2

@pytest.mark.parametrize("model", ["base", "l1-s4"])
def test_the_promise_is_kept_on_a_recorded_pair_over_1000_resamplings(model, laptop):
    "benchmarks/promise.py does the same at length, on all pairs."
    t, rule, n = p.of_run(laptop, model, "llm", p.Price()), Rule(.04, .2), 600
    loss, deferred, score, tau = promise.rehearsed(t, rule, p.SCORES, n)
    assert (loss > rule.target_drop).mean() <= rule.delta and (deferred < 1).mean() > (.5 if model == "l1-s4" else -1)
    ids, rows = np.unique(t.ids, return_inverse=True)
    w = np.random.default_rng(0).multinomial(n, np.full(len(ids), 1 / len(ids)), size=1000)
    for k in range(3):      # the same choices as `calibrate` makes
        drawn = [np.flatnonzero(rows == q) for q in np.repeat(np.arange(len(ids)), w[k])]
        some = p.replace(t.part(np.concatenate(drawn)), ids=np.repeat(np.arange(n), [len(d) for d in drawn]).astype(str))
        try: found = p.chosen_score(rule, some, p.SCORES)
        except CoreaError: found = (None, TOP)
        assert found[1] == tau[k] and found[0] in (None, score[k])

@pytest.mark.parametrize("how, says", [(dict(budget=.2, worth=3), "two rules"), (dict(target_drop=0, delta=.1), "target_drop is 0"), (dict(delta=1), "delta is 1"),
                                       (dict(budget=.2, delta=.1), "a budget promises nothing"), (dict(target_drop=2), "target_drop is 2"), (dict(score="x"), "unknown score 'x'")])
def test_rules_that_make_no_sense(how, says, questions):
    with pytest.raises(CoreaError, match=says): calibrate(questions, "slm", "llm", **how)

# ---- the file

@pytest.mark.parametrize("change", [("tau", .1), ("score", "expected"), ("name", "x\r\ny"), ("models", {}), ("policy", 2), ("digest", "0" * 16)])
def test_what_was_changed_is_refused(change, policy, tmp_path, capsys):
    assert read_policy(tmp_path/"policy.json") == policy
    about = json.loads((tmp_path/"policy.json").read_text()) | dict([change])
    (tmp_path/"policy.json").write_text(json.dumps(about))
    assert main(["serve", str(tmp_path/"policy.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1

@pytest.mark.parametrize("change", [("tau", 7.), ("tau", "x"), ("score", "x"), ("name", "x\r\ny"), ("models", {}), ("price", {}), ("expected", {}), ("calibration", dict(histogram=[1])),
                                    ("sampling", dict(slm=dict(no=1))), ("seed", None), ("engine", "x"), ("gate", dict(cut=1.)),
                                    ("models", dict.fromkeys(("slm", "llm"), dict(at=5, model=None, digest=""))), ("calibration", dict(histogram=[1, 2, 3, 0], edges=[.5, .2]))])
def test_what_makes_no_sense_is_refused_even_with_a_digest_that_fits(change, policy, tmp_path):
    about = {k: v for k, v in policy.about.items() if k != "digest"} | dict([change])
    (tmp_path/"policy.json").write_text(json.dumps(about | dict(digest=digest(about))))
    with pytest.raises(CoreaError, match="calibrate again") as e: read_policy(tmp_path/"policy.json")
    assert "\n" not in str(e.value)

@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, "[]", "null", "{}", " " * (1 << 23)])
def test_what_is_no_policy_is_refused(text, tmp_path):
    (tmp_path/"p.json").write_text(text)
    with pytest.raises(CoreaError): read_policy(tmp_path/"p.json")

def test_another_model_or_prompt_is_refused(policy, monkeypatch):
    with pytest.raises(CoreaError, match="is not the slm that policy"): policy.cascade(slm=str(MODELS/"llm"))
    monkeypatch.setattr(p, "messages", lambda q: [dict(role="user", content=q)])
    with pytest.raises(CoreaError, match="another prompt"): policy.cascade()

# ---- the ledger

def line(policy, score, **more): return dict(policy=policy.digest, who="slm", deferred=False, failed=False, score=score, cost=1., tokens=dict(slm=[1, 1])) | more

@pytest.mark.parametrize("scores, status", [([.9, .2] * 100, 0), ([.2] * 200, 3), ([.2] * 20, 0), ([None] * 200, 3)])
def test_a_report_alarms_when_scores_have_moved(scores, status, policy, tmp_path, capsys):
    write_records(tmp_path/"ledger.jsonl", [policy.head, *(line(policy, s) for s in scores)])
    assert main(["report", str(tmp_path/"ledger.jsonl")]) == status
    assert ("ALARM" in capsys.readouterr().out) == (status == 3)

def test_what_was_saved_is_counted_against_the_large_model_alone(policy, tmp_path):
    price = policy.expected["llm"]["cost"]
    write_records(tmp_path/"ledger.jsonl", [policy.head, *[line(policy, .9, cost=price / 4)] * 3, line(policy, .2, cost=price, deferred=True, who="llm"), line(policy, .9, cost=None),
                                            line(policy, .9, who=None, cost=price / 2), line(policy, .9) | dict(policy="another")])
    r = ledger_report(tmp_path/"ledger.jsonl")
    assert (r.requests, r.answered, r.untold) == (6, 5, 1) and r.llm_share == pytest.approx(.2) and r.saved == pytest.approx(1 - 2.25 / 4)     # whoever got no answer was paid for, too
    with pytest.raises(CoreaError, match="no ledger"): ledger_report(tmp_path/"none.jsonl")
    write_records(tmp_path/"ledger.jsonl", [dict(who="slm")])
    with pytest.raises(CoreaError, match="names no policy"): ledger_report(tmp_path/"ledger.jsonl")
    with pytest.raises(CoreaError, match="makes no sense"): ledger_report(tmp_path/"ledger.jsonl", tmp_path/"policy.json")

def test_a_folder_of_corea_train_names_the_model_in_it(tmp_path):
    from corea.extra.policy import files_digest, place_of
    (tmp_path/"mine"/"model").mkdir(parents=True)
    assert place_of(str(tmp_path/"mine")) == str(tmp_path/"mine")
    for p in (MODELS/"slm").iterdir(): (tmp_path/"mine"/"model"/p.name).write_bytes(p.read_bytes())
    assert place_of("mine", tmp_path) == str(tmp_path/"mine"/"model") and files_digest(place_of("mine", tmp_path)) == files_digest(MODELS/"slm")
