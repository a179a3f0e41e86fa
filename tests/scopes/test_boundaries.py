"""Which segments are merged: shortest paths, and boundaries drawn at random."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synccache.scopes import best_path, random_boundaries


@given(st.integers(3, 7), st.data())
@settings(max_examples=60, deadline=None)
def test_the_path_is_the_best_of_all(nodes, data):
    hops = data.draw(st.integers(1, nodes - 1))
    cost = [[data.draw(st.floats(0, 9)) if j < k else 0 for k in range(nodes)] for j in range(nodes)]
    path = best_path(cost, hops)
    assert path[0] == 0 and path[-1] == nodes - 1 and len(path) == hops + 1 and path == sorted(set(path))

    def total(p):
        return sum(cost[a][b] for a, b in itertools.pairwise(p))

    every = [(0, *inner, nodes - 1) for inner in itertools.combinations(range(1, nodes - 1), hops - 1)]
    assert total(path) == pytest.approx(min(map(total, every)))
    through = {node for node in data.draw(st.sampled_from(every))[1:-1] if data.draw(st.booleans())}
    passing = [p for p in every if through <= {*p}]
    assert total(best_path(cost, hops, through)) == pytest.approx(min(map(total, passing)))


def test_a_path_that_cannot_be():
    with pytest.raises(ValueError, match="5 hops over 4 nodes"):
        best_path([[0] * 4] * 4, 5)
    with pytest.raises(ValueError, match=r"2 hops over 4 nodes, through \[1, 2\]"):
        best_path([[0] * 4] * 4, 2, (1, 2))


def test_random_boundaries_are_repeatable_and_different():
    sites = range(2, 30, 2)
    assert random_boundaries(sites, 4, 0) == random_boundaries(sites, 4, 0)
    assert len({random_boundaries(sites, 4, seed) for seed in range(9)}) > 1
    assert len(random_boundaries(sites, 4, 0)) == 3 and random_boundaries(sites, 1, 0) == ()
