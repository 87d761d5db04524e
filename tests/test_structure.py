"What no notebook can say about itself: the map of the book, its house rules, and the files around it."
import ast, configparser, importlib, inspect, itertools, json, re, subprocess, sys, textwrap, tomllib
from functools import lru_cache
from pathlib import Path
import pytest
from fastcore.docments import docments
from packaging.requirements import Requirement
from packaging.version import Version
import corea

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT/"nbs").glob("*.ipynb"))
BOOK = sorted((ROOT/"nbs"/"book").glob("*.ipynb"))        # chapters to be read, beside the modules; see test_book
MAP = ["00_core", "01_data", "01a_published", "01b_overlap", "01c_zero_shot", "02_answer", "02a_grading", "03_metrics", "03a_walk", "04_reward",
       "04a_targets", "05_generate", "05a_server", "05b_layouts", "05c_recorded_engine", "06_trainer", "06a_base", "06b_warm", "07_confidence", "07a_scores", "08_cascade",
       "08a_grid", "08b_thresholds", "08c_policies", "08d_together", "08e_prices", "08f_verdict", "08g_plan", "09_experiments", "09a_records",
       "09b_study", "09c_tables", "09d_verdicts", "09e_figures", "09f_report", "09g_publish", "09h_command", "09i_page", "10_results", "10a_tables",
       "11_extend", "12_recorded", "12a_pairs", "12b_tiers", "12c_trained", "13_real", "13a_fresh", "13b_board", "14_policy", "14a_serve", "14b_train", "14c_demo",
       "15_capability", "15a_preferences", "15b_deltas", "15c_hints", "contents", "index"]
HEADINGS = ["In the paper", "By hand", "Code", "Check", "What can go wrong"]
PARAMETERS = {"profile", "redraw", "only", "n_boot", "out_dir"}
MINUTES, WORDS_A_MINUTE = 8, 200
# commands such as corea, as module:function
SCRIPTS = {v.removeprefix("corea.") for v in tomllib.loads((ROOT/"pyproject.toml").read_text())["project"].get("scripts", {}).values()}
# public functions whose parameters or result need no comment, as module.name: none so far
UNDOCUMENTED = set()

class Cell:
    "A notebook's cell: its place, kind, source, directives and tags."
    def __init__(self, nb, i, raw):
        self.kind, self.source, self.outputs = raw["cell_type"], "".join(raw["source"]), raw.get("outputs", [])
        self.tags = raw["metadata"].get("tags", [])
        self.where = f"nbs/{nb}.ipynb, cell {i} ({raw.get('id', 'no id')})"
        self.directives = re.findall(r"^#\|\s*(.+?)\s*$", self.source, re.M) if self.kind == "code" else []
        self.exported = any(re.match(r"exports?i?\b", d) for d in self.directives)
    @property
    def tree(self):
        "Syntax tree of a code cell, magics and shell lines left out."
        if self.source.startswith("%%"): return ast.Module([], [])
        source = re.sub(r"^(\s*)[%!].*$", r"\1pass", self.source, flags=re.M)
        try: return ast.parse(source)
        except SyntaxError as e: pytest.fail(f"{self.where}: {e}")

@lru_cache(None)
def cells(path):
    return [Cell(path.relative_to(ROOT/"nbs").with_suffix("").as_posix(), i, c) for i, c in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"])]

def code(path): return [c for c in cells(path) if c.kind == "code"]

def order(stem):
    "00_core < 06_trainer < 06a_base < 07_confidence < index"
    m = re.match(r"(\d+)([a-z]?)_", stem)
    return (int(m[1]), m[2]) if m else (99, "")

def module_of(path):
    "Names given by `#| default_exp`."
    return [d.split()[1] for c in code(path) for d in c.directives if d.startswith("default_exp")]

MODULES = {m: p for p in reversed(NOTEBOOKS) for m in module_of(p)}
WINGS = ("", "lab", "extra")        # the method, how the paper's tables are made, and what nothing else needs
METHOD = [p for p in NOTEBOOKS if 2 <= order(p.stem)[0] <= 8]

def results():
    path = ROOT/"nbs"/"10_results.ipynb"
    if not path.exists(): pytest.skip("nbs/10_results.ipynb is not written yet")
    return path

def report(problems): assert not problems, "\n" + "\n".join(dict.fromkeys(problems))

def each(paths): return pytest.mark.parametrize("path", paths, ids=lambda p: p.stem)

# the map

def test_no_notebook_is_missing():
    missing = [n for n in MAP if not (ROOT/"nbs"/f"{n}.ipynb").exists()]
    assert not missing, f"nbs/ lacks {', '.join(missing)}"

def test_one_notebook_one_module():
    given = [(m, p.stem) for p in NOTEBOOKS for m in module_of(p)]
    report([f"{p.stem} has {len(module_of(p))} default_exp" for p in NOTEBOOKS if len(module_of(p)) > 1] +
           [f"module {m} is exported by {', '.join(s for k, s in given if k == m)}: the last silently replaces the others"
            for m in {m for m, _ in given} if sum(k == m for k, _ in given) > 1] +
           [f"{p.relative_to(ROOT)} has no notebook" for p in sorted((ROOT/"corea").rglob("*.py"))
            if ".".join(p.relative_to(ROOT/"corea").with_suffix("").parts) not in MODULES and not p.name.startswith("_")
            and "files" not in p.relative_to(ROOT/"corea").parts])      # what other programs load

def test_notebooks_that_are_only_read_or_run_export_nothing():
    report([f"{c.where}: exports" for p in [*BOOK, *(p for p in NOTEBOOKS if order(p.stem)[0] in (10, 11, 99))] for c in code(p)
            if c.exported or any(d.startswith("default_exp") for d in c.directives)])

def imported(tree):
    "Triples (module of corea; name out of it, None for the whole module; what it is called here) in a syntax tree."
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom) and f"{n.module}.".startswith("corea."):
            at = n.module.removeprefix("corea").strip(".")
            for a in n.names: yield (f"{at}.{a.name}".strip("."), None, a.asname or a.name) if at in WINGS else (at, a.name, a.asname or a.name)
        elif isinstance(n, ast.Import):
            yield from ((a.name.removeprefix("corea."), None, a.asname) for a in n.names if a.name.startswith("corea."))

@each(NOTEBOOKS)
def test_imports_only_downward(path):
    problems = []
    for c in code(path):
        for module, name, _ in imported(c.tree):
            if name == "*": problems.append(f"{c.where}: wildcard import of corea.{module}")
            if module.startswith("_"): continue
            if module not in MODULES: problems.append(f"{c.where}: no notebook exports corea.{module}")
            elif order(MODULES[module].stem) >= order(path.stem):
                problems.append(f"{c.where}: imports corea.{module}, which {MODULES[module].stem} makes: not a lower number")
    report(problems)

def wing(module): return module.rpartition(".")[0]

def arrows():
    "Pairs of modules, the first of which imports the second."
    return {(m, to) for m, path in MODULES.items() for c in code(path) if c.exported for to, *_ in imported(c.tree) if to in MODULES}

def test_the_method_needs_no_lab_and_the_lab_no_extra():
    report([f"corea.{a} imports corea.{b}" for a, b in sorted(arrows()) if WINGS.index(wing(a)) < WINGS.index(wing(b))])

def test_few_arrows():
    "Between the modules of a wing, and between the wings."
    assert len({(a, b) if wing(a) == wing(b) else (wing(a), wing(b)) for a, b in arrows()}) < 90

# what nothing in the book imports, and yet a user calls, beside what `corea` itself offers
OFFERED = {f"{m}.{name}" for m, names in {
    "answer": "Parsed", "cascade": "Answer Sweep", "data": "DataSet", "recorded_engine": "RecordedEngine",
    "scores": "fit", "server": "vllm_server", "thresholds": "budget_tau priced_tau expected_tau",
    "lab.base": "Recipe make_base", "lab.command": "main", "extra.policy": "calibrate read_policy", "extra.train": "train_own",
    "extra.prices": "read_prices price_of",
    "extra.real": "read_world verdicts", "extra.recorded": "read_tidy read_harness", "extra.targets": "simulate"}.items() for name in names.split()}

def taken(path):
    "Names, such as lab.study.costs, that a notebook takes from modules by `from ... import` or as attributes."
    names = {called: m for c in code(path) for m, name, called in imported(c.tree) if not name}
    for c in code(path):
        yield from (f"{m}.{name}" for m, name, _ in imported(c.tree) if name)
        yield from (f"{names[n.value.id]}.{n.attr}" for n in ast.walk(c.tree)
                    if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id in names)

def test_what_only_its_own_module_uses_is_not_public():
    "A cell marked `exporti` exports without offering."
    offered = {f"{m}.{name}" for m in MODULES for name in importlib.import_module(f"corea.{m}").__all__}
    wanted = OFFERED | {f"{m}.{name}" for name, m in corea.OFFERED.items()} | {name for p in NOTEBOOKS for name in taken(p) if MODULES.get(name.rpartition(".")[0]) != p}
    report([f"corea.{name} is public and used by its own module alone: let its cell begin with `#| exporti`" for name in sorted(offered - wanted)] +
           [f"corea.{name} is used elsewhere, and not public" for name in sorted(wanted - offered)
            if not name.rpartition(".")[2].startswith("_") and name.rpartition(".")[0] in MODULES])
    assert len(offered) < 330

def test_the_package_offers_names_and_loads_nothing():
    assert all(getattr(corea, name).__name__ == name for name in corea.OFFERED) and set(corea.OFFERED) < set(dir(corea))
    source = "import corea, sys; from corea import CoreaError; print(sorted({'numpy', 'pandas', 'torch'} & set(sys.modules)), hasattr(corea, 'no_such'))"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True).stdout == "[] False\n"

def test_modules_are_found_where_they_were_before_there_were_wings():
    "The same module, whichever address is used, and however it is imported."
    moved = [m for m in MODULES if wing(m)]
    source = ("import importlib, sys\nfrom corea import recorded\nfrom corea.command import main\nimport corea.study as study\n"
              "import corea.extra.recorded, corea.lab.study, corea.lab.command\n"
              "assert recorded is corea.extra.recorded and study is corea.lab.study and main is corea.lab.command.main\n"
              f"for m in {moved}:\n"
              "    a, b = (importlib.import_module('corea.' + x) for x in (m.split('.')[1], m))\n"
              "    assert a is b and a.__name__ == a.__spec__.name == 'corea.' + m, m\n"
              "try: import corea.no_such\nexcept ModuleNotFoundError as e: print(e)\n")
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "No module named 'corea.no_such'\n", done.stderr

def test_light_modules_stay_light():
    "A reader of the parser or the metrics waits for no deep-learning library."
    light = [m for m in ("core", "data", "answer", "grading", "metrics", "reward", "cascade") if m in MODULES]
    source = ("import importlib, sys\n"
              f"for m in {light}:\n"
              "    importlib.import_module('corea.' + m)\n"
              "    for heavy in ('torch', 'transformers', 'trl', 'vllm', 'matplotlib'):\n"
              "        if heavy in sys.modules: sys.exit(f'importing corea.{m} imports {heavy}')\n")
    r = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr

# how a notebook reads

@each(NOTEBOOKS + BOOK)
def test_opens_with_title_and_subtitle(path):
    first = next((c for c in cells(path) if c.kind == "markdown"), None)
    assert first and re.match(r"# \S.*\n+> \S", first.source), f"nbs/{path.name}: begins with no `# Title` and `> subtitle`"

@each([p for p in METHOD if not order(p.stem)[1]])
def test_required_headings(path):
    found = [h for c in cells(path) if c.kind == "markdown" for h in re.findall(r"^## +(.+?)\s*$", c.source, re.M)]
    assert found == HEADINGS, f"nbs/{path.name}: headings are {found}, wanted {HEADINGS} (use ### inside them)"

@each(METHOD)
def test_reading_time(path):
    text = " ".join(c.source for c in cells(path) if c.kind == "markdown")
    words = len(re.findall(r"\w[\w'’.-]*", re.sub(r"<[^>]+>|\]\([^)]*\)", " ", text)))
    assert words <= MINUTES * WORDS_A_MINUTE, f"nbs/{path.name}: {words} words, {words/WORDS_A_MINUTE:.1f} minutes"

@each(NOTEBOOKS + BOOK)
def test_code_fits_a_screen(path):
    "Lines of at most 110 columns, but for those of a text that goes over several lines."
    problems = []
    for c in code(path):
        text = {line for n in ast.walk(c.tree) if isinstance(n, (ast.Constant, ast.JoinedStr)) for line in range(n.lineno, n.end_lineno + 1)
                if n.end_lineno > n.lineno and not isinstance(getattr(n, "value", ""), bytes) and is_one_literal(c.source, n)}
        problems += [f"{c.where}: line {i} has {len(line)} columns" for i, line in enumerate(c.source.splitlines(), 1)
                     if len(line) > 110 and i not in text]
    report(problems)

# plain tables of data, one assignment to a cell, which may be as long as what they hold
TABLES = {"PAPER"}
# notebooks of which some cells are still longer
STILL_LONG = {"05a_server", "08_cascade", "09b_study", "09f_report"}

def is_table(cell): return len(cell.tree.body) == 1 and isinstance(n := cell.tree.body[0], ast.Assign) and getattr(n.targets[0], "id", "") in TABLES

@each([p for p in NOTEBOOKS + BOOK if p.stem not in STILL_LONG])
def test_a_cell_is_read_at_a_glance(path):
    "At most 45 lines of code."
    report([f"{c.where}: {n} lines of code, split it" for c in code(path) if (n := len(c.source.splitlines())) > 45 and not is_table(c)])

def is_one_literal(source, n): return (ast.get_source_segment(source, n) or "").rstrip().endswith(('"""', "'''"))

FORBIDDEN = {
    r"(?<![.\w])eval\(": "eval",
    r"(?<![.\w])exec\(": "exec",
    r"\bpickle\b": "pickle",
    r"trust_remote_code\s*=\s*True": "code from a hub",
}
def asks_for_code(call):
    "A checkpoint loaded without a word against code of its own."
    return (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
            and not any(k.arg == "trust_remote_code" and getattr(k.value, "value", None) is False for k in call.keywords))

ABSOLUTE = r"(?<![\w.:/~])/(?:home|root|Users|tmp|var|usr|opt|etc|mnt|srv|work|workspace|content|private)/[\w.-]+|\b[A-Z]:\\\\?\w"

@each(NOTEBOOKS + BOOK)
def test_nothing_dangerous_and_no_path_of_one_machine(path):
    problems = [f"{c.where}: {why}" for c in code(path) for pattern, why in FORBIDDEN.items() if re.search(pattern, c.source)]
    for c in cells(path):
        for text, place in ((c.source, ""), (json.dumps(c.outputs), "the output of ")):
            if m := re.search(ABSOLUTE, text): problems.append(f"{place}{c.where}: absolute path {m[0]}")
    report(problems)

@each(NOTEBOOKS + BOOK)
def test_no_checkpoint_may_bring_code(path):
    report([f"{c.where}: from_pretrained without trust_remote_code=False" for c in code(path) if c.exported for n in ast.walk(c.tree) if asks_for_code(n)])

@each(NOTEBOOKS + BOOK)
def test_carries_no_widget_state_and_runs(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in nb["metadata"], f"nbs/{path.name}: widget state, which GitHub refuses to show"
    assert "skip_exec" not in json.dumps(nb["cells"][:1]), f"nbs/{path.name}: skip_exec hides it from nbdev_test"
    report([f"{c.where}: stored error" for c in code(path) if any(o["output_type"] == "error" for o in c.outputs)])

def defined(tree):
    "Public functions and classes that a cell defines, each with the names in its body."
    return {n.name: used(n) for n in tree.body
            if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not n.name.startswith("_")}

def used(tree):
    "Names that a syntax tree mentions."
    return {n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(tree) if isinstance(n, (ast.Name, ast.Attribute))}

@each([p for p in NOTEBOOKS if module_of(p)])
def test_every_export_is_shown_within_three_cells(path):
    "Shown: a cell that is not exported uses it, or a definition that close to it does and is itself shown."
    book, problems, shown = cells(path), [], {}
    runs = [list(run) for exported, run in itertools.groupby(range(len(book)), key=lambda i: book[i].exported) if exported]
    for run in reversed(runs):      # definitions that stand together
        here = {name: body for i in run for name, body in defined(book[i].tree).items()}
        near = book[run[-1]+1:run[-1]+4]
        seen = set().union(*(used(c.tree) for c in near if c.kind == "code" and not c.exported), *(shown.get(c.where, ()) for c in near))
        for _ in here: seen |= set().union(*(body for name, body in here.items() if name in seen))
        for i in run:
            shown[book[i].where] = set().union(*(body for name, body in here.items() if name in seen))
            problems += [f"{book[i].where}: `{name}` is not shown at work in the three cells after it"
                         for name in defined(book[i].tree) if name not in seen and f"{module_of(path)[0]}:{name}" not in SCRIPTS]
    report(problems)

# the package

def public(module):
    "Public functions of a module, and methods that its classes add to those of their bases, as (name, function)."
    for name, x in vars(module).items():
        if name.startswith("_") or getattr(x, "__module__", None) != module.__name__: continue
        if inspect.isfunction(f := inspect.unwrap(x)): yield name, f
        elif inspect.isclass(x):
            yield from ((f"{name}.{k}", f) for k, f in vars(x).items() if not k.startswith("_") and inspect.isfunction(f)
                        and not any(hasattr(base, k) for base in x.__mro__[1:]))

def undocumented(f):
    "Parameters, or `return`, without a comment: neither docments nor their line in the signature has one."
    source = textwrap.dedent(inspect.getsource(f))
    head, tree = source.partition('\n    "')[0], ast.parse(source)
    gaps = [k for k, v in docments(f, returns=True).items() if v is None and k != "self" and not k.startswith("_")]
    gives = any(isinstance(n, (ast.Yield, ast.YieldFrom)) or isinstance(n, ast.Return) and n.value for n in ast.walk(tree))
    # docments misses `**rest`, a bare `):  # ...`, and all but the last of the parameters that share a line
    found = lambda k: rf"^\s*\).*:\s*#" if k == "return" else rf"^(?!\s*def\b)[^#\n]*\b{k}\b[^#\n]*#"
    return [k for k in gaps if not re.search(found(k), head, re.M) and (k != "return" or gives)]

@pytest.mark.parametrize("name", sorted(MODULES))
def test_parameters_and_results_are_documented(name):
    problems = []
    for f_name, f in public(importlib.import_module(f"corea.{name}")):
        if f"{name}.{f_name}" in UNDOCUMENTED: continue
        if gaps := undocumented(f): problems.append(f"nbs/{MODULES[name].name}: {f_name} has no comment on {', '.join(gaps)}")
    report(problems)

@pytest.mark.parametrize("name", sorted(MODULES))
def test_docstrings_are_one_line(name):
    problems, source = [], (ROOT/"corea"/f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    for n in ast.walk(ast.parse(source)):
        if not isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): continue
        doc = n.body[0].value if isinstance(n.body[0], ast.Expr) and isinstance(n.body[0].value, ast.Constant) else None
        text = ast.get_source_segment(source, doc) if doc else ""
        if '"""' in text or "'''" in text or "\n" in text:
            problems.append(f"nbs/{MODULES[name].name}: docstring of {n.name} is triple-quoted or longer than one line")
        elif not doc and n in ast.parse(source).body and not n.name.startswith("_"):
            problems.append(f"nbs/{MODULES[name].name}: {n.name} has no docstring")
    report(problems)

# the results

def test_parameters_cell():
    tagged = [c for c in code(results()) if "parameters" in c.tags]
    assert len(tagged) == 1, f"10_results: {len(tagged)} cells tagged `parameters`"
    cell, names = tagged[0], set()
    for n in cell.tree.body:
        assert isinstance(n, (ast.Assign, ast.AnnAssign)), f"{cell.where}: holds more than assignments"
        try: ast.literal_eval(n.value)
        except ValueError: pytest.fail(f"{cell.where}: {ast.unparse(n)}: papermill would not recompute a derived value")
        line = cell.source.splitlines()[n.lineno - 1]
        assert "#" in line, f"{cell.where}: {line!r} has no comment, which is the text of --help-notebook"
        names |= {t.id for t in (n.targets if isinstance(n, ast.Assign) else [n.target])}
    assert PARAMETERS <= names, f"{cell.where}: no parameter {', '.join(sorted(PARAMETERS - names))}"

def test_the_tables_take_what_the_results_hand_on():
    "10_results runs 10a_tables with parameters that it has."
    names = [{t.id for n in c.tree.body for t in n.targets} for p in ("10_results", "10a_tables") for c in code(ROOT/"nbs"/f"{p}.ipynb") if "parameters" in c.tags]
    assert names == [PARAMETERS, PARAMETERS - {"redraw"}]

def test_the_page_tells_each_claim_under_its_own_title():
    "One heading, one call and one reason why it may differ for each of the twelve, in order."
    from corea.extra.page import TWELVE
    text = "\n".join(c.source for c in cells(results()))
    assert re.findall(r"^## \d+ · (.+)$", text, re.M) == [t.title for t in TWELVE.values()]
    assert re.findall(r'^tell\("(\w+)"\)$', text, re.M) == list(TWELVE) and text.count("**Why it may differ.**") == len(TWELVE)

@each([ROOT/"nbs"/"10_results.ipynb", ROOT/"nbs"/"10a_tables.ipynb"])
def test_no_number_is_typed_in_results(path):
    problems = []
    for c in cells(path):
        if c.kind == "code" and "parameters" not in c.tags:
            problems += [f"{c.where}: {n.value!r} in line {n.lineno}" for n in ast.walk(c.tree)
                         if isinstance(n, ast.Constant) and isinstance(n.value, (float, complex))]
        elif c.kind == "markdown":
            prose = re.sub(r"`[^`]*`|\$[^$]*\$", "", c.source, flags=re.M)
            problems += [f"{c.where}: {m!r} in the prose" for m in re.findall(r"\b\d+\.\d{2,}\b|\b\d[\d.]* ?%", prose)]
    report(problems)

# the files around

def targets(): return set(re.findall(r"^([a-z]+):", (ROOT/"Makefile").read_text(), re.M))

DOCUMENTS = [p for p in ("README.md", "CONTRIBUTING.md") if (ROOT/p).exists()]

def test_readme_exists(): assert (ROOT/"README.md").exists(), "README.md is missing"

@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_and_commands_named_in_documents_exist(name):
    text = (ROOT/name).read_text(encoding="utf-8")
    snippets = re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S)
    snippets += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    problems, tops = [], {p.name for p in ROOT.iterdir()}
    for s in snippets:
        problems += [f"{name}: `make {t}` is no target" for t in re.findall(r"\bmake ([a-z]\w*)", s) if t not in targets()]
        for token in re.findall(r"(?<![\w./:-])\.?[\w-][\w./-]*", s):
            path = token.rstrip("./")
            named = path.split("/")[0] in tops and "/" in path or re.search(r"\.(md|ipynb|ini|toml|txt|cff)$", path)
            made = path.startswith(("artifacts", ".venv", "paper_figures/laptop", "paper_figures/smoke")) or path in {"out.ipynb"}
            if named and not made and not (ROOT/path).exists(): problems.append(f"{name}: `{path}` does not exist")
        for module in re.findall(r"\bcorea\.((?:lab\.|extra\.)?\w+)", s):
            if module not in MODULES and module != "__version__": problems.append(f"{name}: no module corea.{module}")
        known = PARAMETERS
        if "10_results" in s:
            problems += [f"{name}: 10_results has no parameter {p}" for p in re.findall(r"-p (\w+)", s) if p not in known]
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)|(?:src|href)=[\"']([^\"'#]+)", text):
        link = next(filter(None, link))
        if not re.match(r"\w+:", link) and not (ROOT/link).exists(): problems.append(f"{name}: link to {link}, which does not exist")
    report(problems)

def test_versions_agree():
    settings = configparser.ConfigParser()
    settings.read(ROOT/"settings.ini")
    version = settings["DEFAULT"]["version"]
    assert importlib.import_module("corea").__version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT/"CITATION.cff").read_text(), re.M)
    assert f"## {version}" in (ROOT/"CHANGELOG.md").read_text()

def test_pins_lie_in_the_ranges_of_pyproject():
    project = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in (ROOT/"constraints.txt").read_text().split() if line)
    extras = [r for e in ("dev", "serve", "train", "gpu", "site") for r in project["optional-dependencies"][e] if not r.startswith("corea[")]
    wanted = [Requirement(r) for r in project["dependencies"] + extras]
    report([f"constraints.txt: {r.name} is not pinned" for r in wanted if r.name not in pins] +
           [f"constraints.txt: {r.name}=={pins[r.name]} is outside {r.specifier}" for r in wanted
            if r.name in pins and Version(pins[r.name]) not in r.specifier])
