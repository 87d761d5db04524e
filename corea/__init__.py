"A small language model that knows when to ask a large one: what most people import, found when it is first used."
__version__ = "0.1.0"

OFFERED = {
    "Cascade": "cascade", "Price": "cascade", "choose_tau": "cascade", "guaranteed_tau": "thresholds",
    "TransformersEngine": "generate", "ServerEngine": "server", "Sampling": "generate",
    "load_questions": "data", "JsonlSet": "data", "register": "data",
    "prompt": "answer", "parse": "answer", "grade": "answer",
    "load_profile": "core", "CoreaError": "core", "train_grpo": "trainer", "auroc": "metrics", "ece": "metrics"}
__all__ = [*OFFERED, "__version__"]

def __getattr__(name):
    "Importing `corea` loads neither torch nor pandas."
    if name not in OFFERED: raise AttributeError(f"module 'corea' has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(f"corea.{OFFERED[name]}"), name)

def __dir__(): return sorted({*globals(), *OFFERED})
