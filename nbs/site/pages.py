"""What `make site` shows, made of the notebooks with their stored outputs; nothing is run, and Sphinx is not needed here.

Shelves, references as links, minutes and needs, the glossary, and the index of equations, tables and claims.
"""
import ast, csv, json, posixpath, re, tomllib
from collections import defaultdict
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

SITE = Path(__file__).resolve().parent
NBS, ROOT = SITE.parent, SITE.parents[1]
WORDS_A_MINUTE = 200
INDEX = "equations_tables_claims"     # the page that build.py makes, as are glossary and those of the shelves
NUMBER = r"\d\d[a-z]?"
LEGEND = " · a blue edge marks the module's code, the rest are examples"
# what a cell's directive tells a reader; all others are left out
ONLY = {"gpu": "a GPU", "net": "a network", "vllm": "vLLM", "slow": "more time than a minute"}
TAGS = {"remove_cell": "remove-cell", "remove_input": "remove-input"}       # those of nbconvert, as myst-nb calls them

class Shelf(NamedTuple):
    "Notebooks that are read for one purpose."
    name: str
    title: str
    about: str
    notebooks: list     # names below nbs/, such as book/2_when_to_ask

class Place(NamedTuple):
    "A cell that can be linked to."
    notebook: str
    cell: str           # its id

# the notebooks

@lru_cache(None)
def names():
    "All notebooks and the how-to pages written in Markdown, by their names below nbs/, the first page last."
    found = [p for p in [*NBS.rglob("*.ipynb"), *NBS.glob("howto/*.md")] if ".ipynb_checkpoints" not in p.parts and p.stem != "README"]
    return tuple(sorted((p.relative_to(NBS).with_suffix("").as_posix() for p in found), key=lambda n: (n == "index", n)))

@lru_cache(None)
def read(name):
    "A notebook; a page in Markdown as one of a single cell."
    path = NBS/f"{name}.ipynb"
    if path.exists(): return json.loads(path.read_text(encoding="utf-8"))
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    return dict(cells=[dict(cell_type="markdown", id="page", metadata={}, source=text)], metadata={}, nbformat=4, nbformat_minor=5)

def source(cell): return "".join(cell["source"])
def prose(name): return [(c["id"], source(c)) for c in read(name)["cells"] if c["cell_type"] == "markdown"]
def code(name): return [c for c in read(name)["cells"] if c["cell_type"] == "code"]
def hidden(cell): return "remove_cell" in cell["metadata"].get("tags", ()) or "hide" in directives(cell)
def directives(cell): return re.findall(r"^#\|\s*(\w+)", source(cell), re.M) if cell["cell_type"] == "code" else []

def shelves():
    "The shelves with their notebooks."
    listed = tomllib.loads((SITE/"shelves.toml").read_text(encoding="utf-8"))["shelf"]
    return [Shelf(**s | dict(notebooks=[n for pattern in s["notebooks"] for n in names() if fnmatchcase(n, pattern)])) for s in listed]

def title(name):
    "Title and subtitle, without marks of Markdown."
    found = re.match(r"# (.+)\n+> (.+(?:\n> .+)*)", next(text for _, text in prose(name)))
    return tuple(re.sub(r"[`*]", "", x.replace("\n> ", " ")) for x in found.groups())

def label(name):
    "A title as a list shows it, led by the notebook's number."
    number = re.match(NUMBER, name)
    return f"{number[0]} · {title(name)[0]}" if number else title(name)[0]

# how long, and with what

def minutes(name):
    "Minutes that the prose takes to read."
    text = re.sub(r"<[^>]+>|\]\([^)]*\)", " ", " ".join(text for _, text in prose(name)))
    return max(1, round(len(re.findall(r"\w[\w'’.-]*", text)) / WORDS_A_MINUTE))

def lines(name):
    "Lines of code that are shown."
    return sum(bool(line.strip()) and not line.startswith("#|") for c in code(name) if not hidden(c) for line in source(c).splitlines())

def module(name):
    "The module that a notebook is the source of, if any."
    found = re.search(r"^#\|\s*default_exp ([\w.]+)", "\n".join(map(source, code(name))), re.M)
    return f"corea.{found[1]}" if found else ""

def needs(name):
    "What some cells of a notebook need beyond `make setup`."
    return [words for d, words in ONLY.items() if any(d in directives(c) for c in code(name))]

def facts(name):
    "The line under a title: minutes, lines, module, needs."
    said = [f"{minutes(name)} min of text"]
    if code(name): said[0] += f", {lines(name)} lines of code"
    if module(name): said.append(f"source of `{module(name)}`")
    if code(name): said.append("needs `make setup`" + (f"; single cells need {' or '.join(needs(name))}" if needs(name) else ""))
    return " · ".join(said)

# references

KEPT = re.compile(r"```.*?```|\$\$.*?\$\$|!?\[[^\]]*\]\([^)]*\)|`[^`\n]+`|\$[^$\n]+\$", re.S)      # no reference inside these but for code spans
REFERENCE = re.compile(rf"(?<![\w./-])({NUMBER}_[a-z]\w+|\d\d[a-z]|0\d)(?![\w/]|[:.,]\d)")

@lru_cache(None)
def targets():
    "What a notebook is called in a text -> its name: 06a_base and 06a, 4_grpo_in_one_page."
    return {short: n for n in names() if (stem := n.split("/")[-1])[0].isdigit() for short in {stem, *re.findall(rf"^{NUMBER}(?=_)", n)}}

def address(page, target):
    "A link from a page to a page, both by name."
    return posixpath.relpath(f"{target}.ipynb", posixpath.dirname(page) or ".")

def linked(text, page):
    "Markdown in which each notebook is a link: named in a code span, or plainly."
    def to(shown, ref):
        target = targets().get(ref)
        return shown if target in (None, page) else f"[{shown}]({address(page, target)})"
    def kept(found):
        inside = re.fullmatch(r"`(?:nbs/)?(?:book/)?(\w+?)(?:\.ipynb)?`", found)
        if inside: return to(found, inside[1])
        return relinked(found, page) if found.startswith(("[", "!")) else found
    out, at = [], 0
    for m in [*KEPT.finditer(text), None]:
        out.append(REFERENCE.sub(lambda r: to(r[0], r[1]), text[at:m.start() if m else None]))
        if m: out, at = [*out, kept(m[0])], m.end()
    return "".join(out)

def relinked(link, page):
    "A link of a notebook as one of the site: to a page, a picture beside it, or the bare path of what the site has not."
    shown, to = re.fullmatch(r"(!?\[[^\]]*\])\(([^)]*)\)", link, re.S).groups()
    if re.match(r"\w+:|#", to): return link
    path = posixpath.normpath(posixpath.join("nbs", posixpath.dirname(page), to.partition("#")[0]))
    name = re.sub(r"\.(ipynb|md)$", "", path.removeprefix("nbs/"))
    if name in names(): return f"{shown}({address(page, name)})"
    if folder := re.fullmatch(r"(\w+)/README", name): return f"{shown}({posixpath.relpath(f'shelf_{folder[1]}.md', posixpath.dirname(page) or '.')})"
    if shown.startswith("!"): return f"{shown}({posixpath.relpath(path, posixpath.dirname(page) or '.')})"
    return f"{shown[1:-1]} (`{path}`)"

def pictures(nb, name):
    "Pictures of the repository that a page shows, by their paths in it."
    texts = [cell["source"] for cell in nb["cells"] if cell["cell_type"] == "markdown"]
    texts += [o["data"]["text/markdown"] for cell in nb["cells"] for o in cell.get("outputs", ()) if "text/markdown" in o.get("data", {})]
    found = re.findall(r"!\[[^\]]*\]\(([^):]+)\)", "\n".join(texts))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(name), to)) for to in found}

# a notebook as a page

def anchor(place): return f"cell-{place.cell}"

def shown(cell, page):
    "A cell as the page has it: without directives, with links; `None` if nothing of it is left."
    cell = json.loads(json.dumps(cell))
    marks = directives(cell)
    tags = [TAGS.get(t, t) for t in cell["metadata"].get("tags", ())]
    if "hide" in marks: tags.append("remove-cell")
    if {"export", "exporti"} & set(marks): tags.append("library")
    if source(cell).startswith("from here import"): tags.append("remove-input")      # the map at the head of a chapter
    cell["metadata"] = dict(tags=tags) if tags else {}
    text = source(cell)
    if cell["cell_type"] == "markdown": text = re.sub(r"^(?=> \*\*Eq\. (\d)\*\*)", r"(eq-\1)=\n", linked(text, page), flags=re.M)
    else:
        only = [f"# only with {ONLY[d]}\n" for d in marks if d in ONLY]
        text = "".join(only) + re.sub(r"^#\|.*\n?", "", text, flags=re.M)
        if not text.strip(): return None
        for output in cell["outputs"]:
            if "text/markdown" in output.get("data", {}): output["data"]["text/markdown"] = linked("".join(output["data"]["text/markdown"]), page)
    return cell | dict(source=text)

def page(name):
    "A notebook as the site shows it."
    nb = read(name)
    wanted, cells = {place.cell for place in linked_cells() if place.notebook == name}, []
    for raw in nb["cells"]:
        cell = shown(raw, name)
        if cell is None: continue
        if raw["id"] in wanted: cells.append(dict(cell_type="markdown", id=f"at-{raw['id']}", metadata={}, source=f"({anchor(Place(name, raw['id']))})="))
        cells.append(cell)
    return nb | dict(cells=opened(cells, name))

def opened(cells, name):
    "Cells whose first text has the line of facts under its subtitle; on the first page a list of what the site has follows it."
    i = next(i for i, c in enumerate(cells) if c["cell_type"] == "markdown")
    if name == "index": return [*cells[:i + 1], dict(cell_type="markdown", id="contents", metadata={}, source=contents()), *cells[i + 1:]]
    text = re.sub(r"\A# .+\n+>.*(?:\n>.*)*", lambda m: f"{m[0]}\n\n{{.facts}}\n{facts(name)}{LEGEND if module(name) else ''}\n", cells[i]["source"])
    return [*cells[:i], cells[i] | dict(source=text), *cells[i + 1:]]

# the index

def headings(name): return [(m[1], cell) for cell, text in prose(name) for m in re.finditer(r"^##+ +(.+?)\s*$", text, re.M)]

def slug(heading):
    "A heading's anchor, as GitHub and myst-parser have it."
    return re.sub(r"[^\w -]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")

@lru_cache(None)
def equations():
    "Number of an equation of the paper -> the cell that states it."
    return {n: Place(name, cell) for name in names() for cell, text in prose(name) for n in re.findall(r"^> \*\*Eq\. (\d)\*\*", text, re.M)}

def mentioned(text):
    "Numbers of equations that a text names: Eq. 2, Eq. 2 and 3, Eq. 1 to 6."
    found = set()
    for m in re.finditer(r"\bEqs?\. (\d(?:(?:, | and | to )\d)*)", text):
        for part in re.split(", | and ", m[1]):
            ends = [int(x) for x in part.split(" to ")]
            found |= set(range(ends[0], ends[-1] + 1))
    return {str(n) for n in found}

@lru_cache(None)
def functions():
    "Number of an equation -> (name of a function, its cell): code that is exported and says that it is that equation."
    found = defaultdict(list)
    for name in names():
        for cell in code(name):
            if not {"export", "exporti"} & set(directives(cell)): continue
            for node in ast.parse(source(cell)).body:
                if isinstance(node, ast.FunctionDef):
                    for n in mentioned(ast.get_source_segment(source(cell), node)): found[n].append((node.name, Place(name, cell["id"])))
    return dict(found)

def linked_cells(): return {place for some in functions().values() for _, place in some}

def told(n):
    "(notebook, heading) where an equation is told: headings that name it, else the whole notebook whose prose does."
    found = [(name, heading) for name in names() for heading, _ in headings(name) if n in mentioned(heading)]
    whole = [name for name in names() if name != equations()[n].notebook and any(n in mentioned(text) for _, text in prose(name))]
    return found + [(name, "") for name in whole if name not in dict(found)]

@lru_cache(None)
def drawn():
    "(Table or Figure, number) -> (notebook, heading, id): where the paper's is shown, by the headings on the shelf of results."
    found = {}
    for name in next(s for s in shelves() if s.name == "results").notebooks:
        for heading, cell in headings(name):
            for kind, first, to, last in re.findall(r"\b(Table|Figure)s? (\d+)(?:( to | and |–)(\d+))?", heading):
                for n in range(int(first), int(last or first) + 1): found.setdefault((kind, n), (name, heading, item(name, cell, kind, n)))
    return found

def item(name, cell, kind, n):
    "The id of a table or figure: its number, unless the code below its heading asks for another."
    cells = read(name)["cells"]
    at = next(i for i, c in enumerate(cells) if c["id"] == cell)
    below = [found for c in cells[at + 1:at + 4] for found in re.findall(r'show\("(\w+)"\)', source(c))]
    usual = f"{kind.lower()}_{n:02}"
    return usual if usual in below or not below else below[0]

@lru_cache(None)
def runs():
    "Committed runs with what each says of its tables and figures, by id; the usual run first."
    found = sorted((ROOT/"paper_figures").glob("*/sentences.md"), key=lambda p: (p.parent.name != "laptop", p.parent.name))
    return {p.parent.name: dict(re.findall(r"^- `(\w+)`: (.+)$", p.read_text(encoding="utf-8"), re.M)) for p in found}

def result(run, item):
    "What a run says of a table or figure, by its id, or why it has none."
    if said := runs()[run].get(item): return said
    path = ROOT/"paper_figures"/run/"tables"/f"{item}.md"
    found = re.search(r"^Not run: (.+)$", path.read_text(encoding="utf-8"), re.M) if path.exists() else None
    return f"not run: {found[1]}" if found else "nothing in words."

def number(value, unit):
    "A number of the board as the board's notebook writes it."
    return (f"{float(value):+.1f} {unit}" if unit else f"{float(value):.2f}").replace("-", "−") if value else "–"

@lru_cache(None)
def board():
    "Claim of the paper -> (the paper's number, run -> verdict), over all committed runs."
    found = {}
    with (ROOT/"paper_figures"/"board"/"board.csv").open(encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            if row["whose"] != "paper": continue
            found.setdefault(row["claim"], (number(row["paper"], row["unit"]), {}))[1][row["run"]] = row["verdict"]
    return found

def verdicts(claim):
    "A claim's verdicts in one line: alike in all runs that judged it, or run by run."
    each = board()[claim][1]
    return next(iter(each.values())) if len(set(each.values())) == 1 else "; ".join(f"{run}: {v}" for run, v in each.items())

# the pages that are made

def cell_text(text): return text.replace("|", "\\|").replace("\n", " ")

def table(head, rows): return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(map(cell_text, r)) + " |" for r in rows)])

def toctree(entries, *options): return "\n".join(["```{toctree}", *(f":{o}:" for o in options), "", *entries, "```"])

def contents():
    "What the site has, for its first page: the shelves, the glossary and the index."
    rows = [f"- [{s.title}](shelf_{s.name}.md): {s.about}" for s in shelves()]
    rows += ["- [Ask it here](demo.md): both models answer in your browser.",
             "- [Glossary](glossary.md): each term in one line.",
             f"- [Equations, tables and claims]({INDEX}.md): where each of the paper's is, and what became of it."]
    return "\n".join(rows) + "\n\n" + toctree([*(f"shelf_{s.name}" for s in shelves()), "demo", "glossary", INDEX], "hidden")

def shelf_page(shelf):
    "A shelf: its notebooks with subtitle, minutes and needs."
    rows = [f"- [{label(n)}]({n}.ipynb). {title(n)[1]}\n\n  {{.facts}}\n  {facts(n)}\n" for n in shelf.notebooks]
    return "\n".join([f"# {shelf.title}\n\n{shelf.about}\n", *rows, toctree([f"{label(n)} <{n}>" for n in shelf.notebooks], "hidden")]) + "\n"

def glossary():
    "Term -> what it is short for, what it means and where it is told; for the first page too."
    return tomllib.loads((SITE/"glossary.toml").read_text(encoding="utf-8"))

def glossary_page():
    "Each term in one line, with the notebook that tells it."
    rows = []
    for term, t in glossary().items():
        short = f"{t['short_for']}: " if "short_for" in t else ""
        rows.append(f"{term}\n  {short}{t['means']} ([{label(t['told_in'])}]({t['told_in']}.ipynb))\n")
    return "\n".join(["# Glossary\n\nEach term in one line, and the notebook that tells it at length.\n", "```{glossary}\n:sorted:", *rows, "```\n"])

def index_page():
    "Equations with the code that computes them, tables and figures with what the runs say, claims with their verdicts."
    page_of = lambda name, at="", text="": f"[{text or label(name)}]({name}.ipynb{at and '#' + at})"
    eqs = [(page_of(place.notebook, f"eq-{n}", f"Eq. {n}"), ", ".join(f"[`{f}`](#{anchor(c)})" for f, c in functions().get(n, [])),
            ", ".join(page_of(name, slug(h), h) for name, h in told(n))) for n, place in sorted(equations().items())]
    items = []
    for (kind, n), (name, heading, item) in sorted(drawn().items(), key=lambda x: (x[0][0] != "Table", x[0][1])):
        words = re.sub(r"^\w+ [\d to]+(\. )?", "", heading)
        items += [f"- {page_of(name, slug(heading), f'{kind} {n}')}{words and '. '}{words}", *(f"  - `{run}`: {result(run, item)}" for run in runs())]
    board_notebook = next(n for n in names() if n.startswith("13b_"))
    claims = [(claim, paper, verdicts(claim)) for claim, (paper, _) in board().items()]
    return "\n\n".join([
        "# Equations, tables and claims",
        "Where each of the paper's is in these notebooks, and what became of it. This page is computed from them and from the committed records.",
        "## Equations", table(["equation", "computed by", "told in"], eqs),
        "## Tables and figures", "What each committed run says of them.", "\n".join(items),
        "## Claims", f"The paper's claims with the verdicts of all committed runs; {page_of(board_notebook)} has the numbers and their intervals.",
        table(["claim", "the paper's number", "verdict"], claims)]) + "\n"

def made():
    "Pages that are no notebooks: path -> text; that of the models is written by hand."
    own = {"demo.md": (SITE/"demo.md").read_text(encoding="utf-8"), "glossary.md": glossary_page(), f"{INDEX}.md": index_page()}
    return {f"shelf_{s.name}.md": shelf_page(s) for s in shelves()} | own
