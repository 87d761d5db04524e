"""The pages of nbs/howto as a reader would paste them: all commands of a page in one shell, in a fresh folder outside any clone.

    python tests/howto.py [--store] [PAGE ...]       # names such as calibrate_and_serve; all by default

A fence marked bash or python is run, unless a second word says `not-here`. What it prints stands in a fence marked text behind it, where its words are compared, and numbers
are not: these are those of the machine. --store writes what was printed into the pages.
"""
import argparse, os, re, signal, subprocess, sys, tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOWTO = ROOT/"nbs"/"howto"
FENCE = re.compile(r"^```(?P<kind>bash|python)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<said>.*?)^```\n)?", re.M | re.S)
# pages whose commands want what this project does not install; their tests find it by an environment variable, or are left out
ELSEWHERE = {"harness": "COREA_HARNESS_PYTHON", "litellm": "COREA_LITELLM_PYTHON"}
PAGES = sorted(p.stem for p in HOWTO.glob("*.md") if p.stem != "README")
SERVED = {"endpoint": dict(LLM="llm", SLM="slm-corea"), "harness": dict(SLM="slm-corea", LLM="llm")}     # variable with an address -> the model behind it

def script(page):
    "One shell script; before each part a line that marks it."
    parts = []
    for k, m in enumerate(FENCE.finditer((HOWTO/f"{page}.md").read_text(encoding="utf-8"))):
        code = m["code"] if m["kind"] == "bash" else f"python - <<'END_OF_PART'\n{m['code']}END_OF_PART\n"
        parts.append(f"printf '\\036{k}\\n'\n{code}")
    return "set -euo pipefail\n" + "\n".join(parts)

def said(page, folder, python=sys.executable):
    "What each part of a page prints; an error if one fails."
    with ExitStack() as stack:
        from server import Double
        from corea.core import MODELS
        from corea.server import free_port
        doubles = {name: stack.enter_context(Double(MODELS/model)) for name, model in SERVED.get(page, {}).items()}
        own = {name: d.url for name, d in doubles.items()} | {f"{name}_MODEL": d.path for name, d in doubles.items()}
        clean = {k: v for k, v in os.environ.items() if not k.startswith("COREA_")}
        path = ":".join((str(Path(python).parent), str(Path(sys.executable).parent), os.environ["PATH"]))
        env = clean | own | dict(PYTHONPATH=str(ROOT), PATH=path, HOME=str(folder), PORT=str(free_port()), TQDM_DISABLE="1", OPENAI_API_KEY="none",
                                 CUDA_VISIBLE_DEVICES="")       # as where there is no card
        shell = subprocess.Popen(["bash", "-c", script(page)], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try: out, err = shell.communicate(timeout=3600)
        finally:
            try: os.killpg(shell.pid, signal.SIGKILL)       # what it left in the background
            except ProcessLookupError: pass
    parts = [part.partition("\n")[2] for part in out.split("\x1e")[1:]]
    if shell.returncode: raise AssertionError(f"{page}, part {len(parts)}: exit status {shell.returncode}\n{out[-1000:]}\n{err[-3000:]}")
    return [part.strip("\n") for part in parts]

def wording(text):
    "Without numbers, digests, units of time, and space between."
    text = re.sub(r"\b[0-9a-f]{8,16}\b", "#", text)
    return " ".join(re.sub(r"[-+−]?\d[\d.,]*(?:e[-+]?\d+)?(?:\s?(?:%|s|min|h)(?!\w))?", "#", text).split())

def stored(page): return [(m["said"] or "").strip("\n") for m in FENCE.finditer((HOWTO/f"{page}.md").read_text(encoding="utf-8"))]

def store(page, parts):
    "What was printed, into a page."
    parts, path = iter(parts), HOWTO/f"{page}.md"
    def put(m):
        text = next(parts)
        return f"```{m['kind']}\n{m['code']}```\n" + (f"\n```text\n{text}\n```\n" if text else "")
    path.write_text(FENCE.sub(put, path.read_text(encoding="utf-8")), encoding="utf-8")

def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*")
    parser.add_argument("--store", action="store_true", help="keep what is printed")
    args, behind = parser.parse_args(argv), False
    for page in args.pages or PAGES:
        python = os.environ.get(ELSEWHERE.get(page, ""), sys.executable)
        with tempfile.TemporaryDirectory() as folder: parts = said(page, Path(folder), python)
        differ = [k for k, (a, b) in enumerate(zip(stored(page), parts)) if a != b]
        print(f"{page}: parts {differ} print something else" if differ else f"{page}: as stored", flush=True)
        behind |= bool(differ)
        if args.store: store(page, parts)
    return behind and not args.store

if __name__ == "__main__": sys.exit(main())
