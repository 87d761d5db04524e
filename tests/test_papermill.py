"""10_results as a reader runs it: through papermill, from any folder, into a file or a pipe.

One full run of the smoke profile; the rest redraws from the records that it left.
"""
import io, os, re, shutil, subprocess, sys
from pathlib import Path
import matplotlib.image
import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT/"nbs"/"10_results.ipynb"
LAPTOP = ROOT/"paper_figures"/"laptop"
PARAMETERS = ("profile", "redraw", "only", "n_boot", "out_dir")
N_BOOT = 50     # enough to prove the plumbing

pytestmark = pytest.mark.skipif(not NOTEBOOK.exists(), reason="nbs/10_results.ipynb is not written yet")

def papermill(cwd, artifacts, *args, **parameters):
    "Run 10_results in the folder `cwd`."
    given = [x for k, v in parameters.items() for x in ("-p", k, str(v))]
    return subprocess.run([sys.executable, "-m", "papermill", NOTEBOOK, *args, "-k", "python3", "--no-progress-bar", *given],
                          cwd=cwd, env=os.environ | {"COREA_ARTIFACTS": str(artifacts)}, capture_output=True, text=True, timeout=1200)

def succeeded(run): assert run.returncode == 0, run.stderr[-4000:]

def drawn(out):
    "Bytes of every table and figure."
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*"))
            if p.is_file() and "records" not in p.relative_to(out).parts}

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
def smoke(tmp_path_factory):
    "Folder of a full run of the smoke profile, started from an empty working directory."
    folder = tmp_path_factory.mktemp("smoke")
    cwd = folder/"anywhere"
    cwd.mkdir()
    succeeded(papermill(cwd, folder/"artifacts", cwd/"out.ipynb", profile="smoke", n_boot=N_BOOT, out_dir=folder/"out"))
    assert [p.name for p in cwd.iterdir()] == ["out.ipynb"], "10_results wrote into the working directory"
    return folder

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
    assert (smoke/"out"/"records"/"run.json").exists()
    assert all(files.values()), "empty file"

def test_redrawn_from_the_folder_of_the_notebook(smoke, copy):
    succeeded(papermill(ROOT/"nbs", copy/"artifacts", copy/"out.ipynb", profile="smoke", redraw=True, n_boot=N_BOOT, out_dir=copy/"out"))
    same(drawn(copy/"out"), drawn(smoke/"out"))
    assert not (copy/"artifacts").exists(), "redraw=True ran something"

def test_records_that_are_whole_are_not_made_again(smoke, copy):
    succeeded(papermill(ROOT, copy/"artifacts", copy/"out.ipynb", profile="smoke", n_boot=N_BOOT, out_dir=copy/"out"))
    same(drawn(copy/"out"), drawn(smoke/"out"))
    assert not (copy/"artifacts").exists(), "the records were there, and a run was started"

def test_without_output_path_a_pipe_gets_a_valid_notebook(smoke, copy):
    run = papermill(ROOT, copy/"artifacts", profile="smoke", redraw=True, n_boot=N_BOOT, out_dir=copy/"out")
    succeeded(run)
    nb = nbformat.reads(run.stdout, as_version=4)
    nbformat.validate(nb)
    injected = [c.source for c in nb.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert len(injected) == 1 and "smoke" in injected[0]
    assert "widgets" not in nb.metadata, "widget state, which GitHub refuses to show"
    same(drawn(copy/"out"), drawn(smoke/"out"))

def test_only_draws_what_is_named(smoke, copy):
    first = sorted((smoke/"out"/"tables").glob("table_*.csv"))[0]
    succeeded(papermill(copy, copy/"artifacts", copy/"out.ipynb", "-y", f"only: [{first.stem}]",
                        profile="smoke", redraw=True, n_boot=N_BOOT, out_dir=copy/"out"))
    files = drawn(copy/"out")
    assert files[f"tables/{first.name}"] == first.read_bytes()
    others = [f for f in files if re.search(r"/(table|figure)_", f) and Path(f).stem != first.stem]
    assert not others, f"drawn although not named: {', '.join(others)}"

def test_unknown_profile_is_told_in_one_line(tmp_path):
    run = papermill(tmp_path, tmp_path/"artifacts", tmp_path/"out.ipynb", profile="nonsense", out_dir=tmp_path/"out")
    assert run.returncode != 0
    assert re.search(r"^CoreaError: .*nonsense", run.stderr, re.M), run.stderr[-2000:]

def test_help_names_every_parameter(tmp_path):
    run = papermill(tmp_path, tmp_path/"artifacts", "--help-notebook")
    succeeded(run)
    for name in PARAMETERS:
        line = re.search(rf"^\s*{name}\b.*\n?.*", run.stdout, re.M)
        assert line, f"--help-notebook does not name {name}:\n{run.stdout}"

@pytest.mark.skipif(not (LAPTOP/"records").exists(), reason="no committed records in paper_figures/laptop yet")
def test_committed_tables_and_figures_come_out_of_the_committed_records(tmp_path):
    shutil.copytree(LAPTOP/"records", tmp_path/"out"/"records")
    succeeded(papermill(tmp_path, tmp_path/"artifacts", tmp_path/"out.ipynb", profile="laptop", redraw=True, out_dir=tmp_path/"out"))
    same(drawn(tmp_path/"out"), drawn(LAPTOP), elsewhere=True)
