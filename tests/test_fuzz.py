"A few inputs of each kind that `make fuzz` makes by the million."
import pytest
from hypothesis import given, settings, strategies as st
import fuzz

@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_nothing_but_our_own_error_comes_of_it(name):
    few = settings(max_examples={"records": 40, "checkpoint": 12}.get(name, 200))
    @few
    @given(st.integers(0, 10**9))
    def trial(seed):
        fault = fuzz.attempt(name, seed)
        assert not fault, f"python tests/fuzz.py {name} {seed}\n{fault}"
    trial()
