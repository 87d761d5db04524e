"""Do the notebooks still print what is stored in them? `make outputs`, before a commit that changes what some cell shows.

    python tests/outputs.py [--store] [NOTEBOOK ...]       # names such as 04_reward or book/2_when_to_ask; all but 10_results and 10a_tables by default

runs each notebook as a reader would, one thread, no progress bars, and compares every cell's text with the stored one. Pictures are not
compared. A cell whose text depends on the machine or the clock has the tag `varies`: it must still print as many lines, no more is asked of it.
--store writes the new outputs of the cells that differ, and of no others, into the notebook.
"""
import argparse, difflib, json, os, re, sys
from itertools import groupby
from pathlib import Path

NBS = Path(__file__).resolve().parents[1]/"nbs"
SKIPPED = re.compile(r"^#\|\s*(gpu|slow|net|vllm)\b|^#\|\s*eval:\s*false", re.M)      # as nbdev_test has it

def shown(output):
    "What one output says beside pictures."
    found = next((x for kind in ("text/markdown", "text/html", "text/plain") if (x := output.get("data", {}).get(kind))), "")
    return "".join(found)

def text_of(outputs):
    "What a cell says, without what is new in every run."
    said = []
    for stream, some in groupby(outputs, key=lambda o: o.get("name")):      # a slow machine sends what is printed in several pieces
        if stream: said.append("".join("".join(o["text"]) for o in some) if stream == "stdout" else "")
        else: said += [shown(o) for o in some]
    text = "\n".join(said)
    text = re.sub(r"\bT_[0-9a-f]{5}", "T_", text)               # pandas' name of a styled table
    return re.sub(r" at 0x[0-9a-f]+|ipykernel_\d+|/tmp/\w+", "", text).strip()

def differences(stored, again):
    "(position of the cell, lines that differ) for each cell that says something else."
    for i, (a, b) in enumerate(zip(stored["cells"], again["cells"])):
        if a["cell_type"] != "code" or SKIPPED.search("".join(a["source"])): continue
        old, new = text_of(a["outputs"]), text_of(b["outputs"])
        if "varies" in a["metadata"].get("tags", []) and len(old.splitlines()) == len(new.splitlines()): continue
        if old != new:
            yield i, [line for line in difflib.unified_diff(old.splitlines(), new.splitlines(), "stored", "now", lineterm="", n=0)][2:]

def run(path):
    "A notebook with the outputs of today."
    import nbformat
    from nbclient import NotebookClient
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code" and SKIPPED.search(cell.source): cell.source = ""
    NotebookClient(nb, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    return json.loads(nbformat.writes(nb))

def everything():
    "Names of all notebooks that are compared: the book's chapters too."
    paths = [p for g in ("*.ipynb", "book/*.ipynb") for p in NBS.glob(g) if not p.stem.startswith("10_")]
    return sorted(p.relative_to(NBS).with_suffix("").as_posix() for p in paths)

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*")
    parser.add_argument("--store", action="store_true", help="keep the new outputs")
    args, behind = parser.parse_args(argv), 0
    os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false", PYTHONHASHSEED="0")
    for name in args.notebooks or everything():
        path = NBS/f"{name}.ipynb"
        stored = json.loads(path.read_text(encoding="utf-8"))
        again = run(path)
        found = list(differences(stored, again))
        behind += len(found)
        print(f"{name}: {len(found)} cells say something else" if found else f"{name}: as stored", flush=True)
        for i, lines in found:
            print(f"  cell {i} ({stored['cells'][i]['id']})", *(f"    {line[:160]}" for line in lines[:12]), sep="\n", flush=True)
            if args.store: stored["cells"][i]["outputs"] = again["cells"][i]["outputs"]
        if found and args.store: path.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return behind > 0 and not args.store

if __name__ == "__main__": sys.exit(main())
