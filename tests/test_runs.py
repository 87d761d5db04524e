"""Runs of the whole grid: by 10_results as a reader runs it, and by the command, stopped and taken up again.

One unbroken run, through papermill; the rest draws from the records that it left, or must come to the same. `make long` has all of the profile
`smoke` run, `make kills` kills more often.
"""
import io, json, os, random, re, shutil, signal, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
import matplotlib.image
import nbformat
import numpy as np
import pandas as pd
import pytest
from corea.core import ANSWERS, load_profile
from corea.lab import experiments
from corea.lab.grid import chains, work_of
from corea.lab.records import load_records
from corea.lab.report import promised
from corea.lab.tables import number

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT/"nbs"/"10_results.ipynb"
LAPTOP = ROOT/"paper_figures"/"laptop"
PARAMETERS = ("profile", "redraw", "only", "n_boot", "out_dir")
N_BOOT = 50     # enough to prove the plumbing
# of `smoke`, what stopping and going on needs: every kind of chain, two sets, two steps
SMALL = {} if os.environ.get("COREA_LONG") else dict(
    datasets=("calc", "word"), steps=2, snapshots=(1,), updates_per_step=1, save_every=1, n_calibration=12, n_test=12,
    snapshot_questions=6, probe_questions=12, router_questions=8, workers=1)

def small(**more): return load_profile("smoke", **SMALL | more)

def start(folder, *more):
    "The command-line run of `small()` in a process group of its own."
    more = [x for k, v in SMALL.items() for x in ("--set", f"{k}={json.dumps(v)}")] + list(more)
    env = os.environ | {"COREA_ARTIFACTS": str(folder/"artifacts")}
    command = [sys.executable, "-c", "import sys; from corea.lab.command import main; sys.exit(main())", "run", "smoke", "--out", str(folder/"records"), *more]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

def records(folder):
    "Bytes of every record file; run.json holds wall-clock times and is left out."
    return {p.name: p.read_bytes() for p in sorted((folder/"records").glob("*.csv*"))}

def done(folder):
    "Units of work that the chains of a run have counted."
    return sum(int(p.read_text()) for p in folder.glob("artifacts/smoke/*/progress/[!.]*"))

# what 10_results draws, and from where

@pytest.fixture(scope="module")
def small_smoke(tmp_path_factory):
    "Settings of IPython with which a notebook finds `small()` under the name of `smoke`."
    folder = tmp_path_factory.mktemp("ipython")
    (folder/"profile_default"/"startup").mkdir(parents=True)
    (folder/"profile_default"/"startup"/"small.py").write_text(f"from corea.core import PROFILES\nPROFILES['smoke'] |= {SMALL!r}\n")
    return {"IPYTHONDIR": str(folder)}

@pytest.fixture(scope="module")
def papermill(small_smoke):
    "Run 10_results in the folder `cwd`."
    def run(cwd, artifacts, *args, env={}, **parameters):
        given = [x for k, v in parameters.items() for x in ("-p", k, str(v))]
        return subprocess.run([sys.executable, "-m", "papermill", NOTEBOOK, *args, "-k", "python3", "--no-progress-bar", *given],
                              cwd=cwd, env=os.environ | small_smoke | {"COREA_ARTIFACTS": str(artifacts)} | env,
                              capture_output=True, text=True, timeout=1200)
    return run

def succeeded(run): assert run.returncode == 0, run.stderr[-4000:]

def drawn(out):
    "Bytes of every table and figure; the notebook beside them, which names times and machine, is left out."
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*"))
            if p.is_file() and "records" not in p.relative_to(out).parts and p.suffix != ".ipynb"}

def same_picture(a, b):
    "Equal but for a grey level in one pixel of ten thousand: processors round differently when they draw."
    a, b = (matplotlib.image.imread(io.BytesIO(x), format="png") for x in (a, b))
    return a.shape == b.shape and np.abs(a - b).max() < 2.5 / 255 and (a != b).mean() < 1e-4

def same(found, wanted, elsewhere=False):
    "Both hold the same files with the same bytes, PNGs drawn elsewhere the same picture; else name those that differ."
    alike = lambda p: elsewhere and p.endswith(".png") and p in found and p in wanted and same_picture(found[p], wanted[p])
    differ = sorted(p for p in found | wanted if found.get(p) != wanted.get(p) and not alike(p))
    assert not differ, f"missing, new or different: {', '.join(differ)}"

@pytest.fixture(scope="module")
def smoke(tmp_path_factory, papermill):
    "Folder of a full run, started from an empty working directory."
    folder = tmp_path_factory.mktemp("smoke")
    cwd = folder/"anywhere"
    cwd.mkdir()
    succeeded(papermill(cwd, folder/"artifacts", cwd/"out.ipynb", profile="smoke", n_boot=N_BOOT, out_dir=folder/"out"))
    assert [p.name for p in cwd.iterdir()] == ["out.ipynb"], "10_results wrote into the working directory"
    return folder

@pytest.fixture(scope="module")
def unbroken(smoke): return smoke/"out"

@pytest.fixture
def copy(smoke, tmp_path):
    "A folder with the records of that run and nothing else."
    shutil.copytree(smoke/"out"/"records", tmp_path/"out"/"records")
    return tmp_path

def test_full_run_leaves_tables_figures_and_records(smoke):
    files = drawn(smoke/"out")
    for name in ("tables/scoreboard.csv", "tables/metrics.csv"): assert name in files
    for pattern in (r"tables/table_\d+\.csv", r"tables/table_\d+\.md", r"figures/figure_\d+.*\.svg", r"figures/figure_\d+.*\.png"):
        assert any(re.fullmatch(pattern, f) for f in files), f"no {pattern} among {', '.join(files)}"
    assert sorted(p for d in ("tables", "figures") for p in (smoke/"out"/d).iterdir()) == sorted(promised(smoke/"out", [], small()))
    assert (smoke/"out"/"records"/"run.json").exists()
    assert all(files.values()), "empty file"

def shown(path):
    "Markdown and pictures that an executed notebook shows, cell by cell."
    return [["".join(o["data"].get("text/markdown", o["data"].get("image/png", ""))) for o in c.outputs if "data" in o]
            for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]

def test_results_are_a_page_of_twelve_claims_and_a_notebook_with_every_table(smoke):
    "The page shows the rows of the scoreboard that it tells of, and five figures; the tables lie complete beside the files."
    page, tables = shown(smoke/"anywhere"/"out.ipynb"), shown(smoke/"out"/"10a_tables.ipynb")
    told = [text for cell in page for text in cell]
    assert sum(text.startswith("**What it means.**") for text in told) == 12 and sum(len(t) > 5000 and " " not in t for t in told) == 5
    board = pd.read_csv(smoke/"out"/"tables"/"scoreboard.csv").set_index("claim_id")
    assert any(f"| {number(board.ours['ece_l1_in_domain'], 2, True)} [" in text for text in told if text.startswith("| measured"))
    written = {p.read_text(encoding="utf-8") for p in (smoke/"out"/"tables").glob("*.md")}
    assert written <= {text for cell in tables for text in cell}

def test_redrawn_from_the_folder_of_the_notebook_into_a_pipe(smoke, tmp_path, papermill):
    "Another folder's records, in the place that 10_results takes unless told; without an output path, stdout gets a valid notebook."
    place = tmp_path/"root"/"paper_figures"/"smoke"
    shutil.copytree(smoke/"out"/"records", place/"records")
    run = papermill(ROOT/"nbs", tmp_path/"artifacts", env={"COREA_ROOT": str(tmp_path/"root")}, profile="smoke", redraw=True, n_boot=N_BOOT)
    succeeded(run)
    same(drawn(place), drawn(smoke/"out"))
    assert not (tmp_path/"artifacts").exists(), "redraw=True ran something"
    nb = nbformat.reads(run.stdout, as_version=4)
    nbformat.validate(nb)
    injected = [c.source for c in nb.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert len(injected) == 1 and "smoke" in injected[0]
    assert "widgets" not in nb.metadata, "widget state, which GitHub refuses to show"

def test_records_that_are_whole_are_not_made_again(smoke, copy, papermill):
    succeeded(papermill(ROOT, copy/"artifacts", copy/"out.ipynb", profile="smoke", n_boot=N_BOOT, out_dir=copy/"out"))
    same(drawn(copy/"out"), drawn(smoke/"out"))
    assert not (copy/"artifacts").exists(), "the records were there, and a run was started"

def test_only_draws_what_is_named(smoke, copy, papermill):
    first = sorted((smoke/"out"/"tables").glob("table_*.csv"))[0]
    succeeded(papermill(copy, copy/"artifacts", copy/"out.ipynb", "-y", f"only: [{first.stem}]",
                        profile="smoke", redraw=True, n_boot=N_BOOT, out_dir=copy/"out"))
    files = drawn(copy/"out")
    assert files[f"tables/{first.name}"] == first.read_bytes()
    others = [f for f in files if re.search(r"/(table|figure)_", f) and Path(f).stem != first.stem]
    assert not others, f"drawn although not named: {', '.join(others)}"
    assert not (copy/"out"/"10a_tables.ipynb").exists(), "a part in the place of the whole"
    assert [text for cell in shown(copy/"out.ipynb") for text in cell].count("The scoreboard was not asked for.") > 12

def test_an_unknown_id_is_told_in_one_line(copy, papermill):
    run = papermill(copy, copy/"artifacts", copy/"out.ipynb", profile="smoke", redraw=True, n_boot=N_BOOT, only="table_99", out_dir=copy/"out")
    assert run.returncode and re.search(r"^CoreaError: no table or figure 'table_99'", run.stderr, re.M) and not (copy/"out"/"tables").exists()

def test_unknown_profile_is_told_in_one_line(tmp_path, papermill):
    run = papermill(tmp_path, tmp_path/"artifacts", tmp_path/"out.ipynb", profile="nonsense", out_dir=tmp_path/"out")
    assert run.returncode != 0
    assert re.search(r"^CoreaError: .*nonsense", run.stderr, re.M), run.stderr[-2000:]

def test_help_names_every_parameter(tmp_path, papermill):
    run = papermill(tmp_path, tmp_path/"artifacts", "--help-notebook")
    succeeded(run)
    for name in PARAMETERS:
        line = re.search(rf"^\s*{name}\b.*\n?.*", run.stdout, re.M)
        assert line, f"--help-notebook does not name {name}:\n{run.stdout}"

@pytest.mark.skipif(not (LAPTOP/"records").exists(), reason="no committed records in paper_figures/laptop yet")
def test_committed_tables_and_figures_come_out_of_the_committed_records(tmp_path, papermill):
    shutil.copytree(LAPTOP/"records", tmp_path/"out"/"records")
    succeeded(papermill(tmp_path, tmp_path/"artifacts", tmp_path/"out.ipynb", profile="laptop", redraw=True, out_dir=tmp_path/"out"))
    same(drawn(tmp_path/"out"), drawn(LAPTOP), elsewhere=True)

# the records that a run leaves, whatever happens to it

def test_records_of_every_chain(unbroken):
    names = [name for name, *_ in chains(small())]
    for name in names:
        frame = pd.read_csv(unbroken/"records"/f"{name}.csv.gz")
        assert list(frame.columns) == ANSWERS
        assert not frame.duplicated(["split", "dataset", "question_id", "sample"]).any()
    slm, llm = (pd.read_csv(unbroken/"records"/f"{n}.csv.gz").set_index(["split", "dataset", "question_id", "sample"])
                for n in ("l1-s0", "llm"))
    assert slm.index.equals(llm.index), "SLM and LLM rows must pair"
    rlvr = pd.read_csv(unbroken/"records"/"rlvr-s0.csv.gz")
    assert rlvr[["probe", "router", "router_prompt_tokens"]].notna().all().all()
    unstated = rlvr.expected_confidence.isna()      # where an answer states no confidence, and only there
    assert not (unstated & (rlvr.parse_status == "ok")).any()
    assert rlvr.loc[~unstated, ["probe", "router", "expected_confidence", "avg_prob"]].stack().between(0, 1).all()
    assert rlvr[["probe", "router", "avg_prob"]].stack().between(0, 1).all()

def test_killed_at_random_moments(unbroken, tmp_path):
    "Each time somewhere in the first half of what is left to do."
    rng, whole = random.Random(1), work_of(small())
    for _ in range(int(os.environ.get("COREA_KILLS", 1))):
        had = done(tmp_path)
        until, p = had + rng.random() * (whole - had) / 2, start(tmp_path, "--set", "workers=2")
        while done(tmp_path) < until and p.poll() is None: time.sleep(0.05)
        time.sleep(2 * rng.random())
        p.kill()            # the parent alone: its workers must notice by themselves
        p.wait()
    assert start(tmp_path).wait() == 0
    assert records(tmp_path) == records(unbroken)
    assert not list((tmp_path/"records").glob(".*")), "temporary files left behind"

@contextmanager
def cluster(folder, workers=2):
    "A Dask scheduler and its workers, each a process group of its own."
    dask = lambda *a: subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_" + a[0], *a[1:]], start_new_session=True,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = folder/"scheduler.json"
    own = ["--scheduler-file", str(file), "--no-dashboard"]
    some = [dask("scheduler", *own, "--host", "127.0.0.1", "--port", "0")]
    try:
        some += [dask("worker", *own, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)) for _ in range(workers)]
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline: time.sleep(0.1)
        yield str(file), some[1:]
    finally:
        for p in some: os.killpg(p.pid, signal.SIGKILL) if p.poll() is None else None

def test_cluster_of_two_workers_one_killed(unbroken, tmp_path):
    "Its chain goes to the other worker, which goes on from the files of the first."
    whole = work_of(small())
    with cluster(tmp_path) as (address, workers):
        p = start(tmp_path, "--cluster", address)
        while done(tmp_path) < whole / 2 and p.poll() is None: time.sleep(0.05)
        os.kill(workers[0].pid, signal.SIGKILL)
        assert p.wait() == 0
        assert workers[1].poll() is None
    assert done(tmp_path) == whole
    assert records(tmp_path) == records(unbroken)

def test_a_variant_is_run_beside_what_is_reused(unbroken, tmp_path):
    "On another machine, so to speak: of all models, the new one is trained, and one whose records came from other settings."
    there = tmp_path/"there"
    shutil.copytree(unbroken/"records", there)
    told = json.loads((there/"chains.json").read_text())
    assert told.keys() == {name for name, *_ in chains(small())}
    (there/"chains.json").write_text(json.dumps(told | {"base": told["base"] | {"key": "another"}}))
    (there/"base.csv.gz").write_bytes(b"not these")
    variants = {"n4": dict(rollouts=4)}
    assert start(tmp_path, "--set", f"variants={json.dumps(variants)}", "--reuse", str(there)).wait() == 0
    assert {p.name for p in tmp_path.glob("artifacts/smoke/*/answers/*")} == {"base", "l1@n4-s0"}
    made, before = records(tmp_path), records(unbroken)
    assert {k: made[k] for k in before} == before
    r = load_records(tmp_path/"records")
    assert r.cfg.variants == variants and r.variant("n4").cfg.rollouts == 4
    ours, plain = (x.cells["l1-s0", "test", "calc"] for x in (r.variant("n4"), r))
    assert not ours.equals(plain) and ours[["question_id", "sample"]].equals(plain[["question_id", "sample"]])

@pytest.fixture
def gathered_here(unbroken, monkeypatch):
    "A run that finds all its answers needs no process that has imported torch."
    monkeypatch.setattr(experiments, "ARTIFACTS", unbroken.parent/"artifacts")
    monkeypatch.setattr(experiments, "pool", lambda cfg, cluster: ThreadPoolExecutor(1))

def test_run_json_keeps_what_was_settled_and_follows_the_configuration(unbroken, gathered_here, tmp_path):
    "Gathered again with another tolerance: the same time and place, the new configuration."
    first = json.loads((unbroken/"records"/"run.json").read_text())
    again = json.loads((experiments.run(small(max_drop=0.02), tmp_path, progress=False)/"run.json").read_text())
    assert again["config"] == first["config"] | {"max_drop": 0.02}
    assert {k: again[k] for k in again if k != "config"} == {k: first[k] for k in first if k != "config"}

def test_whole_records_stay_until_others_are_whole(unbroken, gathered_here, tmp_path, monkeypatch):
    "Stopped in the middle, a run leaves the records of another as they were; finished, it takes their place."
    shutil.copytree(unbroken/"records", tmp_path/"records")
    before = json.loads((tmp_path/"records"/"run.json").read_text())
    (tmp_path/"records"/"run.json").write_text(json.dumps(before | {"run": "another", "seconds": 1}))
    (tmp_path/"records"/"llm.csv.gz").write_bytes(b"another's")
    theirs = {p.name: p.read_bytes() for p in (tmp_path/"records").iterdir()}
    gather, gathered = experiments.collect, []
    def stopped(cfg, root, name, out):
        if gathered: raise KeyboardInterrupt
        gathered.append(name)
        return gather(cfg, root, name, out)
    monkeypatch.setattr(experiments, "collect", stopped)
    with pytest.raises(KeyboardInterrupt): experiments.run(small(), tmp_path/"records", progress=False)
    assert gathered and {p.name: p.read_bytes() for p in (tmp_path/"records").iterdir()} == theirs
    monkeypatch.setattr(experiments, "collect", gather)
    experiments.run(small(), tmp_path/"records", progress=False)
    assert records(tmp_path) == records(unbroken) and {p.name for p in (tmp_path/"records").iterdir()} == theirs.keys()
    assert json.loads((tmp_path/"records"/"run.json").read_text()) == before
