"""What `corea serve` adds to a request, beside LiteLLM's proxy; what a batch saves; and a soak in which both models are restarted.

Writes benchmarks/results/serve.csv: milliseconds that a server adds at 1, 32 and 100 requests in flight before a stand-in on loopback that takes
200 ms (the same client asks the stand-in directly, and its median is taken off), each server a process of its own and the only one that runs;
questions a second of `Cascade.answers` against `Cascade.answer` one by one; and a soak of COUNT requests: how many were lost, how many lines
the ledger holds, and how much memory the server took at its first and its last tenth. `busy` is the load of the machine, per core, before
each measurement: beyond 0.1 or so the milliseconds are those of a machine that had other things to do. All answers of the small model are kept,
so that each request is one hop, as it is through a proxy; the row `deferred` has two, and two times 200 ms taken off.

    python benchmarks/serve.py [COUNT]

COREA_PEERS names a folder with environments of their own for peers: litellm and routellm, if they are there, are measured, too. RouteLLM
routes by its coin, which costs it nothing.
"""
import asyncio, csv, json, os, random, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
import httpx, numpy as np
from corea.cascade import Cascade
from corea.core import write_records
from corea.extra.policy import calibrate, ledger_rows
from corea.server import ServerEngine, free_port, kill_group

DELAY, FLIGHTS, REQUESTS, WARM = .2, (1, 32, 100), {1: 40, 32: 640, 100: 2000}, 100
COLUMNS = ["what", "server", "in_flight", "requests", "p50_ms", "p95_ms", "p99_ms", "per_second", "lost", "ledger_lines", "mb_early", "mb_late", "busy"]
TEXT = r"The sum is \boxed{7}. \confidence{%s}"

# the stand-in: as little Python as will do, so that it is not what is measured

async def stand_in(port, delay, sure):
    "An OpenAI-compatible server of one answer, after a delay; every third is unsure if told so."
    async def speak(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
                body = await reader.readexactly(size)
                if head.startswith(b"get"): told = dict(object="list", data=[dict(id="stand-in", object="model", owned_by="me")])
                else:
                    asked = json.loads(body)
                    await asyncio.sleep(delay)
                    text = TEXT % (.1 if sure == "never" or sure == "thirds" and len(asked["messages"][-1]["content"]) % 3 == 0 else .9)
                    told = dict(id="x", object="chat.completion", created=0, model="stand-in", usage=dict(prompt_tokens=20, completion_tokens=10, total_tokens=30),
                                choices=[dict(index=0, message=dict(role="assistant", content=text), finish_reason="stop")])
                data = json.dumps(told).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError): pass
        finally: writer.close()
    async with await asyncio.start_server(speak, "127.0.0.1", port, backlog=1000) as server: await server.serve_forever()

@contextmanager
def process(command, url, log, patience=300, **env):
    "A server that ends with the block, once it answers at an address."
    with open(log, "ab") as out: p = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | env, start_new_session=True)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                if httpx.get(url, timeout=5).status_code < 500: break
            except httpx.TransportError: pass
            if p.poll() is not None or time.monotonic() > end: raise SystemExit(f"{command[0]} does not come up: see {log}")
            time.sleep(.1)
        yield p
    finally: kill_group(p, 5)

def standing(port, folder, delay=DELAY, sure="always"):
    return process([sys.executable, __file__, "stand-in", str(port), str(delay), sure], f"http://127.0.0.1:{port}/v1/models", folder/"stand-in.log")

def serving(port, folder, **env):
    start = "import sys; from corea.lab.command import main; sys.exit(main())"
    return process([sys.executable, "-c", start, "serve", str(folder/"policy.json"), "--port", str(port), "--limit", "1000", "--ledger-bytes", "1000000"],
                   f"http://127.0.0.1:{port}/health", folder/"serve.log", **env)

# the client

def body(model, k): return json.dumps(dict(model=model, messages=[dict(role="user", content=f"What is 3 + {k}?")])).encode()

async def exchange(reader, writer, port, data):
    "One request on a connection that is kept: (seconds, status)."
    began = time.perf_counter()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer any\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                 % (port, len(data)) + data)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length:" in head: await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    else:
        while size := int((await reader.readuntil(b"\r\n"))[:-2], 16): await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    return time.perf_counter() - began, int(head.split()[1])

async def load(port, model, flight, count, first=0):
    "Seconds of each of so many requests, so many in flight; those that were not answered are nan."
    todo, took = iter(range(first, first + count)), []
    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(random.random() * DELAY)    # not all at the same moment
        for k in todo:
            seconds, status = await exchange(reader, writer, port, body(model, k))
            took.append(seconds if status == 200 else np.nan)
        writer.close()
    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(flight)))
    return np.array(took), count / (time.perf_counter() - began)

def busy(): return f"{os.getloadavg()[0] / os.cpu_count():.2f}"

def latency(server, port, model, hops=1):
    "Rows for a server: what it adds to the stand-in's own time."
    asyncio.run(load(port, model, 10, WARM))
    for flight in FLIGHTS:
        before = busy()
        took, rate = asyncio.run(load(port, model, flight, REQUESTS[flight]))
        p = 1000 * (np.nanpercentile(took, [50, 95, 99]) - hops * DELAY)
        yield dict(what="added", server=server, in_flight=flight, requests=len(took), p50_ms=p[0], p95_ms=p[1], p99_ms=p[2], per_second=rate, lost=int(np.isnan(took).sum()), busy=before)

def less(rows, direct):
    "The client's and the stand-in's own share taken off."
    own = {r["in_flight"]: r["p50_ms"] for r in direct}
    return [r | {k: r[k] - own[r["in_flight"]] for k in ("p50_ms", "p95_ms", "p99_ms")} for r in rows]

def policy(folder, small, large):
    "A policy that keeps what is sure, from records."
    rows = [dict(id=str(k), question=f"What is 3 + {k}?", gold="7") for k in range(40)]
    said = [dict(who=who, id=q["id"], text=TEXT % .9, prompt_tokens=20, completion_tokens=10) for who in ("slm", "llm") for q in rows]
    write_records(folder/"questions.jsonl", rows), write_records(folder/"said.jsonl", said)
    calibrate(folder/"questions.jsonl", small, large, folder/"policy.json", records=folder/"said.jsonl", slm_model="stand-in", llm_model="stand-in", score="stated", max_tokens=100)

# what is measured

def peers(home, folder, upstream, port):
    "(name, model, path that answers, command) of those that are there."
    if (at := home/"litellm"/"bin"/"litellm").exists():
        (folder/"litellm.yaml").write_text(json.dumps(dict(model_list=[dict(model_name="corea", litellm_params=dict(
            model="openai/stand-in", api_base=upstream, api_key="any"))], litellm_settings=dict(telemetry=False))))
        yield "LiteLLM proxy", "corea", "/health/liveliness", [str(at), "--config", str(folder/"litellm.yaml"), "--port", port, "--host", "127.0.0.1", "--num_workers", "1"]
    if (at := home/"routellm"/"bin"/"python").exists():
        yield "RouteLLM server", "router-random-0.5", "/health", [str(at), "-m", "routellm.openai_server", "--routers", "random", "--base-url", upstream, "--api-key", "any",
            "--strong-model", "openai/stand-in", "--weak-model", "openai/stand-in", "--port", port]

def beside(folder):
    "Latency: the stand-in itself, corea serve, and the peers that are there."
    small, large, port = free_port(), free_port(), free_port()
    url = lambda p: f"http://127.0.0.1:{p}"
    policy(folder, url(small), url(large))
    with standing(small, folder):
        direct = list(latency("the stand-in itself", small, "stand-in"))
        with standing(large, folder), serving(port, folder): kept = list(latency("corea serve", port, "corea"))
        proxied = []
        for name, model, alive, command in peers(Path(os.environ.get("COREA_PEERS", "none")), folder, url(small) + "/v1", str(port)):
            with process(command, url(port) + alive, folder/"peer.log", PYTHONPATH="", LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="any"):
                proxied += latency(name, port, model)
    with standing(small, folder, sure="never"), standing(large, folder), serving(port, folder): both = list(latency("corea serve, deferred", port, "corea", hops=2))
    return [*direct, *(less(kept, direct)), *less(both, direct), *less(proxied, direct)]

def batch(folder, n=200):
    "Questions a second in one batch and one by one."
    small, large = free_port(), free_port()
    with standing(small, folder, .02, "thirds"), standing(large, folder, .02):
        slm, llm = (ServerEngine(f"http://127.0.0.1:{p}") for p in (small, large))
        cascade, questions = Cascade(slm, llm, .5), [f"What is {k} + {k * k}?" for k in range(n)]
        for what, ask in (("answers", cascade.answers), ("answer, one by one", lambda qs: [cascade.answer(q) for q in qs])):
            ask(questions[:10])
            before, began = busy(), time.perf_counter()
            ask(questions)
            yield dict(what="throughput", server=f"Cascade.{what}", requests=n, per_second=n / (time.perf_counter() - began), busy=before)
        slm.close(), llm.close()

def memory(pid): return int(next(l for l in open(f"/proc/{pid}/status") if l.startswith("VmRSS")).split()[1]) / 1024

def soak(folder, count, flight=64):
    "So many requests, while either model is restarted again and again."
    small, large, port, delay = free_port(), free_port(), free_port(), .01
    policy(folder, f"http://127.0.0.1:{small}", f"http://127.0.0.1:{large}")
    (folder/"policy.ledger.jsonl").unlink(missing_ok=True)
    async def run(pid):
        "Ten parts; after each, one of the models is away for a moment."
        mb, lost = [], 0
        for part in range(10):
            who, sure = ((small, "thirds"), (large, "always"))[part % 2]
            asking = asyncio.create_task(load(port, "corea", flight, count // 10, part * count // 10))
            await asyncio.sleep(.3)
            models.pop(who).kill()
            await asyncio.sleep(.3)
            models[who] = subprocess.Popen([sys.executable, __file__, "stand-in", str(who), str(delay), sure])
            took, _ = await asking
            lost += int(np.isnan(took).sum())
            mb.append(memory(pid))
        return lost, mb
    models = {p: subprocess.Popen([sys.executable, __file__, "stand-in", str(p), str(delay), sure]) for p, sure in ((small, "thirds"), (large, "always"))}
    try:
        before, began = busy(), time.perf_counter()
        with serving(port, folder) as server: lost, mb = asyncio.run(run(server.pid))
    finally:
        for p in models.values(): p.kill()
    rows = [r for r in ledger_rows(folder/"policy.ledger.jsonl") if "start" not in r]
    assert len(rows) == len({r["id"] for r in rows})
    yield dict(what="soak, 10 restarts", server="corea serve", in_flight=flight, requests=count, per_second=count / (time.perf_counter() - began), lost=lost,
               ledger_lines=sum(r["status"] == 200 for r in rows), mb_early=mb[0], mb_late=mb[-1], busy=before)

def main(count=10_000):
    with tempfile.TemporaryDirectory() as folder:
        table = []
        for rows in (beside(Path(folder)), batch(Path(folder)), soak(Path(folder), count)):
            for r in rows:
                table.append({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in r.items()})
                print(*table[-1].values(), flush=True)
    path = Path(__file__).with_name("results")/"serve.csv"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as f:
        w = csv.DictWriter(f, COLUMNS, restval="", lineterminator="\n")
        w.writeheader()
        w.writerows(table)

if __name__ == "__main__":
    if sys.argv[1:2] == ["stand-in"]: asyncio.run(stand_in(int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
    else: main(*map(int, sys.argv[1:]))
