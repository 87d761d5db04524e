"README.md is what nbs/index.ipynb gives, and what it says can be done."
import ast, json, os, re, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]
README, INDEX, CONTENTS = ROOT/"README.md", ROOT/"nbs"/"index.ipynb", ROOT/"nbs"/"contents.ipynb"

def text(): return README.read_text(encoding="utf-8")

def fenced(language): return re.findall(rf"^```{language}\n(.*?)^```", text(), re.M | re.S)

def cells(tag=None, page=INDEX):
    "Code cells of a page, all or those with a tag, as (source, stored Markdown)."
    for c in json.loads(page.read_text(encoding="utf-8"))["cells"]:
        if c["cell_type"] != "code" or tag and tag not in c["metadata"].get("tags", []): continue
        yield "".join(c["source"]), "".join(s for o in c["outputs"] for s in o.get("data", {}).get("text/markdown", []))

def setup(page=INDEX):
    "What the hidden import cell of a page brings in."
    names = {}
    for source, _ in cells("remove_cell", page):
        if re.match(r"(import|from) ", source): exec(source, names)
    return names

def test_is_what_index_gives(tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    run = subprocess.run(["make", "-s", "-o", ".venv/.installed", "readme", f"README={tmp_path/'README.md'}", f"BIN={Path(sys.executable).parent}"],
                         cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path/"README.md").read_text(encoding="utf-8") == text(), "README.md is not what nbs/index.ipynb gives: run `make readme`"

def drawn(tag, page=INDEX, **names):
    "What the cells with a tag show now, and what is stored."
    names = setup(page) | names
    for source, stored in cells(tag, page):
        tree = ast.parse(source)
        if stored: tree.body[-1] = ast.Assign([ast.Name("shown", ast.Store())], tree.body[-1].value)
        exec(compile(ast.fix_missing_locations(tree), "index", "exec"), names)
        if stored: yield names["shown"].data, stored

def committed(folder): # the names of index that say where they are
    "paper_figures as committed: `make results` may have put a run of one's own in the place of the one that the first page tells of."
    tree = subprocess.run(["git", "archive", "HEAD", "paper_figures"], cwd=ROOT, capture_output=True).stdout
    if tree: subprocess.run(["tar", "-x", "-C", folder], input=tree, check=True)
    return dict(ROOT=folder, FIGURES=folder/"paper_figures")

@pytest.mark.parametrize("page, tag", [(INDEX, "scoreboard"), (INDEX, "trained"), (CONTENTS, "pairs"), (CONTENTS, "notebooks")])
def test_pages_show_what_the_files_say(page, tag, tmp_path):
    "Tables of the first pages, drawn again from records and notebooks, are those stored in them."
    assert any(stored for _, stored in cells(tag, page))
    if all(now == stored for now, stored in drawn(tag, page)): return
    assert tag == "scoreboard" and all(now == stored for now, stored in drawn(tag, **committed(tmp_path))), "run nbs/index.ipynb again, then `make readme`"

def test_picture_is_what_index_draws(tmp_path):
    names = setup()
    for source, _ in cells("idea"): exec(source, names)
    names["draw_idea"](tmp_path)
    assert (tmp_path/"idea.svg").read_bytes() == (ROOT/"paper_figures"/"idea.svg").read_bytes(), "run nbs/index.ipynb again"
    assert (ROOT/"paper_figures"/"idea.png").exists()

def test_paths_and_pictures_exist():
    named = re.findall(r"\]\(([^)#\s]+)\)", text()) + re.findall(r"`([\w.-]+/[\w./-]+|[\w-]+\.\w+)`", text())
    missing = [p for p in named if not re.match(r"\w+:|artifacts/|\.venv/", p) and not (ROOT/p).exists()]
    assert not missing, f"README.md names {', '.join(missing)}"

def test_every_notebook_is_two_clicks_away():
    assert "(nbs/contents.ipynb)" in text()
    there = "".join(stored for _, stored in cells("notebooks", CONTENTS))
    unnamed = [p.name for p in (ROOT/"nbs").glob("[0-9]*.ipynb") if f"({p.name})" not in there]
    assert not unnamed, f"nbs/contents.ipynb does not link {', '.join(unnamed)}: run it again"

def test_commands_exist():
    from corea.core import PROFILES
    makefile = (ROOT/"Makefile").read_text()
    said = re.findall(r"^make (\w+)(?: PROFILE=(\w+))?", "".join(fenced("bash")), re.M) + [(t, "") for t in re.findall(r"`make (\w+)`", text())]
    assert {"results", "test", "figures"} <= {t for t, _ in said}
    for target, profile in said:
        assert re.search(rf"^{target}:", makefile, re.M), f"README.md: `make {target}` is no target"
        assert not profile or profile in PROFILES, f"README.md: no profile {profile}"

def test_snippets_run(tmp_path):
    snippets = fenced("python")
    assert snippets, "README.md shows no code"
    run = subprocess.run([sys.executable, "-c", "\n".join(snippets)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]

def test_is_short_and_names_no_machine():
    prose = re.sub(r"^(```|    ).*?$|<[^>]+>|\]\([^)]*\)", " ", re.sub(r"^```.*?^```", " ", text(), flags=re.M | re.S), flags=re.M)
    assert len(re.findall(r"[A-Za-z]{2,}", prose)) <= 700      # code, links' targets and numbers aside
    assert not re.search(r"(?<![\w./:])/(home|root|tmp|work|Users)/", text())
    assert "shields.io" not in text() and "badge" not in text()
