"The how-to pages do what they say: pasted into an empty folder outside the clone, and their links lead somewhere."
import os, re
import pytest
from howto import ELSEWHERE, FENCE, HOWTO, PAGES, said, script, stored, wording

def text(page): return (HOWTO/f"{page}.md").read_text(encoding="utf-8")

@pytest.mark.parametrize("page", PAGES)
def test_pasted_it_works_and_says_what_the_page_says(page, tmp_path):
    if page in ELSEWHERE and not os.environ.get(ELSEWHERE[page]): pytest.skip(f"{ELSEWHERE[page]} names no interpreter with what {page} needs")
    parts = said(page, tmp_path, *[os.environ[ELSEWHERE[page]]] * (page in ELSEWHERE))
    assert [wording(part) for part in parts] == [wording(part) for part in stored(page)], f"run tests/howto.py --store {page}"

def test_a_page_that_fails_is_told_with_its_part(tmp_path, monkeypatch):
    monkeypatch.setattr("howto.script", lambda page: "set -e\nprintf '\\0360\\n'\necho one\nprintf '\\0361\\n'\nsleep 60 & false\n")
    with pytest.raises(AssertionError, match="recorded, part 2: exit status 1"): said("recorded", tmp_path)

def test_numbers_are_the_machines_and_words_are_not():
    assert wording("Pass@1 0.70 [0.5, 0.9], about 40 s, corea-policy-754ff726") == wording("Pass@1 0.65  [0.4, 0.8], about 2 min, corea-policy-00ad1234")
    assert wording("kept if stated is 0.9") != wording("kept if expected is 0.9")

@pytest.mark.parametrize("page", ["README", *PAGES])
def test_is_short_and_its_links_lead_somewhere(page):
    lines = text(page).splitlines()
    assert lines[0].startswith("# ") and lines[1].startswith("> ")
    prose = re.sub(r"^```.*?^```", "", text(page), flags=re.M | re.S)
    assert len(re.findall(r"[A-Za-z]{2,}", prose)) < 600
    for link in re.findall(r"\]\(([^)#\s]+)", prose): assert link.startswith("https://") or (HOWTO/link).exists(), link
    assert not re.search(r"\b\d\d[a-z]?_[a-z]\w+", re.sub(r"\[[^]]*\]\([^)]*\)", "", prose)), "a notebook named without a link"

def test_all_pages_are_on_the_first_and_what_is_not_run_is_marked():
    assert all(f"]({page}.md)" in text("README") for page in PAGES)
    kinds = {kind for page in PAGES for kind in re.findall(r"^```(\S.*)$", text(page), re.M)}
    assert kinds <= {"bash", "python", "text", "bash not-here"}
    assert all(len(FENCE.findall(text(page))) == script(page).count("printf '\\036") for page in PAGES)
