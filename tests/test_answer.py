"""What the notebook cannot say about the parser and the grader: properties over many texts, and bounds."""
import math, subprocess, sys, threading, time
import pytest
from hypothesis import example, given, settings, strategies as st
from corea.answer import (BOX, CONF, INSTRUCTION, LONGEST, PLAIN, STATUSES, TOYS, Parsed, closing, confidence_span, grade, math_verify,
                          messages, parse, prompt, read_confidence, same_value)
from corea.core import CoreaError

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
    if p.answer is None or BOX in p.answer: return
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
    (r"\confidence{90%}", (None, None, "no_answer"))])
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


def test_grade_refuses_an_unknown_kind_in_one_line():
    with pytest.raises(CoreaError, match="unknown kind") as e: grade("8", "8", "maths")
    assert "\n" not in str(e.value)


def test_the_cache_holds_no_long_text():
    before = same_value.cache_info().currsize
    assert grade("x" + "1" * LONGEST, "8") is False and grade("{8", "8") is False
    assert same_value.cache_info().currsize == before


def test_grade_works_in_any_thread_and_leaves_none_behind():
    verdicts, threads = [], threading.active_count()
    work = lambda: verdicts.extend([grade(r"\frac{24}{3}", "8"), grade("(" * 41 + "8" + ")" * 41, "8")])
    t = threading.Thread(target=work)
    t.start(); t.join()
    assert verdicts == [True, False] and threading.active_count() == threads


def test_sympy_is_itself_outside_the_grader():
    math_verify()
    import sympy
    assert sympy.Integer(2) ** 2_000_000 == sympy.Integer(1 << 2_000_000)


HEAVY = [r"9^{9^{9^9}}", r"9^{9\cdot 9^9}", r"1.5^{99999999999}", r"1.5^{1.5^{10^{10}}}", r"\lfloor e^{99999999999} \rfloor",
         r"\binom{9^{99999999}}{2}", r"\exp(9999\cdot 9999 \ln 9)", r"((9^{999})^{999})^{999}", r"\sum_{i=9999}^{9999} 9^{i i}",
         r"\lim_{x\to 9999} 9^{x^2}", r"(1+i)^{9999}", "10000000000!", r"e^{e^{e^{e^{e^{e}}}}}", "[" * 500,
         "{" * 300 + "}" * 300, "__import__('os').system('false')", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{9999}"]


def test_heavy_answers_come_back_in_time_and_memory():
    "In a process of its own, so that a hang is a failure and not a hang, and the memory is its own."
    code = ("import sys, resource; from corea.answer import grade\n"
            "assert not any([grade(a, '8') for a in sys.stdin.read().split('\\0')])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    done = subprocess.run([sys.executable, "-c", code], input="\0".join(HEAVY), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)   # MB; macOS counts bytes
    assert peak < 1000
