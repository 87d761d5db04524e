"""Workflows and the Dockerfile: valid, safe by their linters' rules, and nothing in them that no test runs or checks.

No runner and no container engine takes part: what only those can tell is not told here."""
import os, re, shutil, stat, subprocess, sys, tomllib
from pathlib import Path
import pytest, yaml
from corea.core import PROFILES

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT/".github"/"workflows").glob("*.yml"))
EXTRAS = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]["optional-dependencies"]
COREA = "import sys; from corea.lab.command import main; sys.exit(main())"
# each line that a workflow runs -> the test that runs it, or as much of it as fits a laptop
COVERED = {
    ".ci/run": "test_workflows.py::test_the_gate_is_make_test",
    "git diff --exit-code": "test_workflows.py::test_a_changed_file_is_told",
    "git diff --exit-code -- paper_figures ':!*.png'": "test_workflows.py::test_a_changed_file_is_told",
    "make setup": "test_workflows.py::test_setup_installs_the_extras_that_are_named",
    "make figures": "test_runs.py::test_committed_tables_and_figures_come_out_of_the_committed_records",
    "make results": "test_workflows.py::test_results_goes_by_one_name",
    "make standin": "test_standin.py::test_records_of_every_model",
    "make long": "test_workflows.py::test_targets_start_files_that_exist",
    "make bench": "test_workflows.py::test_targets_start_files_that_exist",
    "make site": "test_workflows.py::test_targets_start_files_that_exist",
    "make gpu": "test_workflows.py::test_targets_start_files_that_exist",
    "make resolve": "test_workflows.py::test_targets_start_files_that_exist",
    '.venv/bin/corea run "$PROFILE"': "test_workflows.py::test_the_gpu_workflow_trains_then_draws",
    'mkdir -p "artifacts/$PROFILE"': "test_workflows.py::test_the_gpu_workflow_trains_then_draws",
    '.venv/bin/papermill nbs/10_results.ipynb "artifacts/$PROFILE/10_results.ipynb" -k python3 -p profile "$PROFILE"':
        "test_workflows.py::test_the_gpu_workflow_trains_then_draws",
    '.venv/bin/corea plan "$PROFILE"': "test_workflows.py::test_the_plan_of_every_profile_that_may_be_chosen",
}

def loaded(path): return yaml.safe_load(path.read_text(encoding="utf-8"))

def steps(path): return [(job, s) for job in loaded(path)["jobs"].values() for s in job["steps"]]

def tool(name):
    "A linter of the `dev` extra."
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed: run `make setup`"
    return found

def call(*command, cwd=ROOT, **env):
    "A finished command; what an outer `make` left in the environment does not reach it."
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PROFILE", "EXTRAS", "BIN", "PYTHON")
    base = {k: v for k, v in os.environ.items() if k not in outer} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*map(str, command)], cwd=cwd, env=base | env, capture_output=True, text=True, timeout=300)

def passed(done): assert done.returncode == 0, done.stdout + done.stderr

def script(path, text):
    "An executable file."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)

each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)

# linters

def test_workflows_follow_their_schema(): passed(call(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *WORKFLOWS))

def test_zizmor_finds_nothing(): passed(call(tool("zizmor"), "--offline", "--no-progress", *WORKFLOWS))

def test_hadolint_finds_nothing(): passed(call(tool("hadolint"), "--failure-threshold", "style", "Dockerfile"))

@pytest.mark.parametrize("change,linter", [(("# v5.0.0\n        with:\n          persist-credentials: false\n", "\n"), "zizmor"), (("runs-on:", "runs-om:"), "schema"),
                                           (("run: make setup", "run: echo ${{ github.event.issue.title }}"), "zizmor")])
def test_linters_find_what_they_are_there_for(change, linter, tmp_path):
    text = (ROOT/".github"/"workflows"/"gpu.yml").read_text()
    assert change[0] in text
    bad = tmp_path/".github"/"workflows"/"gpu.yml"
    bad.parent.mkdir(parents=True)
    bad.write_text(text.replace(*change))
    found = call(tool("zizmor"), "--offline", "--no-progress", bad) if linter == "zizmor" else call(
        tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", bad)
    assert found.returncode != 0

# workflows

@each
def test_a_workflow_reads_and_no_more(path):
    w, text = loaded(path), path.read_text()
    assert w["permissions"] == {"contents": "read"} and w["concurrency"]["group"]
    for job in w["jobs"].values():
        assert job["timeout-minutes"] and "permissions" not in job
    for _, s in steps(path):
        assert "${{" not in s.get("run", ""), "what others typed reaches a shell through env alone"
        if "actions/checkout" in s.get("uses", ""): assert s["with"]["persist-credentials"] is False
    uses = re.findall(r"uses: (.*)", text)
    assert uses and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", u) for u in uses), uses
    assert "pull_request_target" not in text
    assert set(re.findall(r"secrets\.\w+", text)) <= ({"secrets.HF_TOKEN"} if path.stem == "gpu" else set())

def test_an_action_has_one_version():
    pins = {u for p in WORKFLOWS for u in re.findall(r"uses: (.*)", p.read_text())}
    assert len(pins) == len({u.split("@")[0] for u in pins})

def test_every_line_that_a_workflow_runs_is_covered():
    lines = {line.split("   #")[0].strip() for p in WORKFLOWS for _, s in steps(p) if "run" in s for line in s["run"].splitlines()}
    assert lines == set(COVERED)
    for line, where in COVERED.items():
        file, test = where.split("::")
        assert re.search(rf"^def {test}\(", (ROOT/"tests"/file).read_text(), re.M), f"{line}: no {where}"

def test_the_gate_is_make_test(tmp_path):
    "`.ci/run` as CI calls it, with a `make` that writes down what it is asked."
    assert os.access(ROOT/".ci"/"run", os.X_OK)
    script(tmp_path/"make", f'echo "$PWD $*" >{tmp_path}/asked\n')
    passed(call(ROOT/".ci"/"run", cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}"))
    assert (tmp_path/"asked").read_text() == f"{ROOT} test\n"

def test_a_changed_file_is_told(tmp_path):
    git = lambda *a: passed(call("git", "-c", "user.name=a", "-c", "user.email=a@b", *a, cwd=tmp_path))
    (tmp_path/"paper_figures"/"laptop").mkdir(parents=True)
    files = {k: tmp_path/k for k in ("other.txt", "paper_figures/laptop/a.csv", "paper_figures/laptop/a.png")}
    for f in files.values(): f.write_text("before")
    git("init", "-q"), git("add", "-A"), git("commit", "-qm", "all")
    lines = [line for line in COVERED if line.startswith("git diff")]
    told = {}
    for name, f in files.items():
        f.write_text("after")
        told[name] = [call("bash", "-c", line, cwd=tmp_path).returncode for line in lines]
        f.write_text("before")
    assert told == dict(zip(files, ([1, 0], [1, 1], [1, 0])))
    assert [call("bash", "-c", line, cwd=tmp_path).returncode for line in lines] == [0, 0]

# what they call

@pytest.fixture
def bench(tmp_path):
    "A folder in which `make` finds a `corea` and a `python` that write down what they are asked; `corea name` is the true one."
    for f in ("constraints.txt", "pyproject.toml"): shutil.copy(ROOT/f, tmp_path)
    log = tmp_path/"log"
    script(tmp_path/"bin"/"corea", f"""if [ "$1" = name ]; then exec {sys.executable} -c '{COREA}' "$@"; fi\necho corea "$@" >>{log}\n""")
    script(tmp_path/"bin"/"python", f'echo python "$@" >>{log}\n')
    def make(*words, **env): return call("make", "-f", ROOT/"Makefile", "-o", ".venv/.installed", f"BIN={tmp_path/'bin'}", *words, cwd=tmp_path, **env)
    make.asked = lambda: log.read_text().splitlines() if log.exists() else []
    return make

@pytest.mark.parametrize("given,name", [(None, "laptop"), ("smoke", "smoke"), ("gpu-ci", "gpu-ci"), ("auto", "laptop")])
def test_results_goes_by_one_name(given, name, bench, tmp_path):
    done = bench("results", **({"PROFILE": given} if given else {}), CUDA_VISIBLE_DEVICES="")
    passed(done)
    assert bench.asked() == [f"corea run {name}", f"python -m papermill nbs/10_results.ipynb artifacts/{name}/10_results.ipynb -k python3 -p profile {name}"]
    assert [p.name for p in (tmp_path/"artifacts").iterdir()] == [name] and f"paper_figures/{name}" in done.stdout
    assert ("0 GPU(s) in sight: profile laptop" in done.stderr) == (given == "auto")

@pytest.mark.parametrize("given", ["nonsense", "", "../up", "-x", "laptop smoke", "x; touch hit", "$(touch hit)", "`touch hit`", "$(shell touch hit)", '"; touch hit; "', "a\ntouch hit"])
def test_results_refuses_an_unknown_profile(given, bench, tmp_path):
    for done in (bench("results", PROFILE=given), bench("results", f"PROFILE={given}")) if "$(shell" not in given and given else (bench("results", PROFILE=given),):
        assert done.returncode != 0 and "corea: unknown profile" in done.stderr and "choose auto or one of laptop" in done.stderr
    assert not bench.asked() and not (tmp_path/"artifacts").exists() and not list(tmp_path.rglob("hit"))

@pytest.mark.parametrize("profile", ["gpu-ci", "x; touch hit"])
def test_the_gpu_workflow_trains_then_draws(profile, bench, tmp_path):
    "Its own lines, in order, with a `corea` and a `papermill` that write down what they are asked: what `make results` asks for."
    for tool in ("corea", "papermill"): script(tmp_path/".venv"/"bin"/tool, f'echo {tool} "$@" >>{tmp_path/"log"}\n')
    for _, s in steps(ROOT/".github"/"workflows"/"gpu.yml"):
        if ".venv/" in s.get("run", ""): passed(call("bash", "-e", "-c", s["run"], cwd=tmp_path, PROFILE=profile))
    asked = bench.asked()
    assert asked == [f"corea plan {profile}", f"corea run {profile}",
                     f"papermill nbs/10_results.ipynb artifacts/{profile}/10_results.ipynb -k python3 -p profile {profile}"]
    assert (tmp_path/"artifacts"/profile).is_dir() and not list(tmp_path.rglob("hit"))
    if profile in PROFILES:
        passed(bench("results", PROFILE=profile))
        assert [line.removeprefix("python -m ") for line in bench.asked()[len(asked):]] == asked[1:]

def test_a_failed_run_draws_nothing(bench, tmp_path):
    script(tmp_path/"bin"/"corea", f"""[ "$1" != name ] || exec {sys.executable} -c '{COREA}' "$@"; exit 1\n""")
    assert bench("results", PROFILE="smoke").returncode != 0 and not bench.asked()

def test_setup_installs_the_extras_that_are_named(tmp_path):
    "The true `make setup` and `.ci/setup`, with an environment whose pip writes down what it is asked."
    for f in ("Makefile", "constraints.txt", "pyproject.toml"): shutil.copy(ROOT/f, tmp_path)
    shutil.copytree(ROOT/".ci", tmp_path/".ci")
    log = tmp_path/"log"
    script(tmp_path/".venv"/"bin"/"python", f"""[ "$1" = -c ] && exec {sys.executable} "$@"\n[ "$3" = --version ] || echo "$@" >>{log}\n""")
    def setup(**env):
        log.write_text("")
        done = call("make", "setup", cwd=tmp_path, **env)
        return done, re.findall(r"-e \.\[(.*?)\] -c constraints\.txt", log.read_text())
    for env, installed in (({}, ["dev,train"]), ({}, []), ({"EXTRAS": "dev,gpu"}, ["dev,gpu"]), ({"EXTRAS": "dev,gpu"}, []), ({}, []),
                           ({"EXTRAS": "dev,train,track"}, ["dev,train,track"])):
        done, asked = setup(**env)
        passed(done)
        assert asked == installed, env
    os.utime(tmp_path/"constraints.txt", (2e9, 2e9))
    assert setup()[1] == ["dev,train,track"], "new pins, and the extras that were there"
    for bad in ("dev,nope", "dev,*", "$(touch hit)", "$(shell touch hit)", "; touch hit"):
        done, asked = setup(EXTRAS=bad)
        assert done.returncode != 0 and "no extra" in done.stderr and not asked
    assert not list(tmp_path.rglob("hit"))

def test_the_first_site_adds_its_extra(tmp_path):
    "To those that were there, once; then the site is built."
    for f in ("Makefile", "constraints.txt", "pyproject.toml"): shutil.copy(ROOT/f, tmp_path)
    shutil.copytree(ROOT/".ci", tmp_path/".ci")
    log = tmp_path/"log"
    script(tmp_path/".venv"/"bin"/"python", f"""[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@" >>{log}\n""")
    for _ in range(2): passed(call("make", "site", cwd=tmp_path))
    asked = re.findall(r"-e \.\[(.*?)\]|(nbs/site/build\.py)", log.read_text())
    assert ["".join(found) for found in asked] == ["dev,train", "dev,train,site", "nbs/site/build.py", "nbs/site/build.py"]

def test_targets_start_files_that_exist():
    for line in COVERED:
        if not line.startswith("make "): continue
        done = call("make", "-n", "-o", ".venv/.installed", *line.split()[1:])
        passed(done)
        named = re.findall(r"[\w/]+/\w+\.(?:py|ipynb)", done.stdout)
        assert line == "make setup" or named or "nbdev_test" in done.stdout, done.stdout
        assert all((ROOT/f).exists() for f in named if not f.startswith(("artifacts/", "PROFILE/"))), named   # those are yet to be written

def test_the_plan_of_every_profile_that_may_be_chosen(capsys):
    "What the GPU workflow says before it starts, of all that it can be asked for."
    from corea.lab.command import main
    w = loaded(ROOT/".github"/"workflows"/"gpu.yml")
    profile = w[True]["workflow_dispatch"]["inputs"]["profile"]     # YAML reads `on` as true
    assert profile["default"] in profile["options"] and set(profile["options"]) <= set(PROFILES)
    assert f"|| '{profile['default']}'" in w["jobs"]["results"]["env"]["PROFILE"], "a scheduled run has no inputs"
    for name in profile["options"]:
        assert main(["plan", name]) == 0
        assert capsys.readouterr().out.startswith(f"profile {name}: ")
    assert set(w["jobs"]["results"]["env"]["EXTRAS"].split(",")) <= set(EXTRAS)

# the container

def docker(word): return re.findall(rf"^{word} +((?:.*\\\n)*.*)", (ROOT/"Dockerfile").read_text(), re.M)

def test_the_container_is_pinned_and_has_no_root():
    assert all(re.fullmatch(r"[\w./]+:\d+\.\d+\.\d+-\S+", f) for f in docker("FROM"))
    assert docker("USER")[-1].split(":")[0] not in ("root", "0")
    text = (ROOT/"Dockerfile").read_text()
    said = dict(re.findall(r"(\w+)=(\S+)", docker("ENV")[0]))
    assert said["PROFILE"] in PROFILES and set(said["EXTRAS"].split(",")) <= set(EXTRAS)
    assert "never been built" in text
    assert {".git", ".venv*", "artifacts"} <= set((ROOT/".dockerignore").read_text().split())

def test_the_layer_of_packages_needs_no_other_file(tmp_path):
    "From the files that stand there before the sources do, setuptools tells name, version and extras."
    for line in docker("COPY")[:-1]:
        *files, into = line.split()[1:]
        for f in files:
            target = tmp_path/into/Path(f).name if into.endswith("/") else tmp_path/into
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT/f, target)
    (tmp_path/"out").mkdir()
    passed(call(sys.executable, "-c", "from setuptools import build_meta as b; b.prepare_metadata_for_build_editable('out')", cwd=tmp_path, PYTHONPATH=""))
    text = next((tmp_path/"out").rglob("METADATA")).read_text()
    assert re.search(r"^Version: \d", text, re.M) and all(f"Provides-Extra: {e}" in text for e in docker("ENV")[0].split("EXTRAS=")[1].split()[0].split(","))
    assert call("bash", tmp_path/".ci"/"setup", EXTRAS="nope").stderr.startswith("==> setup: no extra 'nope'")
