"""Builds the site: `make site`, or python nbs/site/build.py [folder], artifacts/site unless told otherwise. Nothing is run.

The pages are laid in artifacts/site-work first; a second build makes only those anew that have changed.
"""
import json, shutil, sys, time
from pathlib import Path
from pages import ROOT, SITE, made, names, page, pictures

MODELS = ("slm-corea", "llm")       # as in demo.js

def write(path, text):
    "Writes a file unless it says so already."
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text: path.write_text(text, encoding="utf-8")

def lay(folder):
    "Every page and picture into a folder, and nothing else."
    pages = {name: page(name) for name in names()}
    files = {f"{name}.ipynb": json.dumps(nb, ensure_ascii=False, sort_keys=True) for name, nb in pages.items()} | made()
    for path, text in files.items(): write(folder/path, text)
    shown = set().union(*(pictures(nb, name) for name, nb in pages.items()))
    for path in shown:
        (folder/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT/path, folder/path)
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in {*files, *shown}: path.unlink()

def lay_models(folder):
    "What the page of the models reads."
    for path in (ROOT/"corea"/"files"/"models"/name/file for name in MODELS for file in ("config.json", "tokenizer.json", "model.safetensors")):
        (folder/path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder/path.parent.name/path.name)

def main(out, work=None):
    "Sphinx's status: 0 if there was no warning."
    from sphinx.cmd.build import build_main
    start, out = time.time(), Path(out).resolve()
    work = Path(work or ROOT/"artifacts"/"site-work")
    lay(work/"source")
    failed = build_main(["-q", "-W", "--keep-going", "-c", str(SITE), "-d", str(work/"doctrees"), str(work/"source"), str(out)])
    lay_models(out/"models")
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6
    print(f"{len(list(out.rglob('*.html')))} pages, {size:.1f} MB, {time.time() - start:.0f} s: {out/'index.html'}")
    return failed

if __name__ == "__main__": sys.exit(main(*sys.argv[1:] or [ROOT/"artifacts"/"site"]))
