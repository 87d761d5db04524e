"""Grading: the verdicts of `easy` and `same_value`, whatever happens to the workers. What strange answers do in a worker is in grading_jobs.py."""
import csv, multiprocessing, os, signal, subprocess, sys, textwrap, threading, time
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
import grading_jobs
from corea import grading
from corea.answer import easy, same_value
from corea.core import ROOT, CoreaError
from corea.grading import close, grade, grade_all
from test_published import copy_of

with open(Path(__file__).with_name("grading_cases.csv"), newline="") as f: CASES = list(csv.DictReader(f))
SUMS = [(rf"\frac{{{2 * i}}}{{6}}", rf"\frac{{{i + i % 2}}}{{3}}", "math") for i in range(1, 41)]     # every other one is right

@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch): monkeypatch.setattr(grading, "_seen", {})

@pytest.fixture
def strange(monkeypatch):
    "Workers in which some answers are strange; the pool is new, so that it sees the environment of this test."
    close()
    monkeypatch.setattr(grading, "work", grading_jobs.work)
    yield
    close()

@pytest.fixture(scope="module", autouse=True)
def no_worker_is_left():
    yield
    close()
    assert not multiprocessing.active_children()

# verdicts

def read_here(answer, gold, kind="math", evaluated=True):
    "The verdict without processes and without limits."
    told = easy(answer, gold, kind, evaluated)
    return same_value(str(answer).strip(), str(gold).strip()) if told is None else told

def test_the_table():
    told = grade_all([(c["answer"], c["gold"], c["kind"]) for c in CASES])
    differ = [(c["answer"], c["gold"], v) for c, v in zip(CASES, told) if v is not bool(int(c["verdict"]))]
    assert not differ and {c["source"] for c in CASES} >= {"math500", "gsm8k", "olympiadbench", "gpqa", "commonsenseqa", "math-verify", "hostile"}

PARTS = st.sampled_from(["8", "1", "0.5", ",", " ", "x", "=", "+", "/", "^", "{", "}", "(", ")", "[", "]", r"\frac", r"\sqrt", r"\pi", r"\text", "%", "C",
                         r"\{", r"\}", r"\cup", "A) "])
texts = st.one_of(st.none(), st.lists(PARTS, max_size=8).map("".join), st.fractions().map(str), st.text(max_size=6),
                  st.builds(r"\frac{{{}}}{{{}}}".format, st.integers(-9, 9), st.integers(1, 9)))
golds = st.one_of(texts, st.sampled_from(["8", r"\frac{1}{2}", "(1,2)", "C"]))

@settings(max_examples=30)
@given(st.lists(st.tuples(texts, golds, st.sampled_from(["math", "exact"])), max_size=25))
def test_verdicts_are_those_of_mathematics(pairs):
    assert grade_all(pairs) == [read_here(*p) for p in pairs]

def test_arithmetic_left_to_do_is_wrong_in_bulk_too_unless_only_mathematics_is_asked():
    pairs = [("9 + 9", "18", "math"), (r"\frac{120}{5}", "24", "math"), ("9 + 9", "19", "math"), ("18", "18", "math"), ("9 + 9", "18", "exact")]
    assert grade_all(pairs) == [False, False, False, True, False]
    assert grade_all(pairs, evaluated=False) == [grade(*p, evaluated=False) for p in pairs] == [read_here(*p, evaluated=False) for p in pairs] == [True, True, False, True, False]
    assert grade_all(pairs) == [False, False, False, True, False]      # what was remembered is not taken for a verdict

@pytest.mark.parametrize("name", ["math500", "olympiadbench"])
def test_verdicts_on_real_gold_answers_are_those_of_mathematics(name):
    rows = copy_of(name)[::25]
    pairs = [(a, r["gold"], r["kind"]) for r, after in zip(rows, rows[1:] + rows[:1])
             for a in (r["gold"], after["gold"], f"x={r['gold']}", rf"{{{r['gold']}}}", r["gold"].replace("frac", "dfrac"))]
    told = grade_all(pairs)
    assert told == [read_here(*p) for p in pairs] and 0 < sum(told) < len(pairs)

def test_little_things():
    assert grade_all([]) == grade_all(iter([])) == []
    assert grade_all([(None, "8", "math"), ("", "8", "math"), ("8", "", "math"), ("C", None, "exact"), (" 8 ", "8"), (8, 8, "math")]) == [False] * 4 + [True] * 2
    with pytest.raises(CoreaError, match="unknown kind of grading 'maths'"): grade_all([("8", "8", "math"), ("8", "8", "maths")])

# what is not done

def test_no_process_is_started_for_what_needs_no_mathematics():
    close()
    pairs = [(str(i % 7), "3", "math") for i in range(1000)] + [("C) Cleo", "C", "exact"), ("9^{9^9}", "3", "math"), ("x", "x", "math")]
    assert sum(grade_all(pairs)) == 143 + 2 and not grading._pool and not multiprocessing.active_children()

def test_each_pair_is_asked_once_and_the_cache_is_bounded(monkeypatch):
    asked = []
    monkeypatch.setattr(grading, "through_pool", lambda pairs, *_: asked.append(pairs) or dict.fromkeys(pairs, True))
    assert grade_all([("x+1", "1+x", "math"), (" x+1", "1+x ", "math")] * 10) == [True] * 20
    assert grade_all([("x+1", "1+x", "math")]) == [True] and asked == [[("x+1", "1+x")], []]
    monkeypatch.setattr(grading, "MOST", 5)
    assert all(grade_all([(f"x+{i}", f"{i}+x", "math") for i in range(20)])) and len(grading._seen) == 5

def test_the_pool_is_kept():
    grade_all(SUMS[:4])
    workers = {p.pid for p in multiprocessing.active_children()}
    grade_all(SUMS[4:8])
    assert workers and workers == {p.pid for p in multiprocessing.active_children()}

# what happens to workers

def with_sums(*answers): return [*SUMS[:10], *((a, "8", "math") for a in answers), *SUMS[10:]]
RIGHT = [i % 2 == 0 for i in range(1, 41)]
def verdicts(*strange): return RIGHT[:10] + list(strange) + RIGHT[10:]

def test_an_answer_without_end_is_wrong_and_the_rest_goes_on(strange):
    assert grade_all(with_sums("loop", "long step"), workers=2, seconds=2) == verdicts(False, False)

def test_an_answer_that_eats_memory_is_wrong_and_the_rest_goes_on(strange):
    "`eat` meets the wall, `keep` leaves the worker fuller than it may be."
    assert grade_all(with_sums("eat", "keep"), workers=2, memory=0.5) == verdicts(False, False)
    assert grade_all([("eat", "8", "math"), ("keep", "8", "math")], workers=1, memory=4) == [True, True]     # it was the limit

def test_what_a_worker_waits_does_not_count(strange):
    "The clock is the processor's."
    assert grade_all(with_sums("wait"), workers=2, seconds=1) == verdicts(True)

def test_a_crash_is_wrong_and_the_rest_goes_on(strange): assert grade_all(with_sums("crash"), workers=2) == verdicts(False)

def test_a_pair_whose_worker_was_killed_is_asked_again(strange, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADING_FLAG", str(tmp_path/"flag"))
    assert grade_all(with_sums("killed once"), workers=2) == verdicts(True) and (tmp_path/"flag").exists()

def test_workers_killed_from_outside():
    pairs = [(rf"\frac{{{6 * i}}}{{9}}", rf"\frac{{{2 * i + i % 2}}}{{3}}", "math") for i in range(1, 301)]
    over = threading.Event()
    def kill():
        for _ in range(2):      # a third in a row, before a busy machine has started another, would end it
            if over.wait(0.7): return
            for p in multiprocessing.active_children()[:1]: os.kill(p.pid, signal.SIGKILL)
            if over.wait(2): return
    grade_all(SUMS[:2])
    killer = threading.Thread(target=kill)
    killer.start()
    try: assert grade_all(pairs) == [i % 2 == 0 for i in range(1, 301)]
    finally: over.set(), killer.join()
    for p in multiprocessing.active_children(): os.kill(p.pid, signal.SIGKILL)      # all of them, while they wait for work
    assert grade_all(SUMS) == RIGHT

def test_where_no_worker_starts_an_error_says_what_to_do_and_nothing_graded_is_lost(monkeypatch):
    grade_all(SUMS[:2])
    close()
    with monkeypatch.context() as patch:
        patch.setattr(grading, "begin", grading_jobs.refuse)
        with pytest.raises(CoreaError, match="no process for grading") as e: grade_all(SUMS[:4], workers=1)
        assert "\n" not in str(e.value) and not grading._pool
        assert grade_all(SUMS[:2]) == RIGHT[:2]     # remembered
    assert grade_all(SUMS[:4], workers=1) == RIGHT[:4]

# whose children they are

def script(body):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(body)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT/"tests"), os.environ.get("PYTHONPATH", "")])})

def test_no_worker_outlives_a_killed_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADING_PIDS", str(tmp_path))
    parent = script("""
        import grading_jobs
        from corea import grading
        grading.work = grading_jobs.work
        grading.grade_all([("loop", "8", "math"), ("long step", "8", "math")], workers=2, seconds=3)""")
    alive = lambda: [p.name for p in tmp_path.iterdir()
                     if subprocess.run(["ps", "-o", "stat=", "-p", p.name], capture_output=True, text=True).stdout.strip()[:1] not in ("", "Z")]
    deadline = time.monotonic() + 40
    while len(alive()) < 2 and time.monotonic() < deadline: time.sleep(0.1)
    assert len(alive()) == 2
    parent.kill(), parent.wait()
    while alive() and time.monotonic() < deadline: time.sleep(0.2)
    assert not alive()

def test_works_in_a_worker_of_an_executor_which_then_ends():
    "In a process of its own, so that a worker that waits for its children for ever is a failure and not a hang."
    p = script(f"""
        import multiprocessing, grading_jobs
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            told, pools = pool.submit(grading_jobs.grade_and_count, {SUMS[:6]}).result()
        print(told == {RIGHT[:6]}, pools)""")
    try: assert p.communicate(timeout=60)[0].split() == ["True", "1"] and p.returncode == 0
    finally: p.kill()

def test_a_script_is_not_run_again_by_the_workers(tmp_path):
    "Although nothing in it stands under `if __name__ == '__main__'`."
    (tmp_path/"train.py").write_text(f"print('here')\nfrom corea.grading import grade_all\nprint(grade_all({SUMS[:4]}) == {RIGHT[:4]})\n")
    done = subprocess.run([sys.executable, tmp_path/"train.py"], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["here", "True"] and not done.stderr

def test_a_daemonic_process_has_a_pool_too_and_ends():
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.SimpleQueue()
    p = spawn.Process(target=grading_jobs.tell, args=(queue, SUMS[:4]), daemon=True)
    p.start()
    assert queue.get() == (RIGHT[:4], 1, True)
    p.join(20)
    assert p.exitcode == 0
