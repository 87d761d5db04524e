"Settings that every test shares."
import os

# before anything imports torch or starts a process
for name, value in {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"}.items():
    os.environ.setdefault(name, value)

from hypothesis import settings

# the same examples in every run, and no verdict that depends on how busy the machine is
settings.register_profile("corea", derandomize=True, deadline=None, database=None)
settings.load_profile("corea")
