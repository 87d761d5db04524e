"A small language model that knows when to ask a large one: what most people import, found when it is first used."
__version__ = "0.1.0"

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path

OFFERED = {
    "Cascade": "cascade", "Price": "cascade", "choose_tau": "cascade", "guaranteed_tau": "thresholds",
    "TransformersEngine": "generate", "ServerEngine": "server", "Sampling": "generate",
    "load_questions": "data", "JsonlSet": "data", "register": "data",
    "prompt": "answer", "parse": "answer", "grade": "grading",
    "load_profile": "core", "CoreaError": "core", "train_grpo": "trainer", "auroc": "metrics", "ece": "metrics"}
__all__ = [*OFFERED, "__version__"]

def __getattr__(name):
    "Importing `corea` loads neither torch nor pandas."
    if name not in OFFERED: raise AttributeError(f"module 'corea' has no attribute {name!r}")
    return getattr(import_module(f"corea.{OFFERED[name]}"), name)

def __dir__(): return sorted({*globals(), *OFFERED})

class Moved:
    "Finds a module by the address that it had before there were wings: corea.recorded is corea.extra.recorded."
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        for wing in ("lab", "extra"):
            package, _, module = name.rpartition(".")
            if package == __name__ and (Path(__file__).parent/wing/f"{module}.py").is_file():
                return ModuleSpec(name, cls(f"{__name__}.{wing}.{module}"))

    def __init__(self, name): self.name = name
    def create_module(self, spec):
        module = import_module(self.name)
        self.spec = module.__spec__
        return module
    def exec_module(self, module): module.__spec__ = self.spec      # it keeps its own, and was run already

sys.meta_path.append(Moved)
