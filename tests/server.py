"""A test double of vLLM's server: its endpoints and fields over a checkpoint that transformers opens, and failures on demand.

    python tests/server.py --model CHECKPOINT --port 8000        as a process, with the options of vLLM's that it needs
"""
import argparse, json, os, socket, struct, sys, threading, time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
import torch
from transformers import GenerationConfig, TopPLogitsWarper
from corea.generate import end_ids, finish, load_checkpoint, next_logprobs, pad_rows

class Double(ThreadingHTTPServer):
    "The server; `faults` are used up one a POST, `seen` keeps what was asked."
    request_queue_size, daemon_threads = 128, True
    def __init__(self, path, port=0, together=1):
        super().__init__(("127.0.0.1", port), Handler)
        self.model, self.tokenizer = load_checkpoint(path)
        self.ends, self.path = end_ids(self.tokenizer, self.model.config), str(path)
        self.together = together        # requests answered in one batch: one alone, and the last bit does not depend on its neighbours
        self.faults, self.seen, self.lock, self.waiting = [], [], threading.Lock(), Queue()
        threading.Thread(target=self.work, daemon=True).start()
        self.url, self.limit = f"http://127.0.0.1:{self.server_port}", self.model.config.max_position_embeddings
    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self
    def __exit__(self, *exc): self.shutdown(), self.server_close()
    def handle_error(self, *args): pass    # clients that hang up

    def write(self, prompt, max_tokens, temperature=1.0, top_p=1.0, seed=None, stop=(), logprobs=None, logprob_token_ids=(), **_):
        "Ids, their log-probabilities, those of the tokens named or likeliest at each place, and why it ended."
        decode, answer = lambda ids: self.tokenizer.decode(ids, skip_special_tokens=True), Future()
        self.waiting.put(((max_tokens, temperature, top_p), prompt, seed or 0, answer))
        ids, lp = answer.result()
        ids, text, why = finish(ids, decode, self.ends, stop)
        lp = lp[:len(ids)+1]
        named = lambda row: logprob_token_ids or row.topk(min(logprobs or 1, len(row))).indices.tolist()
        tops = [{t: row[t].item() for t in [i, *named(row)]} for i, row in zip(ids, lp)]
        return ids, text, why, lp[range(len(ids)), ids].tolist(), tops

    def work(self):
        "Answer what waits, together, as vLLM does; each request draws from a generator of its own."
        held = []
        while True:
            held += [self.waiting.get()] if not held else []
            while not self.waiting.empty() and len(held) < self.together: held.append(self.waiting.get())
            some = [h for h in held if h[0] == held[0][0]]
            held = [h for h in held if h[0] != held[0][0]]
            how, prompts, seeds, answers = some[0][0], *zip(*(h[1:] for h in some))
            try: found = self.sample(list(prompts), seeds, *how)
            except Exception as e: [a.set_exception(e) for a in answers]
            else: [a.set_result(f) for a, f in zip(answers, found)]

    def sample(self, prompts, seeds, max_tokens, temperature, top_p):
        pad, sources = min(self.ends), [torch.Generator().manual_seed(s) for s in seeds]
        def noise(ids, scores):     # the largest of scores with Gumbel noise is a draw from their softmax
            if not temperature: return scores
            scores = TopPLogitsWarper(top_p)(ids, scores / temperature) if top_p < 1 else scores / temperature
            return scores - torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in sources]).log()
        ids, mask = pad_rows(prompts, pad, left=True)
        config = GenerationConfig(max_new_tokens=max_tokens, eos_token_id=sorted(self.ends), pad_token_id=pad)
        with torch.no_grad(): out = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[noise])
        rows = [finish(r, lambda _: "", self.ends)[0] for r in out[:, ids.shape[1]:].tolist()]
        return list(zip(rows, next_logprobs(self.model, [[*p, *r] for p, r in zip(prompts, rows)], [len(r) + 1 for r in rows], pad)))

    def completions(self, ask):
        prompts = ask.pop("prompt")
        prompts, choices = prompts if isinstance(prompts[0], list) else [prompts], []
        if len(ask.get("stop", ())) > 4: return 400, "stop: too many strings"
        if any(len(p) + ask["max_tokens"] > self.limit for p in prompts): return 400, f"max_tokens={ask['max_tokens']} is too large"
        for i, p in enumerate(prompts):
            ids, text, why, scores, tops = self.write(p, **ask)
            choices.append(dict(index=i, text=text, finish_reason=why, token_ids=ids if ask.get("return_token_ids") else None, logprobs=dict(
                token_logprobs=scores, top_logprobs=[{f"token_id:{t}": lp for t, lp in d.items()} for d in tops])))
        return 200, dict(choices=choices[::-1])    # in any order

    def chat(self, ask):
        how = {k: ask.pop(k, k == "add_generation_prompt") for k in ("add_generation_prompt", "continue_final_message")}
        prompt = self.tokenizer.apply_chat_template(ask.pop("messages"), return_dict=False, **how)
        wanted = ask.pop("logprobs", False) and ask.pop("top_logprobs", 0)
        if len(prompt) + ask["max_tokens"] > self.limit: return 400, f"the prompt has {len(prompt)} tokens: too many"
        ids, text, why, scores, tops = self.write(prompt, logprobs=wanted or None, **ask)
        told = lambda t, lp: dict(token=self.tokenizer.decode([t]), logprob=lp)
        content = [told(t, lp) | dict(top_logprobs=[told(*x) for x in d.items()] if wanted else []) for t, lp, d in zip(ids, scores, tops)]
        return 200, dict(id="chatcmpl-0", object="chat.completion", created=0, model=self.path,
                         choices=[dict(index=0, message=dict(role="assistant", content=text), finish_reason=why,
                                       logprobs=None if wanted is False else dict(content=content))],
                         usage=dict(prompt_tokens=len(prompt), completion_tokens=len(ids), total_tokens=len(prompt) + len(ids)))

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/health": return self.say(200, b"")
        self.say(200, dict(data=[dict(id=self.server.path, owned_by="vllm", max_model_len=self.server.limit)]))
    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), dict(ask)))
        with self.server.lock: fault = self.server.faults.pop(0) if self.server.faults else None
        if callable(fault): return fault(self)
        if ask["model"] != self.server.path: return self.say(404, f"The model `{ask['model']}` does not exist.")
        self.say(*(self.server.chat if "chat" in self.path else self.server.completions)(ask))
    def say(self, code, body, **headers):
        body = dict(error=dict(message=body, code=code)) if isinstance(body, str) else body
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for k, v in {"Content-Length": len(data), **headers}.items(): self.send_header(k.replace("_", "-"), str(v))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args): pass

# failures: what happens in place of an answer

def code(n, **headers): return lambda h: h.say(n, f"code {n}", **headers)
def text(data): return lambda h: h.say(200, data)
def late(seconds): return lambda h: (time.sleep(seconds), h.say(200, b"{}"))
def echo_key(n): return lambda h: h.say(n, "bad key " + h.headers["Authorization"])

def reset(h):
    "The connection breaks."
    h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    h.connection.close()
    h.close_connection = True

def half(h):
    "The connection ends in the middle of an answer."
    h.send_response(200), h.send_header("Content-Length", "1000"), h.end_headers(), h.wfile.write(b'{"choices": [')
    h.close_connection = True

def drip(h):
    "An answer that never ends."
    h.send_response(200), h.send_header("Content-Length", "1000000"), h.end_headers()
    while True: h.wfile.write(b" "), h.wfile.flush(), time.sleep(.05)

def interpreter(folder):
    "What stands in for a Python with vLLM: called as `vllm_server` calls one, it starts the double."
    path = Path(folder)/"python"
    path.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    path.chmod(0o755)
    return path

if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, default=1)
    options, _ = parser.parse_known_args()
    Double(options.model, options.port, options.max_num_seqs).serve_forever()
