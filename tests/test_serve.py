"A served policy, asked by OpenAI's own client over loopback: its decisions, its errors, its ledger."
import asyncio, dataclasses, json, logging, socket, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import httpx, openai, pytest, uvicorn
from corea.cascade import defer
import corea.extra.serve as serving
from corea.core import CoreaError, digest, read_records, write_records
from corea.extra.policy import FEATURES, Gate, calibrate, ledger_report, ledger_rows, read_policy
from corea.extra.serve import Ledger, Refusal, app_for, ask_of
from corea.answer import parse
from corea.server import free_port
from server import code, echo_key
from test_server import Loopback

ROWS = [dict(id=str(i), question=f"What is {i} + 1?", gold=str(i % 5)) for i in range(40)]
QUESTIONS = [q["question"] for q in ROWS]

@pytest.fixture
def world(tmp_path):
    "Two stand-in servers, and a policy calibrated on them."
    write_records(tmp_path/"questions.jsonl", ROWS)
    with Loopback() as slm, Loopback() as llm:
        yield slm, llm, calibrate(tmp_path/"questions.jsonl", slm.url, llm.url, tmp_path/"policy.json", budget=.5, score="stated", progress=False)

@contextmanager
def running(policy, cascade=None, on_failure="slm", patience=.1, **how):
    "(client of OpenAI's, application) of a server in a thread."
    app = app_for(policy, cascade or policy.cascade(on_failure=on_failure, patience=patience), **how)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive(): time.sleep(.01)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client: yield client, app
    finally:
        server.should_exit = True
        thread.join()

def ask(client, question, **how): return client.chat.completions.create(model="corea", messages=[dict(role="user", content=question)], **how)

def test_served_decision_batch_decision_and_table_are_one(world, tmp_path):
    slm, llm, policy = world
    with policy.cascade() as cascade: batch = cascade.answers(QUESTIONS, policy.seed)
    with running(policy) as (client, _), ThreadPoolExecutor(8) as pool: served = list(pool.map(lambda q: ask(client, q), QUESTIONS))
    kept = {r["id"]: parse(r["text"]) for r in read_records(tmp_path/"policy.answers.jsonl") if r["who"] == "slm"}
    table = defer([None if (s := kept[q["id"]]).answer is None else s.confidence for q in ROWS], policy.tau)
    told = [r.corea for r in served]    # a field of ours, which the client lets through
    assert [t["who"] == "llm" for t in told] == [a.who == "llm" for a in batch] == table.tolist() and 0 < table.sum() < len(ROWS)
    assert [r.choices[0].message.content for r in served] == [a.text for a in batch]
    assert [t["cost"] for t in told] == pytest.approx([a.cost for a in batch])
    assert [r.usage.total_tokens for r in served] == [sum(map(sum, a.tokens.values())) for a in batch]

def test_the_client_of_openai_needs_no_change(world):
    *_, policy = world
    with running(policy) as (client, _):
        assert [m.id for m in client.models.list()] == [policy.model] == [client.models.retrieve(policy.model).id]
        raw = client.chat.completions.with_raw_response.create(model=policy.model, messages=[dict(role="user", content=[dict(type="text", text=QUESTIONS[0])])], temperature=1, max_tokens=5)
        whole = raw.parse()
        assert raw.headers["x-corea-policy"] == policy.model and raw.headers["x-corea-who"] == whole.corea["who"] and whole.corea["ignored"] == ["max_tokens", "temperature"]
        for q in QUESTIONS[:6]:
            chunks = list(ask(client, q, stream=True, stream_options=dict(include_usage=True)))
            same = ask(client, q)
            assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == same.choices[0].message.content
            assert chunks[-1].usage == same.usage and chunks[-2].choices[0].finish_reason == same.choices[0].finish_reason == "stop"
            assert chunks[0].corea["who"] == same.corea["who"]
        for how, error in ((dict(n=2), openai.BadRequestError), (dict(tools=[dict(type="function", function=dict(name="f"))]), openai.BadRequestError)):
            with pytest.raises(error) as e: ask(client, "What?", **how)
            assert e.value.code == "unsupported_parameter" and e.value.param == next(iter(how))
        with pytest.raises(openai.NotFoundError): client.chat.completions.create(model="gpt-9", messages=[dict(role="user", content="What?")])
        with pytest.raises(openai.NotFoundError): client.embeddings.create(model="corea", input="x")
        with pytest.raises(openai.BadRequestError): client.chat.completions.create(model="corea", messages=[])
    async def many():
        async with openai.AsyncOpenAI(base_url=url, api_key="any") as client: return await asyncio.gather(*(ask(client, q) for q in QUESTIONS[:5]))
    with running(policy) as (client, _):
        url = client.base_url
        assert len(asyncio.run(many())) == 5

def hangs(over): return lambda h: over.wait(60)

@pytest.mark.parametrize("fault", ["refuses", "hangs", "dies"])
def test_the_small_answer_outlives_the_large_model(fault, world, tmp_path):
    slm, llm, policy = world
    with policy.cascade() as cascade: q = next(q for q, a in zip(QUESTIONS, cascade.answers(QUESTIONS)) if a.score is not None and a.who == "llm")
    over = threading.Event()
    llm.faults = lambda question, n: dict(refuses=code(400), hangs=hangs(over), dies=code(500))[fault]
    try:
        with running(policy, deadline=2., ledger=tmp_path/"ledger.jsonl") as (client, _):
            r = ask(client, q)
            assert r.corea["failed"] and r.corea["who"] == "slm" and parse(r.choices[0].message.content).answer == r.corea["answer"] != None
            assert "127.0.0.1" not in r.model_dump_json()
        with running(policy, on_failure="raise", deadline=2.) as (client, _), pytest.raises(openai.InternalServerError) as e: ask(client, q)
        assert e.value.status_code == (504 if fault == "hangs" else 502) and e.value.response.json()["corea"]["answer"] == r.corea["answer"]
        slm.faults = lambda question, n: code(400)
        with running(policy, deadline=2.) as (client, _), pytest.raises(openai.InternalServerError) as e: ask(client, q)
        assert e.value.status_code == 502 and "corea" not in e.value.response.json()
    finally: over.set()
    assert [(r["status"], r["failed"]) for r in ledger_rows(tmp_path/"ledger.jsonl")[1:]] == [(200, True)]

def test_whoever_is_one_too_many_is_told_to_come_back_and_whoever_leaves_is_not_worked_for(world, tmp_path):
    slm, llm, policy = world
    over, held = threading.Event(), QUESTIONS[:2]
    slm.faults = lambda question, n: hangs(over) if question in held and not over.is_set() else None
    slm.asked.clear(), llm.asked.clear()
    try:
        with running(policy, limit=2, ledger=tmp_path/"ledger.jsonl") as (client, app), ThreadPoolExecutor(2) as pool:
            gone = [pool.submit(ask, client, q, timeout=8) for q in held]
            while app.state.service.flying < 2: time.sleep(.01)
            with pytest.raises(openai.RateLimitError) as e: ask(client, QUESTIONS[2])
            assert e.value.response.headers["retry-after"] == "1" and not slm.asked[QUESTIONS[2]]
            for f in gone: assert isinstance(f.exception(), openai.APITimeoutError)
            while app.state.service.flying: time.sleep(.01)     # their places are free
            assert ask(client, QUESTIONS[3]).choices
    finally: over.set()
    assert sorted(r["status"] for r in ledger_rows(tmp_path/"ledger.jsonl")[1:]) == [200, 499, 499]
    assert not llm.asked[held[0]] and not llm.asked[held[1]]

@pytest.mark.parametrize("texts", [False, True])
def test_no_line_is_lost_and_no_word_is_kept_unasked(texts, world, tmp_path):
    *_, policy = world
    book = tmp_path/"ledger.jsonl"
    with running(policy, ledger=book, texts=texts, ledger_most=20_000) as (client, app), ThreadPoolExecutor(8) as pool:
        ids = [r.id for r in pool.map(lambda k: ask(client, QUESTIONS[k % 40]), range(200))]
        meters = httpx.get(str(client.base_url).replace("/v1/", "/metrics")).text
    rows = [r for r in ledger_rows(book) if "start" not in r]
    assert len(list(tmp_path.glob("ledger.jsonl*"))) > 2 and sorted(ids) == sorted(r["id"] for r in rows)
    assert all(("question" in r) == texts for r in rows) and any("What is" in f.read_text() for f in tmp_path.glob("ledger.jsonl*")) == texts
    assert 'corea_requests_total{status="200"} 200.0' in meters and "corea_ledger_lost 0.0" in meters
    with open(book, "a") as f: f.write('{"torn')
    with running(policy, ledger=book) as (client, _): ask(client, QUESTIONS[0])
    r = ledger_report(book)
    assert (r.requests, r.answered, r.failed) == (201, 201, 0) and not r.alarm and 0 < r.llm_share < 1

def test_keys_are_in_no_answer_no_ledger_and_no_log(world, tmp_path, monkeypatch, caplog):
    slm, llm, policy = world
    monkeypatch.setenv("COREA_API_KEY", "sk-upstream")
    monkeypatch.setenv("COREA_SERVE_KEY", "sk-clients")
    llm.faults = lambda question, n: echo_key(401)
    seen = []
    with caplog.at_level(logging.DEBUG), running(policy, on_failure="raise", ledger=tmp_path/"ledger.jsonl", texts=True) as (client, _):
        with pytest.raises(openai.AuthenticationError) as e: ask(client, QUESTIONS[0])
        seen.append(e.value.response.text)
        for q in QUESTIONS[:10]:
            try: seen.append(ask(client.with_options(api_key="sk-clients"), q).model_dump_json())
            except openai.InternalServerError as e: seen.append(e.response.text)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("openai", "httpcore", "httpx"))]
    text = "\n".join([*seen, *ours, (tmp_path/"ledger.jsonl").read_text()])
    assert "sk-upstream" not in text and "sk-clients" not in text and "gave no answer" in text

@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"[" * 10**5, b'{"model": "corea"}', b'{"model": "corea", "messages": [1]}', b'{"model": {}, "messages": []}',
                                  b'{"model": "corea", "messages": [{"role": "user", "content": {}}]}', b'{"model": "corea", "messages": [{"role": [], "content": "x"}]}',
                                  b'{"model": "corea", "seed": 1e400, "messages": [{"role": "user", "content": "x"}]}', b"\xff"])
def test_whatever_is_sent_is_refused_in_one_line(body, world):
    with pytest.raises(Refusal) as e: ask_of(body, world[2])
    assert e.value.status in (400, 404) and "\n" not in str(e.value)

def test_a_large_request_is_not_read_to_its_end(world):
    with running(world[2]) as (client, _):
        r = httpx.post(str(client.base_url) + "chat/completions", content=b" " * (1 << 21), headers={"content-type": "application/json"})
        assert r.status_code == 413 and r.json()["error"]["message"]

def post(client, body, **headers): return httpx.post(str(client.base_url) + "chat/completions", content=body, headers={"content-type": "application/json"} | headers)

@pytest.mark.parametrize("how, param", [
    (dict(messages=[dict(role="user", content="What is 1 + 1?"), dict(role="assistant", content="2"), dict(role="user", content="And 2 + 2?")]), "messages"),
    (dict(messages=[dict(role="tool", content="4", tool_call_id="x"), dict(role="user", content="So?")]), "messages"),
    (dict(messages=[dict(role="user", content=[dict(type="image_url", image_url=dict(url="data:,"))])]), "messages[0].content"),
    (dict(messages=[dict(role="user", content=[dict(type="text", text=7)])]), "messages[0].content"),
    (dict(messages=[dict(role="user", content="What?")], modalities=["text", "audio"]), "modalities"),
    (dict(messages=[dict(role="user", content="What?")], response_format=dict(type="json_object")), "response_format"),
    (dict(messages=[dict(role="user", content="What?")], n=3), "n")])
def test_what_was_never_calibrated_is_refused_before_anybody_is_asked(how, param, world):
    slm, llm, policy = world
    slm.asked.clear()
    with running(policy) as (client, _), pytest.raises(openai.BadRequestError) as e: client.chat.completions.create(model="corea", **how)
    assert e.value.param == param and e.value.code.startswith("unsupported") and not slm.asked
    if len(how["messages"]) == 3: assert "single questions" in e.value.body["message"] and "no earlier turns" in e.value.body["message"]

def test_odd_names_of_fields_do_not_spoil_a_paid_answer(world):
    with running(world[2]) as (client, _):
        r = post(client, b'{"model": "corea", "messages": [{"role": "user", "content": "What is 1 + 1?"}], "\\ud800\\r\\nx": 1, "stop": null, "top_k": 5}')
        assert r.status_code == 200 and r.json()["corea"]["ignored"] == ["\\ud800\\r\\nx", "top_k"]
        assert post(client, b'{"model": "corea", "messages": [{"role": "user", "content": "\\ud800"}]}').status_code == 400

def test_a_page_of_the_web_cannot_ask(world):
    "What a browser sends without asking first has no JSON for its type."
    slm, _, policy = world
    slm.asked.clear()
    with running(policy) as (client, _):
        body = json.dumps(dict(model="corea", messages=[dict(role="user", content=QUESTIONS[0])]))
        assert [post(client, body, **{"content-type": kind}).status_code for kind in ("text/plain", "application/x-www-form-urlencoded")] == [415, 415] and not slm.asked

def test_what_failed_after_it_was_paid_is_not_asked_again_by_an_unchanged_client(world):
    slm, llm, policy = world
    with policy.cascade() as cascade: q = next(q for q, a in zip(QUESTIONS, cascade.answers(QUESTIONS)) if a.score is not None and a.who == "llm")
    llm.faults = lambda question, n: code(400)
    slm.asked.clear(), llm.asked.clear()
    with running(policy, on_failure="raise") as (client, _), pytest.raises(openai.InternalServerError): ask(client.with_options(max_retries=2), q)
    assert slm.asked[q] == llm.asked[q] == 1

def test_a_body_that_trickles_or_ends_early_holds_no_place(world, monkeypatch, caplog):
    monkeypatch.setattr(serving, "BODY", 1.)
    begun = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with caplog.at_level(logging.ERROR), running(world[2], limit=1) as (client, app):
        where = client.base_url.host, client.base_url.port
        with socket.create_connection(where) as slow:
            slow.sendall(begun)
            assert b" 408 " in slow.recv(1000).splitlines()[0]
        with socket.create_connection(where) as short: short.sendall(begun)
        time.sleep(.5)      # until the server has seen that one, too
        while app.state.service.flying: time.sleep(.01)
        assert ask(client, QUESTIONS[0]).choices
    assert not [r for r in caplog.records if r.name == "corea.extra.serve"]

def test_a_key_opens_all_but_health(world, monkeypatch):
    monkeypatch.setenv("COREA_SERVE_KEY", " sk-clients\n")
    with running(world[2]) as (client, _):
        base = str(client.base_url)
        get = lambda path, key: httpx.get(base.replace("/v1/", path), headers={"authorization": f"Bearer {key}"} if key else {}).status_code
        assert [[get(path, key) for key in ("sk-clients", "sk-other", "")] for path in ("/v1/models", "/v1/models/x", "/metrics", "/health")] == [
            [200, 401, 401], [404, 401, 401], [200, 401, 401], [200] * 3]

# ---- the ledger

def test_a_ledger_has_one_server_and_is_no_other_file(world, tmp_path):
    *_, policy = world
    with running(policy, ledger=tmp_path/"ledger.jsonl") as (client, _), pytest.raises(CoreaError, match="belongs to another server"):
        app_for(policy, policy.cascade(), ledger=tmp_path/"ledger.jsonl")
    before = (tmp_path/"questions.jsonl").read_bytes()
    with pytest.raises(CoreaError, match="no ledger"): app_for(policy, policy.cascade(), ledger=tmp_path/"questions.jsonl")
    assert (tmp_path/"questions.jsonl").read_bytes() == before
    with running(policy, ledger=tmp_path/"ledger.jsonl") as (client, _): ask(client, QUESTIONS[0])     # the first has ended
    assert [("start" in r) for r in ledger_rows(tmp_path/"ledger.jsonl")] == [True, False]     # one start: nothing had come after it

def test_half_a_line_on_a_full_disk_spoils_no_other(tmp_path):
    book = Ledger(tmp_path/"ledger.jsonl", dict(start="toy"))
    class Full:
        "A disk that takes half of what is written."
        def __init__(self, stream): self.stream = stream
        def write(self, text):
            self.stream.write(text[:len(text) // 2])
            self.stream.flush()
            raise OSError(28, "No space left on device")
        def __getattr__(self, name): return getattr(self.stream, name)
    for k in range(6):
        if k in (2, 3): book.stream = Full(book.stream or book._open())
        book.write(dict(n=k))
    book.hand_over()
    assert [r.get("n", r.get("start")) for r in read_records(tmp_path/"ledger.jsonl")] == ["toy", 0, 1, 4, 5] and book.lost == 2

def test_a_killed_server_has_written_down_whatever_it_answered(world, tmp_path):
    *_, policy = world
    port, answered = free_port(), []
    def go(k):
        try: answered.append(ask(client, QUESTIONS[k % 40]).id)
        except openai.APIError: pass
        if len(answered) == 60: process.kill()
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", "import sys; from corea.lab.command import main; sys.exit(main())", "serve", str(tmp_path/"policy.json"), "--port", str(port), "--ledger-bytes", "10000"], stderr=subprocess.PIPE)
        try:
            while True:
                try: httpx.get(f"http://127.0.0.1:{port}/health", timeout=60)
                except httpx.TransportError: assert process.poll() is None, process.stderr.read()
                else: break
                time.sleep(.2)
            with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client, ThreadPoolExecutor(8) as pool:
                list(pool.map(go, range(100 if len(answered) < 60 else 10)))
        finally: process.kill(), process.wait(), process.stderr.close()
    rows = [r for r in ledger_rows(tmp_path/"policy.ledger.jsonl") if "start" not in r]
    assert len(answered) >= 70 and set(answered) <= {r["id"] for r in rows} and len(rows) == len({r["id"] for r in rows})
    assert ledger_report(tmp_path/"policy.ledger.jsonl").answered == len(rows)

def test_a_gate_decides_alike_in_a_batch_and_served(world, tmp_path):
    slm, llm, policy = world
    gate = Gate(dict.fromkeys(FEATURES, 0.) | dict(digits=1.), -1.5, .5)
    about = {k: v for k, v in policy.about.items() if k != "digest"} | dict(gate=dataclasses.asdict(gate), expected=policy.expected | dict(shut=.75))
    (tmp_path/"gated.json").write_text(json.dumps(about | dict(digest=digest(about))))
    gated = read_policy(tmp_path/"gated.json")
    slm.asked.clear()
    with gated.cascade() as cascade: batch = cascade.answers(QUESTIONS, policy.seed)
    shut = [gate(q) for q in QUESTIONS]
    assert 0 < sum(shut) < 40 and set(slm.asked) == {q for q, s in zip(QUESTIONS, shut) if not s}
    with running(gated, ledger=tmp_path/"ledger.jsonl") as (client, _), ThreadPoolExecutor(8) as pool: told = [r.corea for r in pool.map(lambda q: ask(client, q), QUESTIONS)]
    assert [(t["who"], t["deferred"], t["why"] == "the gate is shut", "slm" in t["tokens"]) for t in told] == [
        (a.who, s or a.who == "llm", s, not s) for a, s in zip(batch, shut)]
    assert ledger_report(tmp_path/"ledger.jsonl").requests == 40
