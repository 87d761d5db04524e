// The cascade in a browser: Qwen3 with a cache of keys and values, greedy, in plain JavaScript; the page about it is demo.md.
"use strict";

// weights and tokens

const bits32 = new Uint32Array(1), float32 = new Float32Array(bits32.buffer);
const HALF = {      // 16 bits as a number
  BF16: bits => { bits32[0] = bits << 16; return float32[0]; },
  F16: bits => {
    const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
  }};

function readWeights(buffer) {      // a safetensors file -> name -> Float32Array
  const view = new DataView(buffer), length = Number(view.getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length))), found = {};
  for (const [name, t] of Object.entries(head)) if (name !== "__metadata__") {
    const [start, end] = t.data_offsets, x = new Float32Array((end - start) / 2);
    for (let i = 0; i < x.length; i++) x[i] = HALF[t.dtype](view.getUint16(8 + length + start + 2 * i, true));
    found[name] = x;
  }
  return found;
}

class Tokenizer {       // bytes, and pieces of text that are tokens as a whole
  constructor(json) {
    this.pieces = json.added_tokens.map(t => [t.content, t.id]).sort((a, b) => b[0].length - a[0].length);
    this.text = new Map(this.pieces.map(([content, id]) => [id, new TextEncoder().encode(content)]));
    this.byte = new Uint16Array(256);
    let beyond = 0;     // a byte that does not print has a letter from 256 up
    for (let b = 0; b < 256; b++) {
      const prints = b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174;
      const id = json.model.vocab[String.fromCharCode(prints ? b : 256 + beyond++)];
      this.byte[b] = id;
      if (!this.text.has(id)) this.text.set(id, new Uint8Array([b]));
    }
  }
  encode(text) {
    const ids = [];
    while (text) {
      const piece = this.pieces.find(([content]) => text.startsWith(content));
      const size = piece ? piece[0].length : String.fromCodePoint(text.codePointAt(0)).length;
      if (piece) ids.push(piece[1]);
      else for (const b of new TextEncoder().encode(text.slice(0, size))) ids.push(this.byte[b]);
      text = text.slice(size);
    }
    return ids;
  }
  decode(ids) { return new TextDecoder().decode(new Uint8Array(ids.flatMap(id => [...this.text.get(id)]))); }
}

// the model

function times(w, x, rows) {        // matrix times vector, of a length that four divides
  const out = new Float32Array(rows), n = x.length;
  for (let r = 0, at = 0; r < rows; r++) {
    let a = 0, b = 0, c = 0, d = 0;     // four sums: the processor need not wait for one
    for (let i = 0; i < n; i += 4, at += 4) {
      a += w[at] * x[i]; b += w[at + 1] * x[i + 1]; c += w[at + 2] * x[i + 2]; d += w[at + 3] * x[i + 3];
    }
    out[r] = a + b + c + d;
  }
  return out;
}

function normed(x, weight, size, eps) {     // RMS norm of each part of `size`
  const out = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += size) {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += x[at + i] ** 2;
    const scale = 1 / Math.sqrt(sum / size + eps);
    for (let i = 0; i < size; i++) out[at + i] = x[at + i] * scale * weight[i];
  }
  return out;
}

class Model {
  constructor(config, weights, tokenizer) { Object.assign(this, {c: config, w: weights, tokenizer}); }

  turned(x, position) {     // rotary positions, in place
    const d = this.c.head_dim, half = d / 2;
    for (let at = 0; at < x.length; at += d) for (let i = 0; i < half; i++) {
      const angle = position / this.c.rope_parameters.rope_theta ** (2 * i / d), cos = Math.cos(angle), sin = Math.sin(angle);
      const a = x[at + i], b = x[at + half + i];
      x[at + i] = a * cos - b * sin;
      x[at + half + i] = b * cos + a * sin;
    }
    return x;
  }

  attend(q, keys, values) {
    const d = this.c.head_dim, out = new Float32Array(q.length), share = this.c.num_attention_heads / this.c.num_key_value_heads;
    for (let h = 0; h < this.c.num_attention_heads; h++) {
      const at = h * d, kv = Math.floor(h / share) * d, scores = keys.map(k => {
        let sum = 0;
        for (let i = 0; i < d; i++) sum += q[at + i] * k[kv + i];
        return sum / Math.sqrt(d);
      });
      const top = Math.max(...scores), weights = scores.map(s => Math.exp(s - top)), all = weights.reduce((a, b) => a + b);
      weights.forEach((weight, t) => { for (let i = 0; i < d; i++) out[at + i] += weight / all * values[t][kv + i]; });
    }
    return out;
  }

  next(id, cache) {     // scores of every token after one more
    const {c, w} = this, n = c.hidden_size, eps = c.rms_norm_eps, embedded = w["model.embed_tokens.weight"];
    const position = cache[0].keys.length;
    let x = embedded.slice(id * n, (id + 1) * n);
    const add = y => { for (let i = 0; i < n; i++) x[i] += y[i]; };
    for (let l = 0; l < c.num_hidden_layers; l++) {
      const part = name => w[`model.layers.${l}.${name}.weight`], {keys, values} = cache[l];
      let y = normed(x, part("input_layernorm"), n, eps);
      const heads = (name, count) => times(part(`self_attn.${name}_proj`), y, count * c.head_dim);
      const turn = (name, count) => this.turned(normed(heads(name, count), part(`self_attn.${name}_norm`), c.head_dim, eps), position);
      const q = turn("q", c.num_attention_heads);
      keys.push(turn("k", c.num_key_value_heads));
      values.push(heads("v", c.num_key_value_heads));
      add(times(part("self_attn.o_proj"), this.attend(q, keys, values), n));
      y = normed(x, part("post_attention_layernorm"), n, eps);
      const gate = times(part("mlp.gate_proj"), y, c.intermediate_size), up = times(part("mlp.up_proj"), y, c.intermediate_size);
      add(times(part("mlp.down_proj"), gate.map((g, i) => g / (1 + Math.exp(-g)) * up[i]), n));
    }
    return times(embedded, normed(x, w["model.norm.weight"], n, eps), c.vocab_size);
  }

  ask(question) {       // the most probable completion, token by token
    const instruction = this.tokenizer.pieces.find(([text]) => text.startsWith("\nPlease reason"))[0];
    const prompt = this.tokenizer.encode(`<|user|>${question}${instruction}<|assistant|>`), longest = this.c.max_position_embeddings / 2;
    if (prompt.length > longest) throw new Error("this question is too long for these models");
    const cache = Array.from({length: this.c.num_hidden_layers}, () => ({keys: [], values: []})), written = [];
    let scores;
    for (const id of prompt) scores = this.next(id, cache);
    while (true) {
      const best = scores.indexOf(Math.max(...scores));
      written.push(best);
      if (best === this.c.eos_token_id || written.length >= longest) break;
      scores = this.next(best, cache);
    }
    const text = this.tokenizer.decode(written.filter(id => id !== this.c.eos_token_id));
    const last = name => [...text.matchAll(new RegExp(`\\\\${name}\\{([^{}]*)\\}`, "g"))].map(m => m[1]).pop();
    const stated = Number(last("confidence") ?? NaN);
    return {text, answer: last("boxed") ?? "", confidence: stated >= 0 && stated <= 1 ? stated : NaN, cost: prompt.length + 4 * written.length};
  }
}

async function loadModel(folder, read) {        // `read` gives a file's bytes
  const json = async name => JSON.parse(new TextDecoder().decode(await read(`${folder}/${name}`)));
  const tokenizer = new Tokenizer(await json("tokenizer.json"));
  return new Model(await json("config.json"), readWeights(await read(`${folder}/model.safetensors`)), tokenizer);
}

// the rule and its price, as in 08_cascade

const RATIO = 32 / 7;
const deferred = (small, tau) => !(small.confidence >= tau);
function decide(small, large, tau) {
  return deferred(small, tau) ? {who: "large", answer: large.answer, cost: small.cost + RATIO * large.cost}
                              : {who: "small", answer: small.answer, cost: small.cost};
}

// the page

function start(page) {
  const [tau, shown, rows, sum, form, said] = ["tau", "tau-shown", "rows", "sum", "ask", "said"].map(id => page.getElementById(`demo-${id}`));
  const asked = [];
  const percent = new Intl.NumberFormat("en", {style: "percent", signDisplay: "exceptZero"});
  const cell = (row, text, kind = "td") => { const c = row.appendChild(page.createElement(kind)); c.textContent = text; };
  function draw() {
    shown.textContent = Number(tau.value).toFixed(2);
    rows.replaceChildren(...asked.map(({question, small, large}) => {
      const row = page.createElement("tr"), d = decide(small, large, Number(tau.value));
      row.className = d.who;
      for (const text of [question, small.answer, Number.isNaN(small.confidence) ? "none" : small.confidence.toFixed(1), d.who, d.answer, d.cost.toFixed(0)]) cell(row, text);
      return row;
    }));
    const total = asked.reduce((all, {small, large}) => all + decide(small, large, Number(tau.value)).cost, 0);
    const alone = asked.reduce((all, {large}) => all + RATIO * large.cost, 0);
    if (asked.length) sum.textContent = `Together they cost ${total.toFixed(0)}; the large model alone would have cost ${alone.toFixed(0)}: ${percent.format(total / alone - 1)}.`;
  }
  async function ask(questions) {
    said.textContent = "loading both models …";
    try {
      const read = async path => { const r = await fetch(path); if (!r.ok) throw new Error(`${path}: ${r.status}`); return r.arrayBuffer(); };
      start.models ??= Promise.all(["slm-corea", "llm"].map(name => loadModel(`models/${name}`, read)));
      const [slm, llm] = await start.models;
      for (const question of questions) {
        said.textContent = `asking: ${question}`;
        await new Promise(done => setTimeout(done));        // let the page be drawn
        asked.push({question, small: slm.ask(question), large: llm.ask(question)});
        draw();
      }
      said.textContent = "";
    } catch (e) { start.models = undefined; said.textContent = `${e.message}. This page must come from a server: python -m http.server in the site's folder is one.`; }
  }
  tau.addEventListener("input", draw);
  form.addEventListener("submit", e => { e.preventDefault(); ask([form.elements.question.value]); });
  ask([...form.elements.examples.options].map(o => o.value));
}

if (typeof module !== "undefined") module.exports = {loadModel, decide, Tokenizer};
else document.addEventListener("DOMContentLoaded", () => { if (document.getElementById("demo-ask")) start(document); });
