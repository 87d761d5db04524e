"The paper's rows and numbers stand beside ours; a number reads the same on every machine."
from corea.lab.records import SYSTEMS, paper_value
from corea.lab.tables import number, table_1

PAPER_SYSTEMS = [s.name for s in SYSTEMS if s.kind in ("standalone", "collaborative")]

def test_table_1_has_the_papers_rows_and_numbers(opened):
    f, text = table_1(opened)
    assert set(f[f.threshold == "alone"].system) | set(f[f.threshold == "paper"].system) == set(PAPER_SYSTEMS)
    for r in f[f.threshold.isin(["alone", "paper"])].itertuples():
        assert f.loc[r.Index, "ood_math.cost.paper"] == paper_value(opened.numbers, 1, r.system, "OODMath", "cost")[0]
    assert f[~f.system.isin(PAPER_SYSTEMS)].filter(like=".paper").isna().all(axis=None)
    assert all(f"| {s} |" in text for s in PAPER_SYSTEMS)

def test_numbers_as_text():
    assert [number(x, 1, True) for x in (1.25, -1.25, 0.0, -0.01)] == ["+1.2", "−1.2", "+0.0", "+0.0"]
