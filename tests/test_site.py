"""The site's pages as they are made of the notebooks, and, where Sphinx is installed (`make site`), the site itself."""
import importlib.util, json, posixpath, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
import pytest
from test_book import TERMS

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("pages", ROOT/"nbs"/"site"/"pages.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)
MEGABYTES = 50

each = pytest.mark.parametrize("name", pages.names())

def texts(nb):
    "Prose and Markdown outputs of a notebook as the site has it."
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown": yield cell["source"]
        yield from (o["data"]["text/markdown"] for o in cell.get("outputs", ()) if "text/markdown" in o.get("data", {}))

# shelves

def test_every_notebook_stands_on_one_shelf():
    placed = [n for s in pages.shelves() for n in s.notebooks]
    assert not (lost := set(pages.names()) - {"index"} - set(placed)), f"on no shelf: {', '.join(sorted(lost))}; add it to nbs/site/shelves.toml"
    assert not (twice := {n for n in placed if placed.count(n) > 1}), f"on two shelves: {', '.join(sorted(twice))}"

def test_shelves_are_complete_pages():
    made = pages.made()
    for shelf in pages.shelves():
        text = made[f"shelf_{shelf.name}.md"]
        assert shelf.notebooks and all(f"[{pages.label(n)}]({n}.ipynb)" in text and f"<{n}>" in text for n in shelf.notebooks)
        assert f"shelf_{shelf.name}" in pages.contents()

@each
def test_cells_have_ids_of_their_own(name):
    ids = [c["id"] for c in pages.read(name)["cells"]]
    assert not (twice := {i for i in ids if ids.count(i) > 1}), f"nbs/{name}.ipynb: the id {twice} stands twice"

# references

@pytest.mark.parametrize("page,text,wanted", [
    ("03_metrics", "see `06a_base`.", "see [`06a_base`](06a_base.ipynb)."),
    ("03_metrics", "06a_base and 06a, but 6a", "[06a_base](06a_base.ipynb) and [06a](06a_base.ipynb), but 6a"),
    ("book/2_when_to_ask", "`nbs/08_cascade.ipynb`", "[`nbs/08_cascade.ipynb`](../08_cascade.ipynb)"),
    ("book/2_when_to_ask", "[chapter 1](1_sure_of_everything.ipynb)", "[chapter 1](1_sure_of_everything.ipynb)"),
    ("index", "[13b](../nbs/13b_board.ipynb), [b](../nbs/book/1_sure_of_everything.ipynb)", "[13b](13b_board.ipynb), [b](book/1_sure_of_everything.ipynb)"),
    ("index", "![p](../paper_figures/idea.svg)", "![p](paper_figures/idea.svg)"),
    ("index", "[tables](../paper_figures/laptop/tables)", "tables (`paper_figures/laptop/tables`)"),
    ("03_metrics", "`03_metrics`, 0.05, 05:30, 1.02 and $08$", "`03_metrics`, 0.05, 05:30, 1.02 and $08$"),
    ("03_metrics", "`papermill nbs/10_results.ipynb` and [a](https://b.c/06a_base)", "`papermill nbs/10_results.ipynb` and [a](https://b.c/06a_base)"),
    ("03_metrics", "```\n`06a_base`\n```", "```\n`06a_base`\n```"), ("03_metrics", "`endpoint` and `recorded`", "`endpoint` and `recorded`"),
    ("book/2_when_to_ask", "[how](../howto/README.md)", "[how](../shelf_howto.md)")])
def test_references_become_links(page, text, wanted):
    assert pages.linked(text, page) == wanted

@each
def test_every_reference_resolves(name):
    made, nb = {*pages.made(), *(f"{n}.ipynb" for n in pages.names())}, pages.page(name)
    for text in texts(nb):
        for to in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```|(?<!\[)`[^`\n]+`(?!\])|\$[^$\n]+\$", "", text, flags=re.S)):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), to.partition("#")[0]))
            assert re.match(r"https?:|mailto:", to) or path in made, f"nbs/{name}.ipynb: {to} is no page"
        for ref in re.findall(r"(?<!\[)`(\d\d[a-z]?_\w+)`", text):
            assert pages.targets().get(ref) == name, f"nbs/{name}.ipynb: no notebook {ref}"
    assert all((ROOT/p).exists() for p in pages.pictures(nb, name))

# pages

@each
def test_no_directive_is_shown(name):
    assert not [c["id"] for c in pages.page(name)["cells"] if c["cell_type"] == "code" and re.search(r"^#\|", c["source"], re.M)]

def test_what_a_page_needs_is_said():
    nb = pages.page("01a_published")
    said = next(t for t in texts(nb) if "{.facts}" in t)
    assert re.search(r"\d+ min of text, \d+ lines of code · source of `corea\.published`", said) and "single cells need a network" in said
    assert any(c["source"].startswith("# only with a network\n") for c in nb["cells"])
    assert {"library"} <= {t for c in nb["cells"] for t in c["metadata"].get("tags", ())}

def test_hidden_cells_stay_hidden():
    tags = {c["id"]: c["metadata"].get("tags", []) for c in pages.page("index")["cells"]}
    for cell in pages.read("index")["cells"]:
        given = cell["metadata"].get("tags", [])
        assert ("remove-cell" in tags.get(cell["id"], ["remove-cell"])) == ("remove_cell" in given)
    assert pages.lines("index") < sum(len(pages.source(c).splitlines()) for c in pages.code("index")) / 4

# glossary and index

def test_the_glossary_has_each_term_in_one_line():
    terms = pages.glossary()
    asked = {"RLVR", "GRPO", "ECE", "AUROC", "Pass@1", "chord", "coin", "oracle", "OOD", "group L1", "τ", "cascade", "deferral"} | set(TERMS)
    assert asked <= set(terms), f"missing: {asked - set(terms)}"
    for term, t in terms.items():
        assert set(t) <= {"short_for", "means", "told_in"} and t["told_in"] in pages.names(), term
        assert len(t["means"].split()) < 40 and "\n" not in t["means"], f"{term}: one line"

@pytest.mark.parametrize("term", [t for t in TERMS if t != "deferral"])
def test_the_glossary_says_what_the_book_says(term):
    t = pages.glossary()[term]
    assert TERMS[term].lower() in f"{t.get('short_for', '')} {t['means']}".lower()

@pytest.mark.parametrize("term", pages.glossary())
def test_a_term_is_told_where_the_glossary_says(term):
    t = pages.glossary()[term]
    text = re.sub(r"\s+", " ", " ".join(text for _, text in pages.prose(t["told_in"])).lower())
    known = {term.lower(), t.get("short_for", term).lower(), {"deferral": "deferring"}.get(term, term.lower())}
    assert any(re.search(rf"(?<!\w){re.escape(k)}", text) for k in known), f"{t['told_in']} does not speak of {term}"

def test_equations_tables_and_figures_are_all_found():
    stated = [n for name in pages.names() for text in texts(pages.page(name)) for n in re.findall(r"^\(eq-(\d)\)=\n> ", text, re.M)]
    assert stated == sorted(pages.equations()) == list("123456"), "each once"
    assert [f for f, _ in pages.functions()["5"]] == ["kl"] and [f for f, _ in pages.functions()["6"]] == ["group_rate"]
    numbers = (ROOT/"corea"/"files"/"paper_numbers.csv").read_text(encoding="utf-8").splitlines()[1:]
    tables = {int(n) for line in numbers if (n := line.split(",")[1]).isdigit()}
    assert tables == {n for kind, n in pages.drawn() if kind == "Table"} == set(range(1, 16))
    assert {n for kind, n in pages.drawn() if kind == "Figure"} == set(range(2, 10))

def test_the_index_says_what_became_of_each():
    text = pages.index_page()
    for kind, n in pages.drawn(): assert re.search(rf"^- \[{kind} {n}\]\(\S+#\S+\)", text, re.M), f"{kind} {n}"
    assert len(re.findall(r"^  - `laptop`: \S", text, re.M)) == len(pages.drawn())
    assert len(pages.board()) > 30 and all(claim in text for claim in pages.board())
    assert {v for _, runs in pages.board().values() for v in runs.values()} <= {"reproduced", "direction holds", "not reproduced", "not run"}

@pytest.mark.parametrize("text,numbers", [("Eq. 5", "5"), ("(Eq. 2 and 3)", "23"), ("Eq. 2, 3 and 5 become", "235"), ("Eq. 1 to 6", "123456"), ("Equations", "")])
def test_equations_that_a_text_names(text, numbers): assert pages.mentioned(text) == set(numbers)

# the models in the browser

ASK = """
const fs = require("fs"), {loadModel, decide} = require(process.argv[1]);
const read = async path => { const b = fs.readFileSync(path); return b.buffer.slice(b.byteOffset, b.byteOffset + b.length); };
(async () => {
  const [folder, tau, questions] = JSON.parse(fs.readFileSync(0, "utf8"));
  const [slm, llm] = await Promise.all(["slm-corea", "llm"].map(name => loadModel(`${folder}/${name}`, read)));
  console.log(JSON.stringify(questions.map(q => {
    const small = slm.ask(q);
    return {text: small.text, ...decide(small, small.confidence >= tau ? {} : llm.ask(q), tau)};
  })));
})();
"""

@pytest.fixture(scope="module")
def node():
    found = shutil.which("node")
    if not found: pytest.skip("node is not installed")
    return lambda program, given: json.loads(subprocess.run([found, "-e", program, str(ROOT/"nbs"/"site"/"demo.js")], input=json.dumps(given),
                                                            capture_output=True, text=True, check=True).stdout)

def test_the_browser_answers_as_the_cascade_does(node):
    "Greedy, a hundred questions of all families."
    pytest.importorskip("torch")
    from corea.cascade import Cascade
    from corea.core import MODELS
    from corea.data import load_questions
    from corea.generate import Sampling
    questions = [q["question"] for family in ("calc", "word", "even", "clock", "queue", "letters") for q in load_questions(family, "dev", 17)][:100]
    cascade = Cascade(MODELS/"slm-corea", MODELS/"llm", tau=0.5, sampling=Sampling(temperature=0, max_tokens=128))
    wanted, found = cascade.answers(questions), node(ASK, [str(MODELS), 0.5, questions])
    assert len(wanted) == 100 and {a.who for a in wanted} == {"slm", "llm"}
    differ = [(q, a.who, a.answer, a.cost, f) for q, a, f in zip(questions, wanted, found)
              if (a.who, a.answer) != ({"small": "slm", "large": "llm"}[f["who"]], f["answer"]) or abs(a.cost - f["cost"]) > 1e-6]
    assert not differ, "\n".join(map(str, differ))

@pytest.mark.parametrize("text", ["Work out 15 (a) + 91 (b) - 34.", "naïve – τ ≤ 1 🙂 & }", "Ann has 3 coins, then gets 4", "a\nb\tc"])
def test_the_browser_reads_as_the_tokenizer_does(node, text):
    tokenizers = pytest.importorskip("tokenizers")
    path = ROOT/"corea"/"files"/"models"/"llm"/"tokenizer.json"
    program = "const {Tokenizer} = require(process.argv[1]), [json, text] = JSON.parse(require('fs').readFileSync(0, 'utf8')), t = new Tokenizer(json);\
console.log(JSON.stringify([t.encode(text), t.decode(t.encode(text))]))"
    ids, back = node(program, [json.loads(path.read_text(encoding="utf-8")), text])
    assert ids == tokenizers.Tokenizer.from_file(str(path)).encode(text).ids and back == text

# the site

class Page(HTMLParser):
    "What a page asks for, where it leads, and what can be led to."
    def __init__(self, path):
        super().__init__()
        self.asks, self.leads, self.ids = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))
    def handle_starttag(self, tag, attrs):
        attrs = {k: v or "" for k, v in attrs}
        self.ids |= {attrs[k] for k in ("id", "name") if k in attrs}
        if tag == "a" and "href" in attrs: self.leads.add(attrs["href"])
        elif tag != "meta": self.asks |= {attrs[k] for k in ("src", "href", "srcset", "data", "poster") if k in attrs}
        self.asks |= set(re.findall(r"url\(['\"]?([^)'\"]+)", attrs.get("style", "")))

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("sphinx") is None: pytest.skip("Sphinx is not installed: `make site` does so")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, str(ROOT/"nbs"/"site"/"build.py"), str(out/"html"), str(out/"work")], capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return out/"html"

@pytest.fixture(scope="module")
def built(site): return {p.relative_to(site).as_posix(): Page(p) for p in site.rglob("*.html")}

def test_every_page_is_there(built):
    assert {f"{n}.html" for n in pages.names()} | {p.replace(".md", ".html") for p in pages.made()} | {"search.html"} <= set(built)

def test_no_page_asks_another_address(site, built):
    outside = {(name, x) for name, page in built.items() for x in page.asks if re.match(r"(\w+:)?//", x)}
    outside |= {(p.name, x) for p in site.rglob("*.css") for x in re.findall(r"url\(['\"]?((?:\w+:)?//[^)]*)|@import[^;]*", p.read_text(encoding="utf-8"))}
    assert not outside

def test_links_lead_to_pages_and_places(built):
    lost = []
    for name, page in built.items():
        for link in page.leads:
            at = urlsplit(link)
            if at.scheme or at.netloc: continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(at.path))) if at.path else name
            if path not in built: lost.append(f"{name}: {link}")
            elif at.fragment and unquote(at.fragment) not in built[path].ids: lost.append(f"{name}: {link} is no place")
    assert not lost, "\n".join(lost[:20])

def test_two_clicks_from_the_first_page(built):
    "Eq. 5, Table 13 and training on one's own data."
    index = f"{pages.INDEX}.html"
    assert {index, "shelf_howto.html"} <= built["index.html"].leads
    assert {"04_reward.html#eq-5"} <= built[index].leads
    assert any("table-13" in link for link in built[index].leads) and any("train" in link for link in built["shelf_howto.html"].leads)

def test_math_is_drawn_by_what_lies_beside_the_page(site, built):
    [script] = [x for x in built["04_reward.html"].asks if "tex-svg" in x]
    assert (site/urlsplit(script).path).stat().st_size > 1e6

def test_the_models_lie_beside_their_page(site, built):
    assert "demo.html" in built["index.html"].leads and any("demo.js" in x for x in built["demo.html"].asks)
    for name in re.findall(r'"([\w-]+)"', re.search(r"start\.models \?\?= Promise\.all\(\[(.*?)\]", (site/"_static"/"demo.js").read_text(encoding="utf-8"))[1]):
        for file in ("config.json", "tokenizer.json", "model.safetensors"):
            assert (site/"models"/name/file).read_bytes() == (ROOT/"corea"/"files"/"models"/name/file).read_bytes()

def test_is_small(site):
    assert sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) < MEGABYTES * 1e6

def test_is_searched_by_words_of_the_glossary(site):
    found = (site/"searchindex.js").read_text(encoding="utf-8").lower()
    assert all(f'"{word}"' in found or f"{word}:" in found for word in ("grpo", "auroc", "oracl", "chord"))
