"What is asked for is written, whole and the same each time."
import pandas as pd, pytest
from corea.core import FILES, CoreaError
from corea.lab.records import load_records
from corea.lab.report import ITEMS, as_csv, produce, promised, wanted
from corea.lab.study import study

@pytest.mark.parametrize("only,ids", [([], list(ITEMS)), ("", list(ITEMS)), ("table_01,figure_02", ["table_01", "figure_02"]), (["toys"], ["toys"])])
def test_only(only, ids): assert wanted(only) == ids

def test_only_refuses_what_does_not_exist():
    with pytest.raises(CoreaError, match="'table_3'"): wanted("table_01, table_3")

def test_numbers_in_a_file_are_rounded(): assert as_csv(pd.DataFrame(dict(a=[1 / 3]))) == "a\n0.333333\n"

def test_the_same_records_give_the_same_bytes(folder, opened, tmp_path):
    again = study(load_records(folder), 200)
    for item in ("table_09", "figure_02", "histograms"):
        files = [[p.read_bytes() for p in promised(tmp_path/k, item) if produce(s, item, tmp_path/k)] for k, s in (("a", opened), ("b", again))]
        assert files[0] == files[1] and files[0]

def test_a_run_with_other_versions_says_so(folder, monkeypatch, tmp_path):
    "Whoever is let run with other versions than the pins finds them in the records' provenance, and in the table of what ran."
    from dataclasses import replace
    from corea import core
    from corea.lab.report import what_ran
    st = study(load_records(folder), 20)
    table = lambda provenance: what_ran(replace(st, records=replace(st.records, run={**st.records.run, "provenance": provenance}))).set_index("what").value
    monkeypatch.setattr(core, "FILES", tmp_path/"corea"/"files")
    assert core.provenance()["other_versions"] == [] and "not as pinned" not in table(core.provenance())
    (tmp_path/"constraints.txt").write_text("torch==0.1\npandas==0.1\n")
    found = core.provenance()
    assert [line.split()[0] for line in found["other_versions"]] == ["torch"] and found["other_versions"][0].endswith("instead of 0.1")
    assert table(found)["not as pinned"] == found["other_versions"][0]
    assert table(found | dict(gpus=["Card"]))["hardware"].endswith(", Card")

def test_the_ledger_of_deviations_names_tables_that_exist():
    "A departure says which tables it touches, by the ids that they are asked for with."
    ledger = pd.read_csv(FILES/"deviations.csv")
    assert ledger.id.is_unique and ledger.notna().all(axis=None)
    assert {item for touched in ledger.touches for item in touched.split()} <= {*ITEMS, "all"}
