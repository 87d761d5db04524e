"""The package as a wheel, in an empty folder: what the README shows first, the commands, and what is said where an extra is missing."""
import os, re, shutil, subprocess, sys, zipfile
import pytest
from corea.core import FILES, ROOT

# what a plain `pip install corea` does not bring
EXTRAS = ["torch", "transformers", "trl", "datasets", "accelerate", "peft", "huggingface_hub", "gguf", "reasoning_gym", "tokenizers", "safetensors",
          "scipy", "sklearn", "numba", "matplotlib", "seaborn", "starlette", "uvicorn", "prometheus_client"]
WITHOUT = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}: raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A folder into which the wheel was unpacked."
    source, made, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheel", "site"))
    shutil.copytree(ROOT/"corea", source/"corea", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"): shutil.copy(ROOT/name, source)
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-w", made, source],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(*made.glob("corea-*.whl")) as wheel: wheel.extractall(site)
    return site

def python(site, folder, code):
    "Run code where nothing but the wheel is corea."
    env = {k: v for k, v in os.environ.items() if not k.startswith("COREA_")} | {"PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)

def command(*words):
    "What the entry point `corea` does."
    return f"import sys; from corea.lab.command import main; sys.exit(main({list(words)}))"

def test_all_files_are_in_it(site):
    files = {p.relative_to(FILES) for p in FILES.rglob("*") if p.is_file() and p.parent.name != "__pycache__"}
    assert files and files == {p.relative_to(site/"corea"/"files") for p in (site/"corea"/"files").rglob("*") if p.is_file()}

def test_results_belong_to_the_folder_that_asks(site, tmp_path):
    done = python(site, tmp_path, "import corea.core as c; print(c.ROOT, c.FILES, c.compared_versions(), c.provenance()['commit'])")
    assert done.stdout.split() == [str(tmp_path), str(site/"corea"/"files"), "({},", "[])", "None"], done.stderr

def test_the_first_example_of_the_readme(site, tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT/"README.md").read_text(encoding="utf-8"), re.S)[1].rstrip()
    *lines, last = code.splitlines()
    done = python(site, tmp_path, "\n".join([*lines, f"shown = {last}", "print(len(shown), *sorted(set(shown.after.str.extract(r'\\((\\w+),')[0])))"]))
    assert done.stdout == "8 llm slm\n", done.stderr[-2000:]

def test_demo_asks_the_bundled_models_and_leaves_nothing(site, tmp_path):
    done = python(site, tmp_path, command("demo", "--number", "4"))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["question", "gold", "before", "after"] and all(line.startswith("Work out ") for line in lines[1:5])
    assert [len(re.findall(r"[-+]?\d+%", line)) for line in lines if line.startswith(("right ", "deferred ", "cost "))] == [3, 3, 3]
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize("words", [["--help"], ["plan", "smoke"], ["name", "smoke"], ["plan", "paper-1gpu"]])
def test_commands(site, tmp_path, words):
    done = python(site, tmp_path, command(*words))
    assert done.returncode == 0 and done.stdout.strip(), done.stderr[-2000:]
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize("words", [["plan", "smoke"], ["run", "smoke"], ["name", "auto"], ["push", "smoke", "--repo", "a/b"], ["base"],
                                   ["calibrate", "q.jsonl", "--slm", "a", "--llm", "b"], ["serve", "policy.json"], ["report", "ledger.jsonl"], ["demo"]])
def test_without_the_extras_a_command_names_the_one_to_install(site, tmp_path, words):
    done = python(site, tmp_path, WITHOUT + command(*words))
    assert done.returncode == 1 and re.fullmatch(r"corea: \w+ is not installed: pip install 'corea\[(train|lab|serve)\]'\n", done.stderr), done.stderr
    assert not list(tmp_path.iterdir())

def test_without_the_extras_corea_helps_reads_grades_and_measures(site, tmp_path):
    assert python(site, tmp_path, WITHOUT + command("--help")).returncode == 0
    done = python(site, tmp_path, WITHOUT + r"""
from corea import load_profile, parse, grade
from corea.metrics import auroc, ece
said = parse(r"\boxed{\frac{1}{2}} \confidence{0.9}")
print(load_profile("smoke").profile, said.answer, said.confidence, grade(said.answer, "0.5"), auroc([0.2, 0.9], [0, 1]))""")
    assert done.stdout.split() == ["smoke", r"\frac{1}{2}", "0.9", "True", "1.0"], done.stderr[-2000:]
