"What `make outputs` calls a difference."
from outputs import differences

def cell(source, *said, tags=(), kind="code"):
    return dict(cell_type=kind, source=[source], metadata=dict(tags=list(tags)),
                outputs=[dict(output_type="stream", name=name, text=[text]) if name else dict(output_type="execute_result", data=text) for name, text in said])

def differ(a, b): return [i for i, _ in differences(dict(cells=a), dict(cells=b))]

def test_text_counts_and_pictures_noise_and_names_of_objects_do_not():
    shown = {"text/plain": ["<Figure at 0x7f00>"], "image/png": "abc"}
    again = {"text/plain": ["<Figure at 0x7fff>"], "image/png": "other"}
    same = [cell("a", ("stdout", "1\n"), ("stderr", "a warning")), cell("b", ("", shown)), cell("c", ("", {"text/html": '<table id="T_b5ece">'}))]
    now = [cell("a", ("stdout", "1\n")), cell("b", ("", again)), cell("c", ("", {"text/html": '<table id="T_0a1b2">'}))]
    assert differ(same, now) == []
    now[0] = cell("a", ("stdout", "2\n"))
    assert differ(same, now) == [0]

def test_what_varies_has_as_many_lines():
    assert differ([cell("a", ("stdout", "0.1\n"), tags=["varies"])], [cell("a", ("stdout", "0.2\n"))]) == []
    assert differ([cell("a", ("stdout", "0.1\n"), tags=["varies"])], [cell("a", ("stdout", "0.1\n0.2\n"))]) == [0]

def test_cells_that_are_not_run_keep_what_they_say():
    for mark in ("#| gpu\n", "#|slow\n", "#| eval: false\n"): assert differ([cell(mark + "a", ("stdout", "1"))], [cell("")]) == []
