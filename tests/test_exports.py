"corea/ is what the notebooks export, and the notebooks are clean: tried on a copy, so that a dirty tree stays as it is."
import os, shutil, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]

def snapshot(root):
    "Bytes of every notebook and module, by path."
    return {str(p.relative_to(root)): p.read_bytes() for g in ("nbs/*.ipynb", "nbs/book/*.ipynb", "corea/**/*.py") for p in sorted(root.glob(g))}

@pytest.mark.parametrize("command, cure", [
    ("nbdev_clean", "metadata, ids or execution counts that nbdev_clean removes"),
    ("nbdev_export", "not what the notebooks export (corea/ is never edited by hand)")])
def test_command_changes_nothing(command, cure, tmp_path):
    for p in [*(ROOT/"nbs").glob("*.ipynb"), *(ROOT/"nbs"/"book").glob("*.ipynb"), *(ROOT/"corea").rglob("*.py")]:
        (copy := tmp_path/p.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(p, copy)
    shutil.copy(ROOT/"settings.ini", tmp_path)
    before = snapshot(tmp_path)
    assert before, "no notebooks in nbs/"
    env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}   # under which nbdev_export does nothing
    r = subprocess.run([Path(sys.executable).with_name(command)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert r.returncode == 0, f"{command} failed:\n{r.stdout}{r.stderr}"
    after = snapshot(tmp_path)
    changed = sorted(p for p in before | after if before.get(p) != after.get(p))
    assert not changed, f"{', '.join(changed)}: {cure}. Run `make export` and look at the difference."
