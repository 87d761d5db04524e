"""What a server can do to a run: die, stall, refuse, lie, and what must not be seen of the key.

`tests/server.py` is the server that fails on demand; where there is vLLM (see test_generate), its own server is killed too.
"""
import asyncio, copy, hashlib, json, logging, math, os, re, signal, subprocess, threading, time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx, pytest
from hypothesis import given, settings, strategies as st

import corea.generate as g
import corea.server as s
from corea.core import CoreaError, load_profile
from generate_jobs import QUESTIONS
from processes import gone
from server import Double, Handler, code, drip, echo_key, half, interpreter, late, reset, text
from test_generate import folder, vllm_python    # folder: a checkpoint, a fixture

DRAWN, SHORT = g.Sampling(1.0), g.Sampling(1.0, max_tokens=2)    # SHORT states no confidence: one request each
ordered = lambda cs: sorted(cs, key=lambda c: (c.index, c.sample))

@pytest.fixture
def server(folder):
    with Double(folder) as d: yield d

@pytest.fixture
def quick(monkeypatch):
    "Pauses of an instant."
    monkeypatch.setattr(s.JITTER, "uniform", lambda a, b: .01)

def engine(server, folder=None, **kw): return s.ServerEngine(server.url, tokenizer=folder, **dict(batch_size=4) | kw)

def one_line(e): return "\n" not in str(e.value) and len(str(e.value)) < 700

# ---- a server that dies

@pytest.mark.parametrize("kind", ["double", "vllm"])
def test_a_server_killed_and_restarted_costs_nothing(kind, folder, tmp_path, monkeypatch):
    if kind == "vllm" and not vllm_python(): pytest.skip("no vLLM here: set COREA_VLLM_PYTHON to an interpreter that has it")
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(s.subprocess, "Popen", lambda *a, **kw: started.append(popen(*a, **kw)) or started[-1])
    serve = lambda port=None: s.vllm_server(folder, python=vllm_python() if kind == "vllm" else interpreter(tmp_path), port=port,
                                            log=tmp_path/"log", dtype="float32", enforce_eager=True)
    with serve() as url:
        ask = lambda: s.ServerEngine(url, tokenizer=folder, batch_size=4).generate(QUESTIONS, DRAWN, n=8, seed=3)
        whole, stream = list(ask()), ask()
        got = [next(stream) for _ in range(5)]
        os.killpg(started[0].pid, signal.SIGKILL)
        assert started[0].wait() == -signal.SIGKILL
    with serve(httpx.URL(url).port) as again:
        assert again == url
        got += stream
    assert len(started) == 2 and len(got) == len({(c.index, c.sample) for c in got}) == 24
    assert ordered(got) == ordered(whole)
    assert gone([p.pid for p in started])
    with pytest.raises(CoreaError, match="ConnectError"): s.ServerEngine(url, patience=0)    # it ended with its block

def test_a_server_that_is_still_starting_is_waited_for(folder, quick, caplog):
    port = s.free_port()
    with pytest.raises(CoreaError, match="gave no answer to models .*ConnectError") as e:
        s.ServerEngine(f"http://127.0.0.1:{port}", patience=0)
    assert one_line(e) and not caplog.records
    late = []
    def start():        # once it has been missed
        end = time.monotonic() + 60
        while not caplog.records and time.monotonic() < end: time.sleep(.01)
        late.append(Double(folder, port).__enter__())
    thread = threading.Thread(target=start)
    thread.start()
    try: assert s.ServerEngine(f"http://127.0.0.1:{port}").model == str(folder)
    finally: thread.join(), late[0].__exit__()
    assert [r.levelname for r in caplog.records if r.name == "corea.server"] == ["WARNING"]    # told once, not at each attempt

def test_a_server_that_stays_away_ends_the_run_with_all_that_was_answered(server, folder, quick):
    server.faults, got = [None]*7 + [reset]*10**6, []
    with pytest.raises(CoreaError, match=r"gave no answer to question \d") as e:
        for c in engine(server, folder, patience=.2).generate(QUESTIONS, SHORT, n=9): got.append((c.index, c.sample))
    assert len(got) == len(set(got)) == 7 and one_line(e)
    assert len(server.seen) < 10**6 - len(server.faults) + 7 + 10    # the unasked are not asked any more

def test_an_abandoned_run_stops_asking_and_says_nothing(server, folder, caplog):
    released, answered = threading.Event(), []
    def hang(h): answered.append(released.wait(60))
    server.faults = [None, hang, hang]
    stream = engine(server, folder, batch_size=3).generate(QUESTIONS, SHORT, n=4)
    next(stream)
    stream.close()
    assert not answered and len([t for t in threading.enumerate() if t.name == "corea-requests"]) == 1
    released.set()
    assert len(server.seen) <= 4 and not caplog.records

# ---- a server that fails for a moment

FAULTS = {
    "reset": reset, "half": half, "500": code(500), "503": code(503), "429": code(429), "408": code(408),
    "not JSON": text(b"<html>down</html>"), "not UTF-8": text(b"\xff\xfe{"), "too deep": text(b"[" * 10**5), "no choices": text(b'{"choices": []}'),
    "wrong kind": text(b'{"choices": 3}'), "a list": text(b"[]"), "empty": text(b""), "bad id": text(b'{"choices": [{"token_ids": [-1], "logprobs": '
    b'{"token_logprobs": [0]}}]}'), "unequal": text(b'{"choices": [{"token_ids": [1, 2], "logprobs": {"token_logprobs": [0]}}]}')}

ODD = {"no choices", "wrong kind", "a list", "bad id", "unequal"}      # JSON that came from the model's own server, and was perhaps paid for

@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_failure_changes_nothing(server, folder, quick, fault):
    ask = lambda: ordered(engine(server, folder).generate(QUESTIONS, DRAWN, n=2))
    whole = ask()
    server.faults = [None, FAULTS[fault], None, FAULTS[fault], FAULTS[fault]]
    assert ask() == whole and not server.faults

@pytest.mark.parametrize("fault", [late(5), drip])
def test_an_answer_that_takes_too_long_is_asked_for_again(server, folder, quick, fault):
    whole = ordered(engine(server, folder).generate(QUESTIONS, SHORT))
    server.faults = [fault]
    assert ordered(engine(server, folder, timeout=1).generate(QUESTIONS, SHORT)) == whole
    server.faults = [fault]*3
    with pytest.raises(CoreaError, match="no answer within 0.2 s"):
        list(engine(server, folder, timeout=.2, patience=0).generate(QUESTIONS, SHORT))

@pytest.fixture(scope="module")
def storm(folder):
    with Double(folder) as d: yield d, s.ServerEngine(d.url, tokenizer=folder, batch_size=3)

@settings(max_examples=15)
@given(st.lists(st.sampled_from([None, None, *(FAULTS.keys() - ODD)]), max_size=25))
def test_whatever_fails_every_answer_comes_once(storm, faults):
    server, e = storm
    with pytest.MonkeyPatch.context() as m:
        m.setattr(s.JITTER, "uniform", lambda a, b: .001)
        server.faults = [f and FAULTS[f] for f in faults]
        got = list(e.generate(QUESTIONS, SHORT, n=3))
        server.faults = []
        assert len(got) == 9 and ordered(got) == ordered(e.generate(QUESTIONS, SHORT, n=3))

def pauses(server, faults, monkeypatch, **kw):
    "The pauses that failures led to, none of them waited for."
    slept, sleep = [], asyncio.sleep
    async def record(t, *a):
        slept.append(t)
        await sleep(0)
    monkeypatch.setattr(s.asyncio, "sleep", record)
    e = engine(server, batch_size=1, **kw)
    server.faults = list(faults)
    list(e.generate(QUESTIONS[:1], SHORT))
    return [t for t in slept if t > 0]

def test_pauses_double_up_to_a_limit_and_are_scattered(server, monkeypatch):
    got = pauses(server, [code(500)]*10, monkeypatch, patience=10**6)
    full = [min(.5 * 2**k, s.LONGEST_PAUSE) for k in range(10)]
    assert all(f/2 <= t <= f for t, f in zip(got, full, strict=True)) and len({t/f for t, f in zip(got, full)}) > 5

def test_a_server_that_names_a_time_is_not_asked_before(server, monkeypatch):
    assert pauses(server, [code(429, Retry_After=77)], monkeypatch) == [77]
    [guess] = pauses(server, [code(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")], monkeypatch)
    assert guess <= .5    # a date that has passed
    with pytest.raises(CoreaError, match="gave no answer to question 0 for 0 s .*429"):
        pauses(server, [code(429, Retry_After="9"*5000)], monkeypatch)    # longer than we have patience for: told at once

def test_the_callers_random_state_is_untouched(server, folder, quick):
    import random, torch
    before = random.getstate(), torch.random.get_rng_state()
    server.faults = [code(500)]*3
    list(s.ServerEngine(server.url).generate(QUESTIONS, SHORT))
    assert random.getstate() == before[0]

# ---- mistakes of ours

def test_mistakes_are_told_at_once(server, folder):
    for make, match in (
            (lambda: s.ServerEngine(server.url, "other"), "serves no model 'other': give model=, one of"),
            (lambda: s.ServerEngine(server.url + "/nowhere", patience=0), None),
            (lambda: s.ServerEngine(server.url, tokenizer=folder/"nothing"), "cannot open the tokenizer"),
            (lambda: engine(server).generate("Work out 1."), "give a list"),
            (lambda: engine(server, folder).generate([QUESTIONS[0], QUESTIONS[0]*20]), "question 1 has .* exceed the model's 128")):
        if match is None: make()    # a double answers below any path
        else:
            with pytest.raises(CoreaError, match=match) as e: make()
            assert one_line(e)
    for url in ("localhost:80", "ftp://host", "http://", "", None, 3, "http://a:b@host", "http://host/v1?key=secret", "http://[::1"):
        with pytest.raises(CoreaError) as e: s.ServerEngine(url)
        assert one_line(e) and "secret" not in str(e.value)

def test_a_refused_question_is_named_and_the_others_are_kept(server):
    got, long = [], "1 + 2"*90
    with pytest.raises(CoreaError, match="asked question 1: 400 .*too many") as e:
        for c in engine(server, batch_size=1).generate([QUESTIONS[0], long, QUESTIONS[1]], SHORT): got.append(c.index)
    assert got == [0, 2] and one_line(e) and len(server.seen) == 3 and "1 of 3 answers refused" in str(e.value)

def test_where_everything_is_refused_the_rest_is_not_asked(server):
    long = "1 + 2"*90
    with pytest.raises(CoreaError, match="400 .*too many"): list(engine(server, batch_size=1).generate([long]*20, SHORT))
    assert len(server.seen) == s.ENOUGH

@pytest.mark.parametrize("fault", sorted(ODD))
def test_an_odd_answer_is_paid_for_three_times_at_most(server, folder, quick, fault):
    server.faults = [FAULTS[fault]]*9
    with pytest.raises(CoreaError, match="not as it should be.*three times"): list(engine(server, folder).generate(QUESTIONS[:1], SHORT))
    assert len(server.seen) == 3

@pytest.mark.parametrize("body, says", [
    (dict(error=dict(message="free-models-per-day", code=402)), "free-models-per-day"), (dict(error="no such model"), "no such model"),
    (dict(choices=[], usage={}), "without choices"), (dict(choices=[dict(message=3)], usage=dict(prompt_tokens=1, completion_tokens=2)), "though it was paid for")])
def test_a_chat_answer_that_no_second_attempt_mends_is_told_at_once(body, says):
    wire, asked = s.Wire("http://host", patience=60), []
    answer = httpx.MockTransport(lambda request: asked.append(request) or httpx.Response(200, content=json.dumps(body)))
    async def ask():
        async with httpx.AsyncClient(transport=answer, base_url="http://host") as client:
            return await wire.ask(client, "chat/completions", {}, lambda r: s.read_chat(r, 0, 0), "question 0")
    with pytest.raises(CoreaError, match=says): asyncio.run(ask())
    assert len(asked) == 1

@pytest.mark.parametrize("said, seconds", [("3", 3), ("", 0), ("soon", 0), ("-5", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_a_pause_is_asked_for_in_seconds_or_by_a_date(said, seconds): assert s.pause_asked({"retry-after": said}) == seconds

def test_a_date_to_come_back_at_is_kept():
    from datetime import datetime, timedelta, timezone
    from email.utils import format_datetime
    assert 50 < s.pause_asked({"retry-after": format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)}) <= 60

def test_half_a_character_is_replaced_in_answers_and_refused_in_questions(server, folder):
    reply = dict(choices=[dict(message=dict(content="7 \ud83d!"), finish_reason="stop")], usage=dict(prompt_tokens=1, completion_tokens=2))
    assert s.read_chat(reply, 0, 0).text == "7 \ufffd!"
    with pytest.raises(CoreaError, match="question 1 .*half a character"): list(engine(server, folder).generate(["1 + 1", "a\ud800"], SHORT))

def test_other_codes_are_not_asked_again(server):
    for n in (400, 401, 403, 404, 307, 204):
        server.faults, server.seen = [code(n)], []
        with pytest.raises(CoreaError, match=f"asked question 0: {n}") as e: list(engine(server).generate(QUESTIONS[:1], SHORT))
        assert len(server.seen) == 1 and ("COREA_API_KEY" in str(e.value)) == (n in (401, 403))

def test_a_server_without_token_ids_is_sent_to_chat(server, folder, monkeypatch):
    say = Double.completions
    monkeypatch.setattr(Double, "completions", lambda self, ask: say(self, ask | dict(return_token_ids=False)))
    with pytest.raises(CoreaError, match="leave the tokenizer out"): list(engine(server, folder).generate(QUESTIONS))

def test_an_answer_without_end_is_cut(server, monkeypatch):
    monkeypatch.setattr(s, "LARGEST_REPLY", 10)
    server.faults = [text(b" "*20)]
    with pytest.raises(CoreaError, match="more than 10 bytes"): list(engine(server, patience=0).generate(QUESTIONS, SHORT))

# ---- the key

def test_the_key_is_sent_and_never_shown(server, folder, quick, monkeypatch, caplog, tmp_path):
    from corea.lab.experiments import ask
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("COREA_API_KEY", key := "sk-" + os.urandom(9).hex())    # not in this source, which a traceback shows
    e = engine(server, folder)
    shown = [repr(e), repr(vars(e)), repr(vars(e.wire)), e.name]
    for n in (401, 500, 400):
        server.faults = [echo_key(n)]*9
        with pytest.raises(CoreaError, match=r"bad key Bearer \[key\]") as error:
            list(s.ServerEngine(server.url, patience=.1).generate(QUESTIONS[:1], SHORT))
        shown += [repr(error.value), str(error.getrepr(chain=True))]
    server.faults = []
    questions = [dict(id=str(i), question=q, gold="1", kind="exact", dataset="calc", domain="in") for i, q in enumerate(QUESTIONS)]
    rows = ask(e, "llm", questions, tmp_path/"records.jsonl", 2, 1.0, 40)
    shown += [(tmp_path/"records.jsonl").read_text(), caplog.text]
    assert len(rows) == 6 and {r["engine"] for r in rows} == {e.name}
    assert {h["Authorization"] for _, h, _ in server.seen} == {f"Bearer {key}"}
    assert not any(key in text for text in shown)

@pytest.mark.parametrize("key", ["sk\nsecret", "sk-sécret"])
def test_a_key_that_no_header_carries(server, monkeypatch, key):
    monkeypatch.setenv("COREA_API_KEY", key)
    with pytest.raises(CoreaError, match="no header can carry") as e: engine(server)
    assert "cret" not in str(e.value).replace("COREA", "")

def test_without_a_key_none_is_sent(server, monkeypatch):
    for name in ("COREA_API_KEY", "OPENAI_API_KEY"): monkeypatch.delenv(name, raising=False)
    list(engine(server).generate(QUESTIONS[:1], SHORT))
    assert "Authorization" not in server.seen[0][1]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-only")
    list(engine(server).generate(QUESTIONS[:1], SHORT))
    assert server.seen[1][1]["Authorization"] == "Bearer sk-only"

# ---- chat, and older servers

def test_chat_gives_what_the_server_tells(server, folder):
    want = ordered(g.TransformersEngine(folder).generate(QUESTIONS, g.Sampling(0)))
    assert all(c.confidence_logprobs for c in want)
    for top in (None, 0, 1, 1000):
        server.seen = []
        got = ordered(engine(server, top_logprobs=top).generate(QUESTIONS, g.Sampling(0)))
        for a, b in zip(got, want, strict=True):
            assert (a.text, a.prompt_tokens, a.completion_tokens, a.finish_reason) == (b.text, b.prompt_tokens, b.completion_tokens, b.finish_reason)
            assert a.token_ids == () and a.logprobs == (() if top is None else pytest.approx(b.logprobs, abs=1e-3))
            if a.confidence_logprobs: assert a.confidence_logprobs == pytest.approx(b.confidence_logprobs, abs=1e-3)
        assert all(("logprobs" in ask) == (top is not None) for _, _, ask in server.seen)
        assert any(c.confidence_logprobs for c in got) == (top == 1000)    # the eleven are not among fewer

def test_chat_stops_cuts_repeats_and_skips(server):
    e = engine(server)
    ask = lambda **kw: ordered(e.generate(QUESTIONS, **kw))
    for c in ask(sampling=g.Sampling(0, stop="=")): assert "=" not in c.text and c.finish_reason == "stop"
    assert {c.finish_reason for c in ask(sampling=SHORT)} == {"length"}
    drawn = ask(sampling=DRAWN, n=4, seed=1)
    assert drawn == ask(sampling=DRAWN, n=4, seed=1) != ask(sampling=DRAWN, n=4, seed=2)
    assert ask(sampling=DRAWN, n=4, seed=1, done={(c.index, c.sample) for c in drawn[:5]}) == drawn[5:]

def test_chat_goes_on_where_the_server_is_vllm(server, folder):
    begun = [" (a) + 98", "", " (a)"]
    want = ordered(g.TransformersEngine(folder).generate(QUESTIONS, g.Sampling(0), begun=begun))
    e = engine(server)
    got = ordered(e.generate(QUESTIONS, g.Sampling(0), begun=begun))
    assert [(c.text, c.prompt_tokens, c.completion_tokens) for c in got] == [(c.text, c.prompt_tokens, c.completion_tokens) for c in want]
    e.way.neutral = {}      # a server of another make
    assert ordered(e.generate(QUESTIONS, g.Sampling(0), begun=["", "", ""])) == ordered(e.generate(QUESTIONS, g.Sampling(0)))
    with pytest.raises(CoreaError, match="go on with no begun answer"): e.generate(QUESTIONS, begun=begun)

def json_values(): return st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                                       lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=3), x, max_size=2), max_leaves=4)

REPLY = dict(choices=[dict(message=dict(content="7 \\confidence{0.9}"), finish_reason="stop", logprobs=dict(content=[
    dict(token="7 \\confidence{", logprob=-.1, top_logprobs=[]), dict(token="0.9", logprob=-.2, top_logprobs=[
        dict(token=v, logprob=-1.) for v in s.VALUES])]))], usage=dict(prompt_tokens=3, completion_tokens=4))

def places(x, at=()):
    "Paths to all that a JSON value holds."
    yield at
    for k, v in x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else (): yield from places(v, (*at, k))

@settings(max_examples=200)
@given(st.sampled_from(list(places(REPLY))[1:]), json_values())
def test_a_chat_answer_with_something_wrong_in_it_is_read_well_or_asked_for_again(place, junk):
    reply = copy.deepcopy(REPLY)
    at = reply
    for k in place[:-1]: at = at[k]
    at[place[-1]] = junk
    wire, answer = s.Wire("http://host"), httpx.MockTransport(lambda request: httpx.Response(200, content=json.dumps(reply)))
    async def attempt():
        async with httpx.AsyncClient(transport=answer, base_url="http://host") as client:
            return await wire.attempt(client, "chat/completions", {}, lambda r: s.read_chat(r, 0, 0))
    try: c = asyncio.run(attempt())
    except s.Again: return
    except CoreaError as e:
        assert re.search("without choices|though it was paid for", str(e)) or place == ("choices", 0)    # {"error": ...} in it
        return
    assert isinstance(c.text, str) and isinstance(c.finish_reason, str)
    assert all(type(n) is int and n >= 0 or math.isnan(n) for n in (c.prompt_tokens, c.completion_tokens))
    assert all(isinstance(lp, float) for lp in (*c.logprobs, *(c.confidence_logprobs or {}).values()))

@pytest.mark.parametrize("width", [1000, 1])
def test_an_older_vllm_tells_of_its_likeliest_only(server, folder, monkeypatch, width):
    write = Double.write
    monkeypatch.setattr(Double, "write", lambda self, p, logprobs=0, logprob_token_ids=(), **kw: write(self, p, logprobs=logprobs and width, **kw))
    want = ordered(g.TransformersEngine(folder).generate(QUESTIONS, g.Sampling(0)))
    got = ordered(engine(server, folder).generate(QUESTIONS, g.Sampling(0)))
    for a, b in zip(got, want, strict=True):
        assert a.token_ids == b.token_ids
        if a.confidence_logprobs: assert a.confidence_logprobs == pytest.approx(b.confidence_logprobs, abs=1e-3)
    assert any(c.confidence_logprobs for c in got) == (width == 1000)

# ---- many at once

def test_as_many_in_flight_as_asked_for(server, folder, monkeypatch):
    flying, most, say, lock = [], [], Double.completions, threading.Lock()
    def count(self, ask):
        with lock: flying.append(1), most.append(len(flying))
        time.sleep(.02)
        try: return say(self, ask)
        finally: flying.pop()
    monkeypatch.setattr(Double, "completions", count)
    list(engine(server, folder, batch_size=3).generate(QUESTIONS, SHORT, n=6))
    assert 2 <= max(most) <= 3

def test_progress_bar_counts_answers(server, folder, capsys):
    list(engine(server, folder).generate(QUESTIONS, SHORT, n=2, done={(0, 0)}, progress=True))
    assert "6/6" in capsys.readouterr().err

# ---- a server of our own, and the choice of an engine

def script(folder, text):
    path = folder/"python"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path

def test_a_server_that_does_not_come_up_is_told_with_its_last_words(tmp_path):
    serve = lambda **kw: s.vllm_server("ck", python=tmp_path/"python", log=tmp_path/"log", **kw)
    script(tmp_path, "echo out of memory; exit 3")
    with pytest.raises(CoreaError, match="server ended; .*log ends with: out of memory") as e:
        with serve(): pass
    assert one_line(e)
    script(tmp_path, f"sleep 1000 & echo $! $* > {tmp_path}/pid; echo loading; wait")
    with pytest.raises(CoreaError, match="is not up after 1 s; .* loading"):
        with serve(patience=1, tensor_parallel_size=2, enforce_eager=True): pass
    pid, *flags = (tmp_path/"pid").read_text().split()
    assert gone([int(pid)]) and flags[:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model", "ck"]
    assert flags[-3:] == ["--tensor-parallel-size", "2", "--enforce-eager"]

def test_a_group_that_will_not_end_is_killed(tmp_path):
    path = script(tmp_path, f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/pid; while true; do sleep .1; done")
    p = subprocess.Popen([path], start_new_session=True)
    while not (tmp_path/"pid").exists() or not (tmp_path/"pid").read_text().strip(): time.sleep(.02)
    s.kill_group(p, patience=.2)
    assert p.returncode == -signal.SIGKILL and gone([int((tmp_path/"pid").read_text())])

def test_a_proxy_is_not_asked_for_this_machine(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"): monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"): monkeypatch.delenv(name, raising=False)
    assert s.ServerEngine(server.url, patience=0).model == server.path
    with pytest.raises(CoreaError, match="ConnectError"): s.ServerEngine("http://server.invalid", patience=0)

def test_a_server_is_the_large_model_of_a_cascade(server, folder):
    from corea.cascade import Cascade
    slm = g.TransformersEngine(folder)
    for llm in (engine(server, folder), engine(server)):
        answer = Cascade(slm, llm, tau=1.1, sampling=g.Sampling(0)).answer(QUESTIONS[1])
        [alone] = slm.generate(QUESTIONS[1:2], g.Sampling(0))
        assert answer.who == "llm" and answer.tokens["llm"] == (alone.prompt_tokens, alone.completion_tokens)

def test_the_configuration_chooses(server, folder, monkeypatch):
    class Fake:
        def __init__(self, *a, **kw): self.args = a, kw
    monkeypatch.setattr(s, "VLLMEngine", Fake), monkeypatch.setattr(s, "TransformersEngine", Fake)
    cfg = load_profile("smoke", llm_server=server.url)
    assert s.engine_for(cfg, "slm").args == (("slm",), dict(batch_size=64, device="cpu", precision="", sift=0))
    assert s.engine_for(load_profile("smoke"), "llm", llm=True).args == (("llm",), dict(batch_size=64, device="cpu", precision="", sift=0))
    fast = load_profile("smoke", engine="vllm", device="cuda")
    assert s.engine_for(fast, "a/b", tensor_parallel_size=2).args == (("a/b",), dict(batch_size=64, tensor_parallel_size=2))
    exact = load_profile("smoke", engine="vllm", device="cuda", precision="float32")
    assert s.engine_for(exact, "a/b").args[1]["dtype"] == "float32"
    asked = s.engine_for(cfg, folder, llm=True, patience=3)
    assert (asked.model, asked.batch_size, asked.wire.patience, bool(asked.tokenizer)) == (str(folder), 64, 3, True)
    with pytest.raises(CoreaError, match="serves no model 'gpt'"): s.engine_for(cfg, "gpt", llm=True)

# ---- servers of every make, through a stand-in that is no model: what it says is made from question and seed

class Loopback(ThreadingHTTPServer):
    "A chat server on loopback. `faults(question, n)` may give what happens in place of the n-th answer to a question, as `tests/server.py` has them."
    request_queue_size, daemon_threads = 512, True
    def __init__(self, say=None, faults=lambda question, n: None, listing=(200, dict(data=[dict(id="m")]))):
        super().__init__(("127.0.0.1", 0), LoopbackHandler)
        self.say, self.faults, self.listing = say or said, faults, listing
        self.asked, self.paid, self.bodies, self.lines, self.lock = Counter(), Counter(), [], set(), threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self
    def __exit__(self, *exc): self.shutdown(), self.server_close()
    def handle_error(self, *args): pass

def said(question, body):
    "What is answered, by a coin that question and seed toss; the number of tokens is that of the characters."
    coin = int(hashlib.sha256(f"{question} {body.get('seed')}".encode()).hexdigest(), 16)
    text = ["" if coin % 7 == 0 else rf"\boxed{{{coin % 5}}}", "" if coin % 11 == 0 else rf" \confidence{{0.{coin % 10}}}"]
    return dict(choices=[dict(message=dict(content="".join(text)), finish_reason="stop")],
                usage=dict(prompt_tokens=len(question), completion_tokens=len("".join(text)) or 1))

class LoopbackHandler(BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", 60
    def do_GET(self): self.say(*self.server.listing)
    def do_POST(self):
        body, s = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.server
        question = body["messages"][-1]["content"].partition("\nPlease")[0]
        with s.lock:
            s.asked[question] += 1
            s.bodies.append(body), s.lines.add(self.client_address)
            fault = s.faults(question, s.asked[question])
        if fault: return fault(self)
        reply = s.say(question, body)
        with s.lock: s.paid[question] += isinstance(reply, dict)
        self.say(*(reply if isinstance(reply, tuple) else (200, reply)))
    say, log_message = Handler.say, Handler.log_message

def ask(e, questions, **kw): return ordered(e.generate(questions, **kw))

@pytest.mark.parametrize("headers, seconds", [
    ({"retry-after-ms": "1500"}, 1.5), ({"retry-after-ms": "200", "retry-after": "7"}, .2), ({"retry-after": "2.5"}, 2.5), ({"retry-after-ms": "x", "retry-after": "7"}, 7),
    ({"retry-after": "\u00b3"}, 0), ({"retry-after": "inf"}, 0), ({"retry-after": "nan"}, 0), ({}, 0), ({"retry-after": "Wed, 21 Oct 99999 07:28:00 GMT"}, 0),
    ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),      # by its own clock
    ({"retry-after": "Wed Oct 21 07:28:30 2015", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30)])
def test_every_way_to_ask_for_a_pause(headers, seconds): assert s.pause_asked(headers) == seconds

def test_a_server_that_wants_no_other_attempt_gets_none():
    with Loopback(faults=lambda q, n: code(503, X_Should_Retry="false")) as server, pytest.raises(CoreaError, match="503"):
        ask(s.ServerEngine(server.url, patience=60), ["1 + 1?"])
    assert server.asked["1 + 1?"] == 1

LISTINGS = {"none": (404, "no"), "not for this key": (403, "no"), "not with GET": (405, "no"), "not here": (501, "no"), "a page": (200, b"<html>"), "empty": (200, b""),
            "bare": (200, [dict(id="m")]), "null": (200, b"null"), "no data": (200, {}), "data null": (200, dict(data=None)), "no names": (200, dict(data=[{}, 3, None, dict(id=7)])),
            "other names": (200, dict(models=[dict(name="m", context_length="4096")])), "an error": (200, dict(error="no such route"))}

@pytest.mark.parametrize("listing", LISTINGS)
def test_a_list_of_models_that_is_absent_or_odd_stops_nobody_who_names_one(listing):
    with Loopback(listing=LISTINGS[listing]) as server:
        with s.ServerEngine(server.url, "m", patience=60) as e: assert len(ask(e, ["1 + 1?"])) == 1
        if listing in ("bare", "other names"): assert s.ServerEngine(server.url).model == "m"
        else:
            with pytest.raises(CoreaError) as error: s.ServerEngine(server.url, patience=0)
            assert one_line(error)
        assert e.context == (4096 if listing == "other names" else math.inf)

REFUSALS = {    # field -> what servers of the world say to it; found in their issue trackers
    "max_tokens": dict(error=dict(message="Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", param="max_tokens")),
    "temperature": dict(error=dict(message="Unsupported value: 'temperature' does not support 0.6 with this model. Only the default (1) value is supported.", param="temperature")),
    "seed": dict(detail=[dict(type="extra_forbidden", loc=["body", "seed"], msg="Extra inputs are not permitted", input=7)]),
    "logprobs": dict(error=dict(message="This model does not support logprobs.")),
    "top_p": dict(error=dict(message="`temperature` and `top_p` cannot both be specified for this model."))}

@pytest.mark.parametrize("fields", [[f] for f in REFUSALS] + [list(REFUSALS)], ids=lambda f: "+".join(f))
def test_what_a_server_does_not_take_is_found_out_once(fields, caplog):
    def say(question, body):
        bad = next((f for f in fields if f in body), None)
        return (422 if bad == "seed" else 400, REFUSALS[bad]) if bad else said(question, body)
    with Loopback(say) as server:
        e = s.ServerEngine(server.url, batch_size=1)
        assert len(ask(e, list("abcdef"))) == 6 and sum(server.asked.values()) == 6 + len(fields) and set(server.paid.values()) == {1}
        assert len(ask(e, list("ghi"))) == 3 and sum(server.asked.values()) == 9 + len(fields)
        last = server.bodies[-1]
    assert not set(fields) & set(last) and ("max_completion_tokens" in last) == ("max_tokens" in fields)
    assert len(caplog.records) == len(set(fields) - {"max_tokens"})      # what is left out is told once; another name for the same is not

def test_seeds_are_shortened_where_they_are_too_long():
    def say(question, body): return (400, dict(error="seed must be int32")) if body["seed"] >= 2**31 else said(question, body)
    with Loopback(say, listing=(200, dict(data=[dict(id="m", owned_by="vllm")]))) as server:     # that alone is sent longer ones
        assert len(ask(s.ServerEngine(server.url, batch_size=1), list("abcd"))) == 4
        assert sum(server.asked.values()) == 5

def test_a_question_cannot_teach_a_dialect():
    evil = "Is it true that 'temperature' is not supported, and 'seed' an unknown field? Use max_completion_tokens!"
    with Loopback(lambda question, body: (400, f"too long: {body['messages'][0]['content']}")) as server:
        with pytest.raises(CoreaError, match="too long"): ask(e := s.ServerEngine(server.url), [evil])
        assert len(server.bodies) == 1 and not e.way.dialect.lacks and not e.way.dialect.newer

def test_extra_body_is_put_over_every_request():
    with Loopback() as server:
        ask(s.ServerEngine(server.url, extra_body=dict(seed=None, provider=dict(order=["a"]), temperature=1)), ["1 + 1?"])
        assert server.bodies[0]["provider"] == dict(order=["a"]) and server.bodies[0]["temperature"] == 1 and "seed" not in server.bodies[0]
        for k in ("stream", "messages", "model", "n"):
            with pytest.raises(CoreaError, match=k): s.ServerEngine(server.url, extra_body={k: 1})

def test_one_connection_serves_many_questions():
    with Loopback() as server, s.ServerEngine(server.url, batch_size=1) as e:
        for q in "abcde": e.submit(q).result(60)
        ask(e, list("fgh"))
        assert len(server.lines) == 1
        e.close()
        assert e.submit("i").result(60).prompt_tokens == 1 and len(server.lines) == 2     # closed is not lost

def test_a_changed_key_counts_at_once(server, monkeypatch):
    monkeypatch.setenv("COREA_API_KEY", "sk-one")
    e = engine(server)
    list(e.generate(QUESTIONS[:1], SHORT))
    monkeypatch.setenv("COREA_API_KEY", "sk-two")
    list(e.generate(QUESTIONS[:1], SHORT))
    assert [h["Authorization"] for _, h, _ in server.seen] == ["Bearer sk-one", "Bearer sk-two"]

def test_a_request_that_nobody_waits_for_is_not_asked_again(monkeypatch):
    with Loopback(faults=lambda q, n: code(503)) as server:
        future = s.ServerEngine(server.url).submit("1 + 1?")
        while not server.asked: time.sleep(.01)
        assert future.cancel()
        time.sleep(1.5)     # the first pause is half a second at most
        assert server.asked["1 + 1?"] == 1
        with pytest.raises(CoreaError, match="gave no answer to question 0 .*503"):
            s.ServerEngine(server.url).submit("2 + 2?", until=time.monotonic() + .2).result(60)

USAGE = [(dict(prompt_tokens=11, completion_tokens=7), (11, 7)), (dict(prompt_tokens="11", completion_tokens="7"), (11, 7)), (dict(input_tokens=11, output_tokens=7.0), (11, 7)),
         (dict(prompt_tokens=11, total_tokens=18), (11, 7)), (dict(completion_tokens=7, total_tokens=18), (11, 7)), (dict(prompt_tokens=11, total_tokens=5), (11, None)),
         (dict(prompt_tokens=-5, completion_tokens=7), (None, 7)), (dict(prompt_tokens=True, completion_tokens=False), (None, None)), (dict(prompt_tokens=11, completion_tokens=1e300), (11, None)),
         (dict(prompt_tokens=11, completion_tokens=0), (11, None)), (dict(prompt_tokens=0, completion_tokens=7), (None, 7)), ({}, (None, None)), (None, (None, None)), ([], (None, None)),
         (dict(prompt_tokens=float("nan"), completion_tokens=float("inf")), (None, None)), (dict(prompt_tokens=10**400, completion_tokens="7e0"), (None, None))]

@pytest.mark.parametrize("told, counts", USAGE)
def test_tokens_are_what_is_told_or_unknown(told, counts):
    def say(question, body): return said("x", {}) | dict(usage=told, choices=[dict(message=dict(content="7"), finish_reason="stop")])
    with Loopback(say) as server:
        e = s.ServerEngine(server.url, patience=60)
        c = e.submit("1 + 1?").result(60)
        assert [None if math.isnan(n) else n for n in (c.prompt_tokens, c.completion_tokens)] == list(counts) and c.text == "7"
        if None in counts:      # no table of costs can be made of it
            with pytest.raises(CoreaError, match="without usage"): ask(e, ["2 + 2?"])
        assert set(server.asked.values()) == {1}

def test_all_that_was_paid_is_counted():
    "Also what was written for an answer that nobody can read."
    odd = dict(message=3), dict(message=dict(content="7"), finish_reason="stop")
    def say(question, body):
        return dict(choices=[] if question == "a" else [odd[question == "c"]], usage=dict(prompt_tokens=5, completion_tokens=2) if question != "d" else None)
    with Loopback(say) as server:
        e = s.ServerEngine(server.url, patience=60)
        for q in "abc":
            try: e.submit(q).result(60)
            except CoreaError: pass
        assert e.paid == s.Paid(answers=3, prompt_tokens=15, completion_tokens=6) and set(server.asked.values()) == {1}

@pytest.mark.parametrize("choice, text, why", [
    (dict(message=dict(content=None, refusal="I cannot"), finish_reason="stop"), "", "content_filter"), (dict(message=dict(content="7")), "7", "None"),
    (dict(message=dict(content=[dict(type="thinking", thinking=[]), dict(type="text", text="7")]), finish_reason="stop"), "7", "stop"),
    (dict(message=dict(content="7"), finish_reason="stop", logprobs=dict(content=[dict(token=3, logprob="x")])), "7", "stop"),
    (dict(message=dict(content="7"), finish_reason="stop", logprobs=dict(content=[dict(token="7", logprob=1000.)])), "7", "stop")])
def test_an_answer_that_was_paid_for_is_read_if_it_can_be(choice, text, why):
    c = s.read_chat(dict(choices=[choice], usage=dict(prompt_tokens=1, completion_tokens=1)), 0, 0)
    assert (c.text, c.finish_reason, c.logprobs) == (text, why, ())

def test_the_same_question_gets_the_same_text_wherever_it_stands():
    questions = [f"{i} + 1?" for i in range(20)]
    with Loopback() as server:
        e = s.ServerEngine(server.url)
        for seed in range(3):
            whole, back = ask(e, questions, seed=seed), ask(e, questions[::-1], seed=seed)
            assert [c.text for c in whole] == [c.text for c in back[::-1]] == [e.submit(q, seed=seed).result(60).text for q in questions]
        assert ask(e, questions, seed=0, n=2) != ask(e, questions, seed=1, n=2)
