"""The bundle for a machine without a network: each transfer within its size and whole, and `run.sh` makes of it what was packed.

What wants a package index or a card is not here: `make bundle` itself, and the steps of `run.sh` behind its unpacking."""
import hashlib, importlib.util, json, os, subprocess, tarfile
from pathlib import Path
import pytest

GPU = Path(__file__).resolve().parents[1]/".ci"/"gpu"
RUN = GPU/"run.sh"

def loaded():
    "The script as a module."
    spec = importlib.util.spec_from_file_location("bundle", GPU/"bundle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

bundle = loaded()

def sha(data): return hashlib.sha256(data).hexdigest()

@pytest.fixture
def packed(tmp_path):
    "A small bundle: a project, data, one wheel that is cut in three, one that is not; (folder, manifest, bytes of each file)."
    shelf, inside = tmp_path/"shelf", tmp_path/"inside"
    for file, text in (("corea/__init__.py", "a = 1\n"), ("sets/one.jsonl", "{}\n")):
        (inside/file).parent.mkdir(parents=True)
        (inside/file).write_text(text)
    shelf.mkdir()
    bundle.pack(shelf/"project.tar.gz", inside, ["corea/__init__.py"])
    bundle.pack(shelf/"data.tar.gz", inside, ["sets/one.jsonl"])
    (shelf/"large.whl").write_bytes(bytes(range(256)) * 10)
    (shelf/"small.whl").write_bytes(b"small" * 100)
    was = {f.name: f.read_bytes() for f in shelf.iterdir()}
    folder = tmp_path/"bundle"
    folder.mkdir()
    told = bundle.assemble([shelf/n for n in ("project.tar.gz", "data.tar.gz", "large.whl", "small.whl")], folder, dict(commit="c"), 1200, 1000)
    return folder, told, was

def run(folder, *words, **env):
    "`run.sh` from a part, with no interpreter that could install: it stops where it would."
    return subprocess.run(["bash", str(folder/"part-1"/"run.sh"), *words], capture_output=True, text=True, timeout=120,
                          env=os.environ | dict(PYTHON="false", OUT=str(folder/"out")) | env)

def test_every_part_is_within_the_limit_and_has_its_checksums(packed):
    folder, told, was = packed
    assert len(told["parts"]) >= 3 and {p["name"] for p in told["parts"]} == {p.name for p in folder.iterdir()}
    for part in told["parts"]:
        assert 0 < sum(f["bytes"] for f in part["files"]) <= told["transfer"]
        for f in part["files"]:
            data = (folder/part["name"]/f["name"]).read_bytes()
            assert (len(data), sha(data)) == (f["bytes"], f["sha256"])
        assert json.loads((folder/part["name"]/"manifest.json").read_text()) == told
        sums = dict(reversed(line.split("  ")) for line in (folder/part["name"]/"SHA256SUMS").read_text().splitlines())
        assert sums == {f["name"]: f["sha256"] for f in part["files"]}
    assert {w["name"]: w["sha256"] for w in told["whole"]} == {n: sha(data) for n, data in was.items()}
    assert {w["name"]: len(w["pieces"]) for w in told["whole"]}["large.whl"] == 3

def test_the_true_limits_leave_room_for_the_project(packed):
    "A transfer of 60 MB holds a part and the tracked files that may travel beside it."
    files = [bundle.ROOT/n for n in bundle.tracked()]
    assert {"corea/core.py", "corea/files/paper_numbers.csv", ".ci/gpu/run.sh", "constraints.txt"} <= set(bundle.tracked())
    assert bundle.PIECE <= bundle.TRANSFER and bundle.TRANSFER + sum(f.stat().st_size for f in files) < 60_000_000

def test_a_file_too_large_for_a_part_is_told(tmp_path):
    (tmp_path/"f").write_bytes(b"x" * 20)
    with pytest.raises(SystemExit, match="f has 20 bytes, more than the 10 of a part"): bundle.distribute([tmp_path/"f"], tmp_path, 10)

def test_packing_depends_on_the_files_alone(tmp_path):
    for k in ("a", "b"):
        (tmp_path/k).mkdir()
        for name in ("y", "x"): (tmp_path/k/name).write_text(name)
        os.utime(tmp_path/k/"x", (1, ord(k)))
        bundle.pack(tmp_path/f"{k}.tar.gz", tmp_path/k, ["y", "x"] if k == "a" else ["x", "y"])
    assert (tmp_path/"a.tar.gz").read_bytes() == (tmp_path/"b.tar.gz").read_bytes()
    with tarfile.open(tmp_path/"a.tar.gz") as tar: assert tar.getnames() == ["x", "y"]

def test_what_a_run_needs_is_walked_without_what_the_image_has():
    found, absent = bundle.needed(["trl>=1", "papermill", "no-such-package>1; python_version == '3.12'", "other; python_version < '3.12'"])
    assert {"trl", "datasets", "dill", "papermill", "nbclient"} <= set(found) and not set(found) & set(bundle.GIVEN)
    assert "no-such-package>1" in absent and not any(a.startswith("other") for a in absent)

# run.sh

def test_run_is_sound_bash(): assert subprocess.run(["bash", "-n", str(RUN)]).returncode == 0

@pytest.mark.parametrize("words,env,told", [(["nonsense"], {}, "unknown part 'nonsense'"), ([], {}, "unknown part ''"), (["$(touch hit)"], {}, "unknown part"),
                                            (["contract"], dict(LIMIT="ten"), "LIMIT is 'ten'"), (["contract"], dict(LIMIT="1;touch hit"), "LIMIT is")])
def test_run_refuses_what_it_does_not_know(words, env, told, packed):
    folder, *_ = packed
    done = run(folder, *words, **env)
    assert done.returncode == 2 and told in done.stderr and not (folder/"work").exists() and not list(folder.rglob("hit"))

def test_run_puts_together_what_was_packed(packed):
    folder, told, was = packed
    late = next(p for p in sorted(folder.glob("part-*")) if (p/"large.whl.01").exists())
    late.rename(folder.parent/"late")
    done = run(folder, "unpack")
    assert done.returncode == 1 and "installing failed" in done.stdout, done.stdout    # for want of an interpreter
    assert "of 3 pieces are here" in done.stdout and not (folder/"work"/"wheels"/"large.whl").exists()
    (folder.parent/"late").rename(late)
    assert "pieces are here" not in run(folder, "unpack").stdout
    assert (folder/"work"/"wheels"/"large.whl").read_bytes() == was["large.whl"]
    assert (folder/"work"/"project"/"corea"/"__init__.py").read_text() == "a = 1\n" and (folder/"work"/"data"/"sets"/"one.jsonl").exists()
    assert (folder/"out"/"unpack.log").exists() and list((folder/"out").glob("unpack.tar.gz.*"))

@pytest.mark.parametrize("name", ["small.whl", "large.whl.01"])
def test_a_damaged_part_is_told(name, packed):
    folder, *_ = packed
    path = next(folder.rglob(name))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = run(folder, "contract")
    assert done.returncode == 1 and "does not have the bytes of its SHA256SUMS" in done.stdout

def test_steps_end_before_the_limit_and_leave_their_records(packed, tmp_path):
    "The functions of `run.sh` with steps of its own: one that leaves something and hangs, one that fails, one for which no time is left."
    folder, *_ = packed
    text = RUN.read_text()
    functions = text[:text.index("unpack() {")].replace("exec >", "# exec >")
    script = functions + '''
step leaves 60 bash -c 'echo kept >"$LEFT/kept.txt"; echo said; sleep 60'
SECONDS=0; step fails 5 bash -c 'exit 3'
SECONDS=10; step late 5 touch "$LEFT/late"
'''
    (tmp_path/"bundle"/"part-1"/"steps.sh").write_text(script)
    done = subprocess.run(["bash", str(folder/"part-1"/"steps.sh"), "contract"], capture_output=True, text=True, timeout=60,
                          env=os.environ | dict(LIMIT="21", OUT=str(folder/"out")))
    rows = [line.split(",") for line in (folder/"out"/"contract.csv").read_text().splitlines()]
    assert [(r[0], r[2]) for r in rows] == [("leaves", "124"), ("fails", "3"), ("late", "no time left")], done.stdout + done.stderr
    with tarfile.open(folder/"out"/"contract.tar.gz.00") as tar:
        assert tar.extractfile("left/contract/kept.txt").read() == b"kept\n" and tar.extractfile("left/contract/leaves.txt").read() == b"said\n"
        assert "left/contract/late" not in tar.getnames()
