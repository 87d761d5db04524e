"""Recorded answers: what a broken file is told, which rows may be paired, and, where the records are at hand (COREA_DATA), every figure that
others published from them (tests/published.csv).

The small files are made up, in the form in which the authors publish; real ones are never committed.
"""
import gzip, hashlib, io, json, math, os, urllib.error, urllib.request
from functools import lru_cache
from pathlib import Path
import numpy as np, pandas as pd
import pytest
from hypothesis import given, strategies as st
from corea.extra import pairs, recorded as rec
from corea import published as files
from corea.core import FIGURES, CoreaError
from corea.metrics import auroc, bootstrap_weights, brier, ece, interval

def write(folder, name, text):
    path = folder/name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path

def refused(says, read, *args, **kw):
    with pytest.raises(CoreaError, match=says) as e: read(*args, **kw)
    assert "\n" not in str(e.value) and len(str(e.value)) < 400

# --- a table of one's own --------------------------------------------------------------------------------------------

HEAD = "question_id,model,correct,confidence,price\n"
GOOD = dict(question_id="q", model="m", correct=True, confidence=.5)

@pytest.mark.parametrize("text, says", [
    (HEAD + "q,m,1,0.5,1\nq2,m,1,0.", r"mine.csv, line 3: not the 5 fields"),
    (HEAD + "q,m,1,0.5,1,7\n", "line 2: not the 5 fields"),
    (HEAD + '"q,m,1,0.5,1\n', "line . ?.*cannot be read"),
    (HEAD + "q,m,yes,0.5,1\n", "line 2: correct is 'yes'"),
    (HEAD + "q,m,,0.5,1\n", "line 2: correct is ''"),
    (HEAD + "q,m,0.5,0.5,1\n", "line 2: correct is '0.5'"),
    (HEAD + "q,m,1,nan,1\n", "line 2: confidence is 'nan'"),
    (HEAD + "q,m,1,95,1\n", "line 2: confidence is '95': give a number from 0 to 1"),
    (HEAD + "q,m,1,-0.1,1\n", "line 2: confidence is '-0.1'"),
    (HEAD + "q,m,1,sure,1\n", "line 2: confidence is 'sure'"),
    (HEAD + "q,m,1,0.5,1e999\n", "line 2: price is '1e999'"),
    (HEAD + "q,m,1,0.5,1\n\nq,m,0,0.5,1\n", "line 4: m answers question 'q' again, first in .*line 2"),
    (HEAD + ",m,1,0.5,1\n", "line 2: question_id is empty"),
    ("question_id,model,correct\nq,m,1\n", "line 2: no 'confidence'"),
    (HEAD, "mine.csv holds no answers"),
    ("", "mine.csv holds no answers"),
    (HEAD.encode() + b"q\xff,m,1,0.5,1\n", "cannot be read"),
])
def test_a_broken_table_is_refused_by_line(tmp_path, text, says): refused(says, rec.read_tidy, write(tmp_path, "mine.csv", text))

@pytest.mark.parametrize("line, says", [
    (json.dumps(GOOD)[:-9], "mine.jsonl, line 2: not JSON"),
    (json.dumps(GOOD | dict(confidence=math.nan, question_id="r")), "line 2: confidence is 'nan'"),
    (json.dumps(GOOD | dict(confidence=10**400, question_id="r")), "line 2: confidence is '1000"),
    (json.dumps(GOOD | dict(confidence=True, question_id="r")), "line 2: confidence is 'True'"),
    ('{"question_id": "r", "model": "m", "correct": 1, "confidence": ' + "1" * 5000 + "}", "line 2: not JSON .a number too long"),
    (json.dumps(GOOD | dict(confidence=[.5], question_id="r")), "line 2: confidence is"),
    (json.dumps(GOOD | dict(question_id=None)), "line 2: question_id is empty"),
    (json.dumps([1, 2]), "line 2: not an object"),
    ("[" * 100_000, "line 2: JSON nested too deep"),
])
def test_a_broken_line_of_json_is_refused(tmp_path, line, says):
    refused(says, rec.read_tidy, write(tmp_path, "mine.jsonl", json.dumps(GOOD) + "\n" + line + "\n"))

def test_what_is_missing_may_be_missing_and_ids_stay_text(tmp_path):
    f = rec.read_tidy(write(tmp_path, "mine.csv", "\ufeffmodel,question_id,confidence,correct\nm,007,,TRUE\nm,7,1,0\nm,12345678901234567890,1.0000001,false\n"))
    assert f.question_id.tolist() == ["007", "7", "12345678901234567890"] and f.correct.tolist() == [1, 0, 0]
    assert math.isnan(f.confidence[0]) and f.confidence[2] == 1 and f.price.isna().all() and (f.dataset == "").all()
    same = rec.read_tidy(write(tmp_path, "mine.jsonl", "".join(json.dumps(r) + "\n" for r in (
        dict(model="m", question_id="007", confidence=None, correct=True), dict(model="m", question_id=7, confidence=1, correct=0),
        dict(model="m", question_id=12345678901234567890, confidence=1.0, correct=False)))))
    pd.testing.assert_frame_equal(f, same)
    refused("no such file", rec.read_tidy, tmp_path/"none.csv")
    refused("no such file", rec.read_tidy, tmp_path/"none.jsonl")

# --- lm-evaluation-harness -------------------------------------------------------------------------------------------

def sample(k, logs, acc, **more):
    return dict(doc_id=k, target="0", resps=[[[str(x), "False"]] for x in logs], filtered_resps=[[str(x), "False"] for x in logs], acc=acc) | more

def samples(folder, *rows, name="samples_mmlu_law_2024-05-01T01-02-03.456.jsonl"):
    return write(folder, name, "".join(json.dumps(r) + "\n" for r in rows))

def test_harness_confidence_is_the_softmax_over_options(tmp_path):
    logs = [-1000.5, -1001.0, -1003.25]
    f = rec.read_harness(samples(tmp_path, sample(0, logs, 1.0), sample(1, logs[::-1], 0, doc_hash="ab" * 32)), "small")
    e = np.exp(np.array(logs) - logs[0])
    np.testing.assert_allclose(f.confidence, (e / e.sum()).max(), rtol=1e-12)
    assert f.dataset.tolist() == ["mmlu_law"] * 2 and f.question_id.tolist() == ["0", "1-abababababab"] and f.correct.tolist() == [1, 0]
    slim = [{k: v for k, v in sample(0, logs, 1.0).items() if k != "resps"}]
    assert rec.read_harness(samples(tmp_path, *slim), "small").confidence[0] == f.confidence[0]
    assert rec.read_harness(samples(tmp_path, *slim)).model[0] == tmp_path.name

def test_harness_gives_no_confidence_that_belongs_to_another_choice(tmp_path):
    both = samples(tmp_path, sample(0, [-1, -2], 1.0, acc_norm=0.0))
    assert rec.read_harness(both, "m").confidence.notna().all()
    other = rec.read_harness(both, "m", metric="acc_norm")
    assert other.correct[0] == 0 and other.confidence.isna().all()
    assert rec.read_harness(samples(tmp_path, sample(0, [-1, -2], 1.0, acc_mutual_info=1.0)), "m").confidence.isna().all()
    assert rec.read_harness(samples(tmp_path, sample(0, [-1], 1.0)), "m").confidence.isna().all() # a single continuation
    text = dict(doc_id=0, resps=[["18", "19"]], exact_match=1.0)
    assert rec.read_harness(samples(tmp_path, text), "m").confidence.isna().all()

@pytest.mark.parametrize("row, says", [
    (sample(1, [-1, math.nan], 1), "line 2: loglikelihoods"), (sample(1, [-1, .5], 1), "line 2: loglikelihoods"),
    (sample(1, [-math.inf, -math.inf], 1), "line 2: loglikelihoods"), (sample(1, ["much", "more"], 1), "line 2: loglikelihoods"),
    (sample(0, [-1, -2], 1), "line 2: m answers question '0' again"), (sample(1, [-1, -2], .5), "line 2: correct is '0.5'"),
    (dict(doc_id=1, resps=[["a"]], bleu=.2), "line 2: no metric 'acc': name one of"), (dict(question=1), "line 2: no doc_id and resps"), ([], "line 2: no doc_id"),
])
def test_a_broken_log_is_refused_by_line(tmp_path, row, says): refused(says, rec.read_harness, samples(tmp_path, sample(0, [-1, -2], 1), row), "m")

def test_files_as_others_leave_them(tmp_path):
    "Compressed, with the mark of Windows, with a field of 200,000 characters."
    head, row = "question_id,model,correct,confidence,text\n", b'{"question_id":1,"model":"a","correct":1,"confidence":0.5}\n'
    for name, content in (("a.jsonl.gz", gzip.compress(row)), ("a.jsonl", b"\xef\xbb\xbf" + row), ("a.csv", (head + "1,a,1,.5," + "x" * 200_000 + "\n").encode()),
                          ("a.csv.gz", gzip.compress((head + "1,a,1,.5,\n").encode()))):
        (tmp_path/name).write_bytes(content)
        assert rec.read_tidy(tmp_path/name).confidence.tolist() == [.5], name
    for name, content in (("torn.jsonl.gz", gzip.compress(row)[:-9]), ("none.csv.gz", b"plain")):
        (tmp_path/name).write_bytes(content)
        refused("cannot be unpacked", rec.read_tidy, tmp_path/name)

@pytest.mark.parametrize("said", ["0_1", "０.５"])
def test_what_python_alone_reads_as_a_number_is_none(tmp_path, said):
    (tmp_path/"a.csv").write_text("question_id,model,correct,confidence\n1,a,1," + said + "\n", encoding="utf-8")
    refused("line 2: confidence is", rec.read_tidy, tmp_path/"a.csv")

def test_harness_filters_are_not_mixed(tmp_path):
    rows = [dict(doc_id=k, resps=[["x"]], filter=f, exact_match=float(f == "flexible")) for k in (0, 1) for f in ("strict", "flexible")]
    path = samples(tmp_path, *rows)
    assert [rec.read_harness(path, "m", filter=f).correct.tolist() for f in ("strict", "flexible")] == [[0, 0], [1, 1]]
    refused("line 2: answers by several filters, strict and flexible: give filter=", rec.read_harness, path, "m")
    refused("filter loose.* holds no answers", rec.read_harness, path, "m", filter="loose")

# --- as their authors publish them -----------------------------------------------------------------------------------

def plaut_file(folder, lines, start=0, stop=2, head="grade confidence_level", model="Tiny-1b", prompt="first"):
    return write(folder, f"arc_{model}-q{start}to{stop}_no_abst_norm_logits_{prompt}_prompt.txt", head + "\n" + "\n".join(lines))

@pytest.mark.parametrize("lines, says", [
    (["Correct 0.9", "Wrong 0."[:-3]], "line 3: 'Wrong' is not one of"), (["Correct 0.9", "Right 0.5"], "line 3: 'Right 0.5' is not"),
    (["Correct 0.9"], "has 1 answers, not the 2"), (["Correct 0.9"] * 3, "has 3 answers, not the 2"), (["Correct 0.9", "Wrong nan"], "line 3: confidence is 'nan'"),
    (["Correct 0.9", "Wrong 1e300"], "line 3: confidence is '1e300'"), (["Correct 0.9", "", "Wrong 0.5"], "line 3: '' is not"), (["Correct 0.9", "Wrong 0.5 0.5"], "line 3:"),
    (["Correct 0.9", "Wrong \ud83d".encode("utf-8", "ignore").decode()], "line 3:"),
])
def test_a_broken_file_of_plaut_is_refused_by_line(tmp_path, lines, says): refused(says, rec.read_plaut, [plaut_file(tmp_path, lines)])

def test_files_of_plaut_are_put_in_order_and_must_be_whole(tmp_path):
    parts = [plaut_file(tmp_path, ["Wrong 0.25"] * (b - a), a, b) for a, b in ((1000, 1003), (500, 1000))]
    parts.append(plaut_file(tmp_path, ["Correct 1.0"] * 500, 0, 500))
    f = rec.read_plaut(parts)
    assert len(f) == 1003 and f.correct[:500].all() and not f.correct[500:].any() and f.model.unique().tolist() == ["Tiny-1b"] and f.question_id.isna().all()
    refused("begins at question 1000: the file from 500 is missing", rec.read_plaut, [parts[0], parts[2]])
    refused("several models, sets or prompts", rec.read_plaut, [*parts, plaut_file(tmp_path, ["Wrong 0.1"], 1003, 1004, prompt="second")])
    refused("is not named", rec.read_plaut, [tmp_path/"arc.txt"])
    refused("line 1: the head", rec.read_plaut, [plaut_file(tmp_path, ["Wrong 0.1"], 0, 1, head="confidence grade")])
    refused("holds no answers", rec.read_plaut, [])

def test_broken_solutions_and_prices_are_refused_by_line(tmp_path):
    one = {m: dict(is_correct=True, solution="2\nA: 2") for m in rec.SOLVERS}
    path = lambda *rows: write(tmp_path, "solutions.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    assert len(rec.read_solutions(path(one, one))) == 8
    refused("line 2: no is_correct and solution of 175b_verification", rec.read_solutions, path(one, {k: one[k] for k in rec.SOLVERS[:3]}))
    refused("line 2: correct is 'maybe'", rec.read_solutions, path(one, one | {rec.SOLVERS[0]: dict(is_correct="maybe", solution="")}))
    head = "sample_id,eval_name,mini,mini|total_cost,oracle_model_to_route_to\n"
    table = lambda text, head=head: write(tmp_path, "reference.csv", head + text)
    assert rec.read_routerbench(table("a,mmlu,0.75,0.1,mini\n")).correct.tolist() == [1]
    for text, says in (("a,mmlu,1.0,,mini\n", "line 2: no score or price of mini"), ("a,mmlu,1.5,0.1,mini\n", "line 2: mini is '1.5'"),
                       ("a,mmlu,1,inf,mini\n", "line 2: the price of mini is 'inf'"), ("a,mmlu,1,1,mini\na,mmlu,1,1,mini\n", "line 3: mini answers question 'a' again"),
                       ("a,mmlu,1\n", "line 2: not the 5 fields")): refused(says, rec.read_routerbench, table(text))
    refused("line 2: not the columns", rec.read_routerbench, table("a,mmlu\n", "sample_id,eval_name\n"))

# --- where they come from --------------------------------------------------------------------------------------------

@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    "A set with nothing at hand, and a network that serves `served`."
    served, asked = {}, []
    def urlopen(url, timeout):
        asked.append(url)
        if url not in served: raise urllib.error.URLError("no network")
        return io.BytesIO(served[url])
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(files, "ARTIFACTS", tmp_path/"artifacts")
    monkeypatch.setenv("COREA_DATA", str(tmp_path/"data"))
    s = rec.RecordSet("toys", "someone/toys", "c" * 40, "in/", "inside", "MIT")
    return s, served, asked, tmp_path

def test_records_come_from_the_nearest_place(nowhere):
    s, served, asked, tmp = nowhere
    sha = [hashlib.sha256(b"onetwo").hexdigest()]
    get = lambda: [p.read_bytes() for p in rec.copies(s, ["1.txt", "2.txt"], sha)]
    refused("no records of toys at hand .URLError.: set COREA_DATA to a folder with records/toys, or run with a network", get)
    served |= {f"https://raw.githubusercontent.com/someone/toys/{s.commit}/in/{k}.txt": v for k, v in ((1, b"one"), (2, b"other"))}
    refused("toys from someone/toys: not the bytes of the pinned commit", get)
    served[next(u for u in served if u.endswith("2.txt"))] = b"two"
    assert get() == [b"one", b"two"]    # what was wrong has not been kept
    served.clear()
    assert get() == [b"one", b"two"]    # but what was right has
    place = tmp/"data"/"records"/"toys"/"inside"
    place.mkdir(parents=True)
    write(place, "1.txt", "one")
    n = len(asked)
    assert get() == [b"one", b"two"] and len(asked) == n    # an unfinished copy is no copy
    write(place, "2.txt", "tow")
    refused("1.txt or one of 1 with it: not the bytes", get)
    refused("no records of arc Llama9 first: sets arc", rec.plaut, "arc", "Llama9")

# --- pairs -----------------------------------------------------------------------------------------------------------

def answers(model, correct, ids=None, dataset="toy", price=1.0, confidence=None):
    n = len(correct)
    return pd.DataFrame(dict(dataset=dataset, question_id=[None] * n if ids is None else ids, model=model, correct=correct,
                             confidence=np.linspace(0, 1, n) if confidence is None else confidence, tokens=np.nan, price=price))

RNG = np.random.default_rng(0)
HARD = RNG.random(300)
EASY, HIGH = ((RNG.random(300) < (1 - HARD)**k).astype(int) for k in (1, .3))
IDS = [f"q{i}" for i in range(300)]

def test_shared_ids_pair_whatever_the_order():
    small, large = answers("s", EASY, IDS), answers("l", HIGH, IDS, price=HARD)
    straight = rec.cascade_of(small, large)
    shuffled = rec.cascade_of(small, large.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(straight, shuffled)
    assert straight.llm_correct.tolist() == HIGH.tolist() and straight.llm_cost.tolist() == HARD.tolist()
    assert rec.cascade_of(small, large[:200], drop_unpaired=True).question_id.tolist() == IDS[:200]

def test_answers_without_a_partner_are_left_out_only_by_consent():
    small, large = answers("s", EASY, IDS), answers("l", HIGH, IDS, price=HARD)
    refused("100 and 0 of 300 and 200 answers have no partner, such as .*q200", rec.cascade_of, small, large[:200])
    two = pd.concat([small.assign(dataset="a"), small.assign(dataset="b")])
    refused("300 and 0 of 600 and 300 answers have no partner, such as 'b q0'", rec.cascade_of, two, large.assign(dataset="a"))

def test_sets_of_other_names_are_named():
    small, large = answers("s", EASY, IDS), answers("l", HIGH, IDS, price=HARD)
    refused("share 300 question ids, but their sets are called 'GSM8K' and 'gsm8k'", rec.cascade_of, small.assign(dataset="GSM8K"), large.assign(dataset="gsm8k"))

@pytest.mark.parametrize("price", [(1,), (1, -10), (1, float("nan")), (1, float("inf")), ("a", "b")])
def test_a_price_is_two_numbers(price):
    refused("give .slm, llm., two numbers from 0 up", rec.cascade_of, answers("s", EASY, IDS), answers("l", HIGH, IDS), "confidence", price)

def test_rows_that_do_not_belong_together_are_refused():
    small, large = answers("s", EASY), answers("l", HIGH)
    assert (rec.cascade_of(small, large).llm_correct == HIGH).all()
    strange = large.sample(frac=1, random_state=1)
    refused("s and l share no question ids, and their correctness is uncorrelated .* over 300 rows.*by_place=True", rec.cascade_of, small, strange)
    forced = rec.cascade_of(small, strange, by_place=True)
    assert forced.llm_correct.tolist() == strange.correct.tolist() and forced.question_id.is_unique
    refused("uncorrelated", rec.cascade_of, small, answers("l", np.ones(300, int)))     # always right: nothing speaks for any order
    assert len(rec.cascade_of(small, answers("l", 1 - EASY))) == 300    # opposed habits are a relation too
    refused("300 and 299 rows", rec.cascade_of, small, large[1:])
    refused("300 and 299 rows", rec.cascade_of, small, large[1:], by_place=True)
    refused("rows of the same sets", rec.cascade_of, small, answers("l", HIGH, dataset="other"))
    refused("uncorrelated", rec.cascade_of, answers("s", EASY, IDS), strange.assign(question_id=[f"r{i}" for i in range(300)]))

def test_what_a_pair_cannot_do_without():
    small, large = answers("s", EASY, IDS), answers("l", HIGH, IDS)
    refused("the small model of cascade_of is 2 models", rec.cascade_of, pd.concat([small, large]), large)
    refused("the large model of cascade_of is 0 models", rec.cascade_of, small, large[:0])
    refused("no 'length'", rec.cascade_of, small, large, "length")
    refused("no 'confidence'", rec.cascade_of, small.assign(confidence=np.nan), large)
    refused("no prices in the records", rec.cascade_of, small.assign(price=np.nan), large)
    assert rec.cascade_of(small.assign(price=np.nan), large, price=(1, 9)).llm_cost.unique().tolist() == [9]
    refused("several answers to 'q0'", rec.cascade_of, small, large.assign(question_id=["q0"] * 300))
    unsure = rec.cascade_of(small.assign(confidence=[np.nan] + [.5] * 299), large)
    assert math.isnan(unsure.score[0])   # an answer without a confidence stays, and defers

def test_chance_is_refused_and_kinship_is_not():
    "Of wrong pairings at most one in a hundred passes; of models that share their hard questions, all."
    z = [rec.related(EASY, RNG.permutation(HIGH))[1] for _ in range(500)]
    assert np.mean(np.array(z) >= 3) < .01 and rec.related(EASY, HIGH)[1] > 3
    assert rec.related([1, 1], [0, 1])[1] == 0 and math.isnan(rec.related([], [])[0])

# --- tables ----------------------------------------------------------------------------------------------------------

def test_judged_and_drawn():
    made = {("s", "l", "toy"): rec.cascade_of(answers("s", EASY, IDS, confidence=1 - HARD), answers("l", HIGH, IDS, price=8.0))}
    f = pairs.judged(made, 50)
    for k in pairs.measures(made["s", "l", "toy"]): assert f[f"{k}.lo"][0] <= f[k][0] <= f[f"{k}.hi"][0]
    assert f["gain_coin.lo"][0] > 0 and f.gain_coin[0] > f.gain_chord[0]    # a chord does not pay twice
    assert "| s → l | toy | 300 |" in pairs.table_pairs(f)
    assert len(pairs.figure_pairs(made, f).axes) == 1 and len(pairs.figure_signals(made).axes) == 2

@given(st.lists(st.tuples(st.one_of(st.integers(0, 10).map(lambda k: k / 10), st.floats(0, 1)), st.integers(0, 1)), min_size=1, max_size=25))
def test_bins_closed_above_are_the_loop_over_them(rows):
    c, y = np.array(rows, float).T
    c = np.round(c, 4)      # what lies within a millionth of an edge is taken to be on it
    index = np.clip(np.ceil(np.round(c * 10, 6)) - 1, 0, 9)
    slow = sum(abs((y - c)[index == b].sum()) for b in range(10)) / len(c)
    found = pairs.eces(c, y)
    assert found["(lo, hi]"] == pytest.approx(slow, abs=1e-9) and found["least"] <= found["[lo, hi)"] <= found["largest"]

# --- what was published ----------------------------------------------------------------------------------------------

PUBLISHED = pd.read_csv(Path(__file__).with_name("published.csv"), dtype={"value": str}, keep_default_na=False).assign(
    number=lambda f: f.value.astype(float), tolerance=lambda f: f.tolerance.astype(float))
RECORDS = Path(os.environ.get("COREA_DATA") or "none")/"records"

def at_hand(name):
    if not (RECORDS/name).is_dir(): pytest.skip(f"no records of {name}: set COREA_DATA to a folder with records/{name}")

@lru_cache(None)
def chat(dataset, model, prompt): return rec.plaut(dataset, model, prompt)

def published(*figures): return PUBLISHED[PUBLISHED.figure.isin(figures)]

def test_the_list_of_published_figures_is_theirs():
    at_hand("plaut")
    for file, columns in (("confidence_intervals", dict(auroc="sample_auroc", ci_lb="ci_lb", ci_ub="ci_ub")), ("mann_whitney", dict(u="u_stat"))):
        f = pd.read_csv(RECORDS/"plaut"/"stat_tests_output"/f"{file}.csv", dtype=str).query("value == 'norm_logits'")
        theirs = {(k, r["dataset"], r["model"], r["prompt"].split("_")[0]): r[c] for _, r in f.iterrows() for k, c in columns.items()}
        ours = published(*columns).set_index(["figure", "dataset", "model", "prompt"]).value.to_dict()
        assert ours == theirs

def test_every_published_auroc_to_the_last_digit():
    at_hand("plaut")
    rows = published("auroc")
    found = [auroc(f.confidence, f.correct) for f in (chat(r.dataset, r.model, r.prompt) for r in rows.itertuples())]
    assert len(rows) == 100
    assert (np.abs(found - rows.number) <= rows.tolerance).all(), rows.assign(found=found)[np.abs(found - rows.number) > rows.tolerance].to_string()

def test_every_published_count_of_pairs():
    "The statistic of Mann and Whitney is AUROC in whole pairs: the Llama-3 and gpt models have only this."
    at_hand("plaut")
    rows = published("u")
    wins = [auroc(f.confidence, f.correct) * f.correct.sum() * (1 - f.correct).sum() for f in (chat(r.dataset, r.model, r.prompt) for r in rows.itertuples())]
    assert len(rows) == 140
    np.testing.assert_array_equal(np.round(np.multiply(wins, 2)) / 2, rows.number)

def test_published_intervals():
    "All in order; ours, from other draws, end where theirs do."
    at_hand("plaut")
    f = published("auroc", "ci_lb", "ci_ub").pivot_table(index=["dataset", "model", "prompt"], columns="figure", values="number")
    assert len(f) == 100 and (f.ci_lb <= f.auroc).all() and (f.auroc <= f.ci_ub).all()
    tolerance = published("ci_lb").tolerance.iloc[0]
    for (d, m, p), r in f.loc[["truthfulqa"]].iterrows():   # the smallest set, so the widest
        c = chat(d, m, p)
        ends = interval(r.auroc, auroc(c.confidence, c.correct, bootstrap_weights(np.arange(len(c)), 400)))
        np.testing.assert_allclose(ends, [r.ci_lb, r.ci_ub], atol=tolerance, err_msg=f"{d} {m} {p}")

def test_every_published_figure_of_trained_confidences_to_the_last_digit():
    "Accuracy, Brier score, ECE and AUROC of five signals on each set whose rows can be had."
    at_hand("rlcr")
    found = {}
    for d in ("math-500", "commonsenseqa", "gpqa"):
        rows = published(*(f"rlcr_{k}" for k in ("accuracy", "brier_score", "ece", "auroc"))).query("dataset == @d")
        theirs = json.loads((RECORDS/"rlcr"/d/"metrics.json").read_text())
        assert {(r.figure, r.model): r.number for r in rows.itertuples()} == {
            (f"rlcr_{k}", m): theirs[m][k] for m in theirs for k in ("accuracy", "brier_score", "ece", "auroc")}
        try: f = rec.rlcr(d)
        except CoreaError: continue     # GPQA's rows stay where they are published
        for m, x in f.groupby("model"):
            found |= {(d, m, "rlcr_accuracy"): x.correct.mean(), (d, m, "rlcr_auroc"): auroc(x.confidence, x.correct),
                      (d, m, "rlcr_ece"): ece(x.confidence, x.correct), (d, m, "rlcr_brier_score"): brier(x.confidence, x.correct)}
    wanted = published("rlcr_accuracy", "rlcr_brier_score", "rlcr_ece", "rlcr_auroc").set_index(["dataset", "model", "figure"])
    assert len(found) >= 40
    for key, x in found.items(): assert abs(x - wanted.number[key]) <= wanted.tolerance[key], key

def test_what_the_first_page_says_of_trained_confidences_comes_from_the_records():
    at_hand("rlcr")
    kept = pd.read_csv(FIGURES/"trained"/"ranking.csv").set_index(["set", "against"]).value
    for (d, m), x in kept.items():
        f = {k: g for k, g in rec.rlcr(d).groupby("model")}
        assert abs(auroc(f["RLCR"].confidence, f["RLCR"].correct) - auroc(f[m].confidence, f[m].correct) - x) < 1e-6

def test_published_accuracies_of_the_solvers():
    at_hand("gsm8k_solutions")
    f, rows = rec.gsm8k_solutions(), published("accuracy")
    assert len(f) == 4 * 1319
    found = 100 * f.groupby("model").correct.mean()[rows.model].to_numpy()
    assert (np.abs(found - rows.number) <= rows.tolerance).all()

def test_published_oracle_of_routerbench():
    at_hand("routerbench365")
    f = rec.routerbench365()
    best = f.sort_values(["score", "price"], ascending=[False, True]).groupby("question_id").first()
    assert len(best) == 365 and (best.model.where(best.score > 0, "no_model_correct") == best.oracle).all()

def test_the_two_traps_are_in_the_records(monkeypatch):
    at_hand("plaut"), at_hand("gsm8k_solutions")
    refused("uncorrelated", rec.cascade_of, chat("mmlu", "Llama3-8b", "first"), chat("mmlu", "gpt-4-turbo", "first"), price=(1, 10))
    monkeypatch.setattr(pairs, "plaut", chat)
    assert len(pairs.chat_pairs("second")) == 20    # all pairs that are drawn may be paired
    f = pairs.judged(pairs.solver_pairs(), 400).set_index("on")
    assert f.auroc["brevity"] == pytest.approx(.63, abs=.005) and f["gain_coin.lo"]["brevity"] < 0 < f["gain_coin.hi"]["brevity"]
    assert f["gain_chord"]["brevity"] < 0 < f["gain_chord.lo"]["agreement"]

# --- what is committed -----------------------------------------------------------------------------------------------

def committed(name): return (FIGURES/"pairs"/name).read_text()

def same_table(text, name):
    "To the last digit but one of the CSV: another machine may round the last one otherwise."
    pd.testing.assert_frame_equal(*(pd.read_csv(io.StringIO(t)) for t in (text, committed(name))), rtol=0, atol=2e-6)

def test_committed_pairs_are_what_the_records_give():
    at_hand("plaut"), at_hand("gsm8k_solutions"), at_hand("routerbench365")
    found = pairs.judged(pairs.chat_pairs() | pairs.solver_pairs())
    texts = pairs.kept_tables(found, pairs.table_models(rec.routerbench365()))
    for name in ("pairs.csv", "models.csv"): same_table(texts[name], name)

def test_committed_tables_belong_together():
    "Markdown says what the CSV says, and every pair has its sources."
    assert committed("sources.csv") == pairs.as_csv(pairs.sources())
    f, m = pd.read_csv(FIGURES/"pairs"/"pairs.csv"), pd.read_csv(FIGURES/"pairs"/"models.csv").set_index("model")
    m["dollars"] = m.pop("dollars_per_1000") / 1000
    assert committed("pairs.md") == pairs.table_pairs(f)
    assert committed("models.md") == pairs.text_models(m)
    named = {tuple(r.split()[:2]) for r in pairs.sources().query("set == 'plaut'").records}
    assert {(r.on, model) for r in f[f.large != "175B"].itertuples() for model in (r.small, r.large)} == named
    assert sorted(p.name for p in (FIGURES/"pairs").iterdir()) == sorted([*pairs.kept_tables(f, m), *(
        f"{k}.{kind}" for k in ("pairs", "signals", "models") for kind in ("svg", "png"))])
