"Settings that every test shares."
import os
import pytest

# before anything imports torch or starts a process
for name, value in {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"}.items():
    os.environ.setdefault(name, value)

from hypothesis import settings

# the same examples in every run, and no verdict that depends on how busy the machine is
settings.register_profile("corea", derandomize=True, deadline=None, database=None)
settings.load_profile("corea")

@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    "Made-up records of the smoke profile with two training seeds; only to be read."
    from corea.core import load_profile
    from corea.lab.records import made_up_records
    return made_up_records(tmp_path_factory.mktemp("records"), load_profile("smoke", seeds=(0, 1)))

@pytest.fixture(scope="session")
def opened(folder):
    "The same as a study."
    from corea.lab.records import load_records
    from corea.lab.study import study
    return study(load_records(folder), 200)

# the files that take longest: begun first, the short ones fill up whichever worker is free at the end
LONGEST = ("test_runs", "test_layouts", "test_generate", "test_standin", "test_any_sets", "test_howto", "test_warm", "test_trainer", "test_server", "test_base")

def pytest_collection_modifyitems(items):
    items.sort(key=lambda i: LONGEST.index(i.path.stem) if i.path.stem in LONGEST else len(LONGEST))
