"""Each way to install corea that the documents name, resolved under the pins and not installed: `make resolve`.

Extras that README, CONTRIBUTING, notebooks, Makefile, Dockerfile, workflows or .ci/setup name, and their `pip install` lines, are found
there, and every extra stands for itself. A way that another one contains is left out: what installs the larger set installs the smaller.
vLLM's CPU build asks for torch's, so that Linux wants PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
"""
import json, re, shlex, subprocess, sys, tempfile, time, tomllib
from pathlib import Path
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "Makefile", "Dockerfile", ".ci/setup", ".github/workflows/*.yml", "nbs/*.ipynb")
EXTRAS = re.compile(r"\b(?:EXTRAS|USUAL) ?(?::=|:-|=|:) ?([a-z]+(?:,[a-z]+)*)")
COMMAND = re.compile(r"\bpip install ([^`&;|#\n]*)")
PIP = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--progress-bar", "off", "--disable-pip-version-check"]

def text_of(path):
    "A document; of a notebook all cells."
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb": text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return text.replace("\\\n", " ").replace('\\"', '"')

def extras_of(root):
    "Extra -> the extras that it brings, itself among them."
    listed = tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    brings = lambda extra: {extra}.union(*map(brings, (e for r in listed[extra] if r.startswith("corea[") for e in Requirement(r).extras)))
    return {extra: brings(extra) for extra in listed}

def wanted_by(command):
    "(extras of corea or None, other requirements) that the words after `pip install` name; `ValueError` if they cannot be read."
    own, others, words = None, set(), iter(shlex.split(command))
    for word in words:
        if word in ("-c", "-r"): next(words, None)
        elif (here := re.fullmatch(r"\.(?:\[([\w,-]+)\])?", word)): own = set(filter(None, (here[1] or "").split(",")))
        elif not word.startswith("-"): others.add(str(Requirement(word)))
    return own, frozenset(others)

def commands(root):
    "(document, words after `pip install`) for each such line, but for templates that others fill."
    return [(p.relative_to(root), c.strip()) for g in DOCUMENTS for p in sorted(root.glob(g)) for c in COMMAND.findall(text_of(p))
            if not re.search("[${]", c)]

def ways(root=ROOT):
    "(extras, other requirements) -> documents that name it, without those that another contains; `ValueError` names what cannot be read."
    brings, found = extras_of(root), {}
    def add(where, extras, others=frozenset()):
        if unknown := set(extras) - set(brings): raise ValueError(f"{where}: no extra {', '.join(sorted(unknown))} in pyproject.toml")
        found.setdefault((frozenset().union(*map(brings.get, extras)), others), []).append(str(where))
    for extra in brings: add("pyproject.toml", [extra])
    for path in (p for g in DOCUMENTS for p in sorted(root.glob(g))):
        for names in EXTRAS.findall(text_of(path)): add(path.relative_to(root), names.split(","))
    for path, command in commands(root):
        try: own, others = wanted_by(command)
        except ValueError as e: raise ValueError(f"{path}: pip install {command}: {e}") from e
        if own is not None: add(path, own, others)
    within = lambda a, b: a != b and a[0] <= b[0] and a[1] <= b[1]
    return {way: names for way, names in found.items() if not any(within(way, other) for other in found)}

def spelt(way):
    "What pip is told."
    extras, others = way
    return ["-e", "." + (f"[{','.join(sorted(extras))}]" if extras else ""), *sorted(others)]

def resolve(way, root=ROOT, *options):
    "(packages that would be installed, pip's complaint), one of them empty."
    with tempfile.TemporaryDirectory() as d:
        done = subprocess.run([*PIP, "--report", f"{d}/report", *options, *spelt(way), "-c", "constraints.txt"], cwd=root, capture_output=True, text=True)
        if done.returncode:
            why = done.stdout[done.stdout.find("The conflict is caused by"):] if "The conflict is caused by" in done.stdout else ""
            return [], why + "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        return [i["metadata"]["name"] for i in json.loads(Path(d, "report").read_text())["install"]], ""

def pins(root=ROOT):
    "Package -> version."
    return {canonicalize_name(n): v for n, v in (line.split("==") for line in (root/"constraints.txt").read_text().split())}

def disagreements(pinned, requires):
    "Lines for what `requires`, package -> its requirements, does not allow among the pins; a local version such as +cpu is no disagreement."
    told = []
    for name, requirements in sorted(requires.items()):
        for r in map(Requirement, requirements):
            pin = pinned.get(canonicalize_name(r.name))
            if pin is None or r.marker and not r.marker.evaluate({"extra": ""}): continue
            if not SpecifierSet(re.sub(r"\+[\w.]+", "", str(r.specifier))).contains(pin, prereleases=True):
                told.append(f"{name} wants {r.name}{r.specifier}, constraints.txt has {pin}")
    return told

def main():
    failed = False
    for way, names in ways().items():
        start, said = time.time(), " ".join(spelt(way))
        print(f"pip install {said} -c constraints.txt ({', '.join(sorted(set(names)))})", flush=True)
        packages, complaint = resolve(way)
        failed |= bool(complaint)
        print(f"  {complaint or f'{len(packages)} packages'}: {time.time() - start:.0f} s", flush=True)
    sys.exit(failed)

if __name__ == "__main__": main()
