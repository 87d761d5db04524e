"""What the notebook cannot say about the parser and the grader: properties over many texts, and bounds."""
import importlib, math, re, subprocess, sys, threading, time
from fractions import Fraction
import pandas as pd, pytest
from hypothesis import example, given, settings, strategies as st
from corea.answer import (BOX, CONF, INSTRUCTION, LONGEST, MACRO, PLAIN, STATUSES, TOYS, Parsed, closing, confidence_span, easy, last_said, latex_form,
                          math_verify, messages, number_form, parse, prompt, read_confidence, same_value, unevaluated)
from corea.core import CoreaError
from corea.grading import grade

QUICK = settings(max_examples=200, deadline=None)
PIECES = [BOX, CONF, "{", "}", "\\", "0.9", "1e999", "nan", "%", ",", " ", "111", "\\{", "\\}", "boxed", "\n", "٠٫٩", "-", "no"]
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=30).map("".join)
words = st.text(st.characters(exclude_characters="{}\\", exclude_categories=["Cs"]), max_size=8)
balanced = st.recursive(st.one_of(words, st.sampled_from(["\\frac", "\\{", "\\left\\}", "\\\\"])),
                        lambda part: st.one_of(st.tuples(part, part).map("".join), part.map("{{{}}}".format)), max_leaves=8)
unit = st.floats(0, 1)


def check(p):
    assert isinstance(p, Parsed) and p.status in STATUSES
    assert p.answer is None or (p.answer and p.answer == p.answer.strip())
    assert p.confidence is None or (type(p.confidence) is float and 0 <= p.confidence <= 1)
    both = p.answer is not None and p.confidence is not None
    assert both == (p.status in ("ok", "repeated"))


@QUICK
@given(st.one_of(hostile, st.text(), st.none()))
@example("\ud800" + BOX)
@example(BOX + "\\")
def test_parse_never_raises_and_stays_in_range(text): check(parse(text))


@QUICK
@given(hostile)
@example(r"\boxed{3} \confidence{0.5} \confidence{0.25}")
def test_the_span_holds_the_confidence_that_is_read_and_never_the_answer(text):
    p, span = parse(text), confidence_span(text)
    said, box = text[span], text.rfind(BOX)
    assert bool(said) == (CONF in text and p.status != "nested") and said.rfind(CONF) == (0 if said else -1)
    assert box < 0 or box < span.start or box >= len(text[:span.stop])
    if p.confidence is not None: assert read_confidence(said[len(CONF):-1])[0] == p.confidence


@QUICK
@given(hostile, balanced.filter(lambda s: s.strip()), unit)
def test_round_trip_after_any_prefix(before, answer, confidence):
    before = before.replace("\\", "")   # no macro of its own, and nothing that could escape ours
    p = parse(rf"{before} \boxed{{{answer}}} so \confidence{{{confidence}}}.")
    assert (p.answer, p.confidence, p.status) == (answer.strip(), confidence, "ok")


@QUICK
@given(hostile)
def test_parse_is_idempotent(text):
    p = parse(text)
    if p.answer is None or MACRO[BOX].search(p.answer): return
    again = parse(rf"\boxed{{{p.answer}}}" + ("" if p.confidence is None else rf" \confidence{{{p.confidence}}}"))
    assert (again.answer, again.confidence) == (p.answer, p.confidence)
    assert again.status == ("no_confidence" if p.confidence is None else "ok")


@QUICK
@given(hostile, hostile)
def test_a_bad_confidence_does_not_change_the_answer(answer, said):
    p = parse(rf"\boxed{{{answer}}}")
    if p.answer is None or CONF in p.answer or "{" in said or "}" in said or "\\" in said: return
    assert parse(rf"\boxed{{{answer}}} \confidence{{{said}}}").answer == p.answer


@QUICK
@given(st.one_of(st.text(), hostile, st.floats().map(str), st.decimals().map(str), st.integers().map(str)))
@example("0_9")
@example("-1e-999")
@example("+1.")
def test_confidence_is_a_plain_number_in_range_or_a_status(said):
    value, status = read_confidence(said)
    if status != "ok":
        assert value is None and status in STATUSES
        return
    assert math.copysign(1, value) == 1 and 0 <= value <= 1
    assert float(said) == value and said.isascii() and "_" not in said


@pytest.mark.parametrize("said, status", [
    ("", "empty_confidence"), ("90%", "percent"), ("0,9", "comma"), ("0.9, 0.8", "comma"), ("high", "words"), ("NaN", "nan"),
    ("-nan", "nan"), ("inf", "infinite"), ("-Infinity", "infinite"), ("1e999", "infinite"), ("9" * 400, "infinite"),
    ("-0.1", "negative"), ("1.0001", "above_one"), ("90", "above_one"), ("٠٫٩", "not_ascii"), ("０.９", "not_ascii"),
    ("9/10", "malformed"), ("0..9", "malformed"), ("0.9 0.8", "malformed"), ("0_9", "malformed"), ("0x1", "words"),
    ("e", "words"), (".", "malformed"), ("0.9%", "percent"), ("1e5000", "infinite")])
def test_confidence_statuses(said, status):
    assert read_confidence(said) == (None, status)
    assert parse(rf"\boxed{{1}} \confidence{{{said}}}") == Parsed("1", None, status)


@pytest.mark.parametrize("text, expected", [
    (r"\boxed{5} \confidence{0.9} no, \boxed{7}", ("7", None, "early_confidence")),
    (r"\boxed{5} \confidence{0.9} no, \boxed{7", (None, None, "truncated_answer")),
    (r"\boxed{5} \confidence{0.9} or \confidence{0.", ("5", None, "truncated_confidence")),
    (r"\boxed{5 \confidence{0.9}", (None, None, "nested")), (r"\confidence{0.9 \boxed{5}", (None, None, "nested")),
    (r"\boxed{5\confidence{0.1}} \confidence{0.9}", (None, None, "nested")),
    (r"\boxed{5\} \confidence{0.9}", (None, None, "nested")), (r"\boxed{5}\confidence{0.9\}", ("5", None, "truncated_confidence")),
    (r"\boxed{\boxed{5}}\confidence{0.9}", ("5", 0.9, "repeated")), (r"\boxed{5\\}\confidence{1}", (r"5\\", 1.0, "ok")),
    (r"\boxed{}\confidence{0.9}", (None, 0.9, "empty_answer")), (r"\confidence{0.9}", (None, 0.9, "no_answer")),
    (r"\confidence{90%}", (None, None, "no_answer")), (r"\boxed {7} \confidence {0.8}", ("7", 0.8, "ok")), (r"\fbox{7}\confidence{0.8}", ("7", 0.8, "ok")),
    (r"\boxed{7} \confidence {0.8} \boxed\n{8}".replace(r"\n", "\n"), ("8", None, "early_confidence")), (r"\boxed{5 \confidence {0.9}}", (None, None, "nested")),
    (r"<think>Try \boxed{5} \confidence{0.9}, wait", (None, None, "unfinished_thought")),
    (r"<think>\boxed{5}</think> \boxed{7} \confidence{0.9}", ("7", 0.9, "repeated")), (r"\boxed{7} \confidence{0.9} <think> or", (None, None, "unfinished_thought"))])
def test_parse_cases(text, expected): assert parse(text) == Parsed(*expected)


@pytest.mark.parametrize("wrap, unit", [
    ("{}", BOX), ("{}", CONF), ("{}", BOX + CONF), (BOX + "{}", "{"), (BOX + "{}", "{}"), (BOX + "1}" + CONF + "{}", "\\"),
    (CONF + "{}x}", "9"), (CONF + "0.{}x}", "9"), (CONF + "{}}", "9"), (CONF + "1e{}}", "9"), (CONF + "{}}", " ")])
def test_a_megabyte_takes_linear_time(wrap, unit):
    def seconds(n):
        text, best = wrap.replace("{}", unit * (n // len(unit)), 1), math.inf
        for _ in range(2):
            start = time.process_time()
            check(parse(text))
            best = min(best, time.process_time() - start)
        return best
    assert seconds(1_000_000) < 60 * seconds(62_500) + 0.1   # 16 times the text; quadratic would be 256 times


def test_prompt_is_the_papers():
    assert INSTRUCTION == ("Please reason step by step, and put your final answer within \\boxed{}, then output the confidence "
                           "(0.0-1.0) that your answer is correct within \\confidence{}.")
    assert messages("q") == [{"role": "user", "content": "q\n" + INSTRUCTION}] and prompt("q").startswith("q\n")
    assert [(t["name"], parse(t["completion"]), grade(parse(t["completion"]).answer, t["gold"])) for t in TOYS] == [
        ("sure-right", Parsed("111", 0.9, "ok"), True), ("unsure-right", Parsed("111", 0.3, "ok"), True),
        ("unsure-wrong", Parsed("101", 0.3, "ok"), False), ("sure-wrong", Parsed("101", 0.9, "ok"), False)]


integers = st.builds(lambda sign, zeros, n: sign + "0" * zeros + str(n), st.sampled_from(["", "-"]), st.integers(0, 2),
                     st.one_of(st.integers(0, 30), st.integers(0, 10**40)))


@settings(max_examples=100, deadline=None)
@given(integers, st.one_of(integers, st.none()), st.sampled_from(["", "0", "-"]))
@example("-0", "0", "")
@example("12345678901234567890", "12345678901234567891", "")
def test_the_integer_shortcut_is_math_verify(gold, other, twist):
    answer = other if other is not None else (twist + gold if not gold.startswith("-") else gold)
    assert PLAIN.fullmatch(answer) and PLAIN.fullmatch(gold)
    assert grade(answer, gold) == math_verify()(answer, gold) == (int(answer) == int(gold))


@settings(max_examples=60, deadline=None)
@given(st.one_of(hostile, st.text(), st.none()), st.one_of(st.just("8"), st.text()), st.sampled_from(["math", "exact"]))
@example("\ud800", "8", "math")
@example("$8$", "$8$", "math")
@example("9" * 5000, "9" * 5000 + "1", "math")
def test_grade_never_raises(answer, gold, kind):
    verdict = grade(answer, gold, kind)
    assert verdict is True or verdict is False
    assert verdict == grade(answer, gold, kind)
    if answer is None or not answer.strip(): assert verdict is False


# a number must be worked out

OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, r"\times": lambda a, b: a * b,
              r"\cdot": lambda a, b: a * b, "×": lambda a, b: a * b, "/": lambda a, b: a / b, r"\div": lambda a, b: a / b,
              r"\frac": lambda a, b: a / b, "^": lambda a, b: a**int(b)}

def joined(operation, left, right):
    "An expression and its value, of two such."
    (a, x), (b, y) = left, right
    if operation in ("/", r"\div", r"\frac") and not y: operation = "+"
    if operation == "^" and (y not in (2, 3) or x in (10, -10) or abs(x) > 99): operation = "-"
    text = rf"\frac{{{a}}}{{{b}}}" if operation == r"\frac" else f"({a})^{{{b}}}" if operation == "^" else f"{a} {operation} {b}"
    value = OPERATIONS[operation](x, y)
    return (text if operation == r"\frac" else f"({text})"), value

leaves = st.integers(1, 60).map(lambda n: (str(n), Fraction(n)))
sums = st.builds(joined, st.sampled_from(sorted(OPERATIONS)), leaves, leaves)
expressions = st.one_of(sums, st.builds(joined, st.sampled_from(sorted(OPERATIONS)), sums, st.one_of(leaves, sums)))

def written(value):
    "A gold answer, as a data set would have it."
    if value.denominator == 1: return str(value)
    return f"{float(value):g}" if 10**4 % value.denominator == 0 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"

@settings(max_examples=60, deadline=None)
@given(expressions, st.sampled_from(["{}", "{} ", "$ {} $", r"x = {}", r"{} \text{{ eggs}}", r"\left( {} \right)", r"\$ {}"]))
def test_a_number_that_is_not_worked_out_is_wrong_and_the_number_itself_right(expression, dress):
    text, value = expression
    gold = written(value)
    if re.fullmatch(r"\(?\d+ / \d+\)?|\\frac\{\d+\}\{\d+\}", text) and value.denominator > 1: return      # a fraction is a number
    if abs(value) >= 10**9: return
    answer = dress.format(text[1:-1] if text.startswith("(") and closing_bracket(text) else text)
    assert number_form(gold) and unevaluated(answer, gold) and not grade(answer, gold)
    assert grade(gold, gold) and grade(dress.format(gold), gold) == same_value(dress.format(gold), gold)
    if dress == "{}": assert same_value(answer, gold) == grade(answer, gold, evaluated=False)

def closing_bracket(text):
    "Is the first bracket closed by the last one?"
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if not depth: return i == len(text) - 1

@QUICK
@given(st.integers(-10**12, 10**12), st.sampled_from(
    ["{}", "{:,}", "{}.0", "{}.", "x = {}", r"\text{{{}}}", r"\mathbf{{{}}}", "${}$", r"\${:,}", r"{} \text{{ cm}}^2", r"{}\,\mathrm{{m/s^2}}",
     r"{}\%", r"\left({}\right)", r"\{{{}\}}", r"\boxed{{{}}}", "{} coins", "{} km/h", "**{}**", r"{}^\circ", "1 + 1 = {}", "f(3) = {}", r"x \in \{{{}\}}"]))
def test_no_dress_of_a_number_is_arithmetic(n, dress): assert not unevaluated(dress.format(n), str(n))

@pytest.mark.parametrize("gold, form", [
    ("101", "integer"), ("-3", "integer"), ("1,000", "integer"), (r"10,\!080", "integer"), (r"11,\! 111,\! 100", "integer"), (r"\$36", "integer"),
    (r"30^\circ", "integer"), (r"15\mbox{ cm}^2", "integer"), ("x=5", "integer"), (r"\text{18}", "integer"), ("18.00", "integer"), (".35625", "other"),
    (r"5.4 \text{ cents}", "other"), (r"8 \%", "other"), (r"\frac 59", "other"), (r"-\frac{35}{9}", "other"), ("14/3", "other"), (r"\left(\frac{1}{3}\right)", "other"), (r"\frac9{19}", "other"), ("(1,100)", ""), ("(1,100]", ""), ("(5)", "integer"),
    (r"1\frac{4}{5}", "other"), (r"6.72 \times 10^{-5}", "other"), (r"2\sqrt{3}", ""), (r"12\pi", ""), ("52_8", ""), ("(3,4]", ""), ("3, 5, 7", ""),
    ("2n", ""), ("7i-2", ""), ("2^{10}", ""), ("12+89", ""), (r"\text{(E)}", ""), ("10:30", ""), ("2024-05-01", ""), ("", ""), ("x", "")])
def test_which_gold_answers_are_plain_numbers(gold, form): assert number_form(gold) == form

def test_where_the_gold_answer_is_no_plain_number_mathematics_decides():
    for answer, gold in [(r"6 \cdot \sqrt{2}", r"6\sqrt{2}"), ("53^{1/2}", r"\sqrt{53}"), (r"(1.5 \cdot 2, 4)", "(3,4)"), ("1+2n", "2n+1")]:
        assert not unevaluated(answer, gold) and grade(answer, gold)
    assert grade(r"\frac919", r"\frac9{19}")     # as models write it, and math-verify reads it
    assert grade("12+89", "12+89") and grade("9 + 9", "18", evaluated=False) and easy("9 + 9", "18") is False
    assert easy("9 + 9", "18", evaluated=False) is None

@QUICK
@given(st.one_of(hostile, st.text()), st.one_of(st.just("8"), st.text(max_size=20)))
def test_the_rule_never_raises(answer, gold):
    assert unevaluated(answer, gold) in (True, False) and number_form(gold) in ("", "integer", "other") and isinstance(last_said(answer), str)


@pytest.mark.parametrize("gold", [None, math.nan, float("nan"), pd.NA])
def test_a_missing_gold_answer_is_met_by_nothing(gold):
    for said in (None, "None", "nan", "<NA>", "", gold): assert grade(said, gold) is False and grade(said, gold, "exact") is False

@QUICK
@given(st.one_of(hostile, st.text(), st.integers().map(str)))
def test_putting_into_latex_changes_nothing_twice(text):
    once = latex_form(text)
    assert latex_form(once) == once or len(once) > len(text)

def test_grade_refuses_an_unknown_kind_in_one_line():
    with pytest.raises(CoreaError, match="unknown kind") as e: grade("8", "8", "maths")
    assert "\n" not in str(e.value)


def test_no_long_text_and_no_open_brace_reaches_mathematics():
    for strange in ("x" + "1" * LONGEST, "{8", "8}"): assert easy(strange, "8") is False and easy(strange, strange) is True


def test_grade_works_in_any_thread():
    verdicts = []
    work = lambda: verdicts.extend([grade(r"\frac{24}{9}", r"\frac{8}{3}"), grade("(" * 41 + "8" + ")" * 41, "8")])
    t = threading.Thread(target=work)
    t.start(); t.join()
    assert verdicts == [True, False]


def test_grade_is_found_where_its_rules_stand():
    rules = importlib.import_module("corea.answer")
    assert rules.grade is grade
    with pytest.raises(AttributeError, match="no attribute 'graded'"): rules.graded


def test_sympy_is_left_as_it_is():
    math_verify()
    import sympy
    assert sympy.Integer(2) ** 2_000_000 == sympy.Integer(1 << 2_000_000)


HEAVY = ["1E999999", "1.5e+9999999", "7E-3999999", r"9^{9^{9^9}}", r"9^{9\cdot 9^9}", r"1.5^{99999999999}", r"1.5^{1.5^{10^{10}}}", r"\lfloor e^{99999999999} \rfloor",
         r"\binom{9^{99999999}}{2}", r"\exp(9999\cdot 9999 \ln 9)", r"((9^{999})^{999})^{999}", r"\sum_{i=9999}^{9999} 9^{i i}",
         r"\lim_{x\to 9999} 9^{x^2}", r"(1+i)^{9999}", "10000000000!", r"e^{e^{e^{e^{e^{e}}}}}", "[" * 500,
         "{" * 300 + "}" * 300, "__import__('os').system('false')", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{9999}"]


def test_heavy_answers_come_back_in_time_and_memory():
    "In a process of its own, so that a hang is a failure and not a hang, and the memory is its own."
    code = ("import sys, resource; from corea.grading import grade\n"
            "assert not any([grade(a, '8x') for a in sys.stdin.read().split('\\0')])\n"
            "print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))")
    # A process begins with the peak of the one that started it (here pytest's own, a gigabyte), unless a small one does.
    done = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code], input="\0".join(HEAVY),
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)   # MB; macOS counts bytes
    assert peak < 1000
