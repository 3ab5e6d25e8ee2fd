"""Random programs in plain NumPy against NumPy, the reference interpreter and the CPU backend, values and gradients.

The suite takes a sample; ``python tests/random_programs.py 0 20000 --cpu`` is the full run.
"""

from __future__ import annotations

import pytest
import random_programs

VALUES = 600
COMPILED = 25


@pytest.mark.parametrize("start", range(0, VALUES, 100))
def test_law_programs_mean_what_numpy_means(start: int) -> None:
    for seed in range(start, start + 100):
        try:
            random_programs.check(seed, cpu=False)
        except Exception as error:
            error.add_note(f"seed {seed}:\n{random_programs.random_program(seed).source}")
            raise


@pytest.mark.parametrize("seed", range(100_000, 100_000 + COMPILED))
def test_law_compiled_programs_mean_what_numpy_means(seed: int) -> None:
    random_programs.check(seed)


def test_programs_are_the_same_every_time() -> None:
    assert random_programs.random_program(7).source == random_programs.random_program(7).source
