"The book: eight chapters that a newcomer reads in an evening, each short, each with its terms in full, its links alive and its numbers computed."
import importlib.util, json, re
from pathlib import Path
import pytest

BOOK = Path(__file__).resolve().parents[1]/"nbs"/"book"
CHAPTERS = sorted(BOOK.glob("*.ipynb"))
WORDS, CELLS = 900, 40
# what a newcomer cannot know -> words that must stand where it is first used in the book, or before
TERMS = {"SLM": "small language model", "LLM": "large language model", "Pass@1": "share of right answers at one attempt",
         "ECE": "expected calibration error", "AUROC": "area under the receiver operating characteristic",
         "chord": "straight line between the two models", "oracle": "somebody who knows all the answers", "deferral": "is called *deferring*",
         "RLVR": "reinforcement learning with verifiable rewards", "KL": "Kullback-Leibler divergence",
         "GRPO": "group relative policy optimization", "OOD": "out of domain", "τ": "**threshold**"}
# how much chance decided, in the chapters that make claims
CAREFUL = {"5": ["expected confidence"], "7": ["expected confidence", "control", "luck", "scale"], "8": ["expected confidence", "scale"]}

def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]
def source(cell): return "".join(cell["source"])
def prose(path): return [source(c) for c in cells(path) if c["cell_type"] == "markdown"]
def plain(text): return re.sub(r"<[^>]+>|\]\([^)]*\)", " ", text)

def each(test): return pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)(test)

def printed(cell): return "".join("".join(o.get("text", "")) for o in cell.get("outputs", []))

def test_chapters_are_numbered_from_one():
    assert [p.stem.split("_")[0] for p in CHAPTERS] == [str(k) for k in range(1, len(CHAPTERS) + 1)] and len(CHAPTERS) == 8

@each
def test_is_short(path):
    words = len(re.findall(r"\w[\w'’.-]*", plain(" ".join(prose(path)))))
    assert words <= WORDS and len(cells(path)) <= CELLS, f"{words} words, {len(cells(path))} cells"

@each
def test_begins_with_the_map_and_its_own_place(path):
    n = path.stem.split("_")[0]
    title, first = cells(path)[:2]
    assert source(title).startswith(f"# {n} · ") and source(first) == f"from here import you_are_here\nyou_are_here({n})"
    assert any("image/png" in o.get("data", {}) for o in first["outputs"])

@each
def test_ends_with_three_questions_answered_below(path):
    book = cells(path)
    at = next(i for i, c in enumerate(book) if "## Three questions\n" in source(c))
    asked = source(book[at]).partition("## Three questions")[2]
    assert re.findall(r"^(\d)\. .*\?$", re.sub(r"\n(?!\d\. )", " ", asked), re.M) == ["1", "2", "3"]
    answers = [c for c in book[at + 1:] if c["cell_type"] == "code"]
    assert [printed(c)[:2] for c in answers] == ["1.", "2.", "3."], "each question is answered by a cell that prints its number first"

@each
def test_links_lead_somewhere_and_notebooks_are_links(path):
    for text in prose(path):
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            assert re.match(r"https://", link) or (path.parent/link).exists(), f"{link} does not exist"
        unlinked = re.sub(r"\[[^]]*\]\([^)]*\)", "", text)
        assert not re.search(r"\b\d\d[a-z]?_[a-z]\w+", unlinked), f"a notebook named without a link: {text[:80]}"

@each
def test_no_result_is_typed(path):
    "What is measured comes from a cell; 95 % is the level of every interval."
    for text in prose(path):
        text = re.sub(r"\]\([^)]*\)|`[^`]*`|\$[^$]*\$|95 %", "", text)
        assert not (found := re.findall(r"\b\d+\.\d{2,}\b|\b\d[\d.]* ?%", text)), found

def test_terms_are_spelt_out_where_they_first_stand():
    said, missing = "", set(TERMS)
    for path in CHAPTERS:
        for text in prose(path):
            # a heading, a subtitle or a link to what comes may name it before
            text = re.sub(r"^[#>].*$|\[[^]]*\]\([^)]*\)|`[^`]*`", "", text, flags=re.M)
            said += " " + re.sub(r"\s+", " ", text)
            for term in [t for t in missing if re.search(rf"(?<!\w){re.escape(t)}(?!\w)", text)]:
                assert TERMS[term].lower() in said.lower(), f"{path.stem}: {term} is not explained where it is first used"
                missing.remove(term)
    assert not missing, f"never used: {', '.join(missing)}"

@pytest.mark.parametrize("n", CAREFUL)
def test_claims_stand_beside_what_limits_them(n):
    path = next((p for p in CHAPTERS if p.stem.startswith(f"{n}_")), None)
    text = " ".join(prose(path)).lower()
    assert "be careful" in text and all(word in text for word in CAREFUL[n])

def test_the_map_marks_one_chapter():
    spec = importlib.util.spec_from_file_location("here", BOOK/"here.py")
    here = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(here)
    assert len(here.CHAPTERS) == len(CHAPTERS)
    fills = lambda n: [p.get_facecolor() for p in here.you_are_here(n).axes[0].patches if p.get_width() > .5]
    first, third = fills(1), fills(3)
    assert len(first) == 8 and len(set(first)) == 2 and first[0] == third[2] and third[0] == third[1] != third[3] == first[1]
