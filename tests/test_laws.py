"""Laws on random graphs: the CPU backend is as close to the exact result as it has to be, and deterministic."""

from __future__ import annotations

import os

import pytest
from laws import check_cpu, run_cpu
from random_graphs import random_graph, random_inputs

COUNT = int(os.environ.get("GRAPHC_LAW_GRAPHS", "120"))
CONTROL = COUNT // 2


@pytest.mark.parametrize("block", range(4))
def test_cpu_is_close_to_exact_on_random_graphs(block):
    """Run with GRAPHC_LAW_GRAPHS=10000 for the long version."""
    clear = 0
    seeds = range(block * COUNT // 4, (block + 1) * COUNT // 4)
    for seed in seeds:
        graph = random_graph(seed)
        try:
            clear += check_cpu(graph, random_inputs(graph, seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{graph}") from None
    assert clear > 0.9 * len(seeds)


@pytest.mark.parametrize("block", range(4))
def test_cpu_is_close_to_exact_on_random_graphs_with_control_flow(block):
    clear = 0
    seeds = range(block * CONTROL // 4, (block + 1) * CONTROL // 4)
    for seed in seeds:
        graph = random_graph(seed, control=True)
        try:
            clear += check_cpu(graph, random_inputs(graph, seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{graph}") from None
    assert clear > 0.8 * len(seeds)


@pytest.mark.parametrize("seed", range(0, 20))
def test_bits_do_not_depend_on_the_number_of_threads(seed):
    graph = random_graph(seed + 5000, control=seed % 2 == 1)
    inputs = random_inputs(graph, seed)
    one, two = run_cpu(graph, inputs, 1), run_cpu(graph, inputs, 2)
    for a, b in zip(one, two, strict=True):
        assert a.tobytes() == b.tobytes()
