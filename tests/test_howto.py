"The how-to pages do what they say: pasted into an empty folder outside the clone, and their links lead somewhere."
import importlib.util, math, os, re, sys
import pytest
from corea import metrics
from corea.answer import prompt
from corea.core import FILES
from howto import ELSEWHERE, FENCE, HOWTO, PAGES, said, script, stored, wording

def text_of(page): return (HOWTO/f"{page}.md").read_text(encoding="utf-8")

@pytest.mark.parametrize("page", PAGES)
def test_pasted_it_works_and_says_what_the_page_says(page, tmp_path):
    if page in ELSEWHERE and not os.environ.get(ELSEWHERE[page]): pytest.skip(f"{ELSEWHERE[page]} names no interpreter with what {page} needs")
    parts = said(page, tmp_path, os.environ.get(ELSEWHERE.get(page, ""), sys.executable))
    assert [wording(part) for part in parts] == [wording(part) for part in stored(page)], f"run tests/howto.py --store {page}"

def test_a_page_that_fails_is_told_with_its_part(tmp_path, monkeypatch):
    monkeypatch.setattr("howto.script", lambda page: "set -e\nprintf '\\0360\\n'\necho one\nprintf '\\0361\\n'\nsleep 60 & false\n")
    with pytest.raises(AssertionError, match="recorded, part 2: exit status 1"): said("recorded", tmp_path)

def test_numbers_are_the_machines_and_words_are_not():
    assert wording("Pass@1 0.70 [0.5, 0.9], about 40 s, corea-policy-754ff726") == wording("Pass@1 0.65  [0.4, 0.8], about 2 min, corea-policy-00ad1234")
    assert wording("kept if stated is 0.9") != wording("kept if expected is 0.9")

@pytest.mark.parametrize("page", ["README", *PAGES])
def test_is_short_and_its_links_lead_somewhere(page):
    lines = text_of(page).splitlines()
    assert lines[0].startswith("# ") and lines[1].startswith("> ")
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    assert len(re.findall(r"[A-Za-z]{2,}", prose)) < 600
    for link in re.findall(r"\]\(([^)#\s]+)", prose): assert link.startswith("https://") or (HOWTO/link).exists(), link
    assert not re.search(r"\b\d\d[a-z]?_[a-z]\w+", re.sub(r"\[[^]]*\]\([^)]*\)", "", prose)), "a notebook named without a link"

def test_all_pages_are_on_the_first_and_what_is_not_run_is_marked():
    assert all(f"]({page}.md)" in text_of("README") for page in PAGES)
    kinds = {kind for page in PAGES for kind in re.findall(r"^```(\S.*)$", text_of(page), re.M)}
    assert kinds <= {"bash", "python", "text", "yaml", "bash not-here"}
    assert all(len(FENCE.findall(text_of(page))) == script(page).count("printf '\\036") for page in PAGES)

# ---- the tasks for evaluation harnesses, without the harnesses

SAID = [(r"That is \boxed{2} \confidence{0.9}", 1), (r"\boxed{3} \confidence{0.2}", 1), (r"\boxed{2}", 0), (r"\boxed{5} \confidence{0.6}", None)]

@pytest.fixture(scope="module")
def task():
    spec = importlib.util.spec_from_file_location("lm_eval_confidence", FILES/"harness"/"lm_eval_confidence.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def test_the_task_asks_reads_and_scores_as_this_project_does(task):
    docs = [dict(question="What is 1 + 1?", gold="2", llm_correct=z) for _, z in SAID]
    assert task.doc_to_text(docs[0]) == prompt("What is 1 + 1?")
    found = [task.process_results(doc, [text]) for doc, (text, _) in zip(docs, SAID)]
    assert [f["acc"] for f in found] == [1, 0, 1, 0] and [f["states_confidence"] for f in found] == [1, 1, 0, 1]
    c, y, z = [.9, .2, None, .6], [1, 0, 1, 0], [1, 1, 0]
    rows = [f["ece"] for f in found]
    assert rows == list(zip(c, y, [*z, None]))
    assert (task.ece(rows), task.auroc(rows), task.benefit_auroc(rows)) == (metrics.ece(c, y), metrics.auroc(c, y), metrics.benefit_auroc(c[:3], y[:3], z))
    assert 0 < task.ece(rows) < 1 and math.isnan(task.benefit_auroc(rows[3:]))

def test_the_kind_of_grading_is_the_questions_own(task):
    "B) is the letter B where that is asked, and no number."
    doc, said = dict(question="Which?", gold="B"), [r"\boxed{(b)} \confidence{1}"]
    assert task.process_results(doc | dict(kind="exact"), said)["acc"] == 1
    assert task.process_results(dict(question="How much?", gold="1000", kind=None), [r"\boxed{1,000}"])["acc"] == 1

def test_the_task_names_functions_that_there_are_and_every_measure(task):
    text = (FILES/"harness"/"lm_eval_confidence.yaml").read_text()
    named = re.findall(r"!function (\w+)\.(\w+)", text)
    assert {module for module, _ in named} == {"lm_eval_confidence"} and all(callable(getattr(task, name)) for _, name in named)
    said = task.process_results(dict(question="", gold="1"), [""])
    assert re.findall(r"metric: (\w+)", text) == list(said)
    assert "corea_confidence" in text and "corea_confidence" in text_of("harness")
