"""Which segments to merge: a shortest path with a given number of hops."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence


def best_path(cost: Sequence[Sequence[float]], hops: int, through: Collection[int] = ()) -> list[int]:
    """Nodes of the cheapest path from node 0 to the last one with exactly ``hops`` hops, both ends included.

    ``C[m][k] = min_{j<k} C[m-1][j] + cost[j][k]``, ``C[0][0] = 0``: O(hops nodes²). SyncCache, arXiv 2606.30849.

    Args:
        cost: ``cost[j][k]`` for j < k.
        hops: from 1 to the number of nodes minus 1.
        through: inner nodes that the path must visit.
    """
    nodes, through = len(cost), sorted(through)
    if not 1 + len(through) <= hops <= nodes - 1:
        raise ValueError(f"{hops} hops over {nodes} nodes, through {through}")
    infinite = float("inf")
    best = [0.0] + [infinite] * (nodes - 1)
    came_from: list[list[int]] = []
    for _ in range(hops):
        step, origin = [infinite] * nodes, [-1] * nodes
        for k in range(1, nodes):
            last = max((n for n in through if n < k), default=0)  # no hop may pass over it
            for j in range(last, k):
                if best[j] + cost[j][k] < step[k]:
                    step[k], origin[k] = best[j] + cost[j][k], j
        best = step
        came_from.append(origin)
    path = [nodes - 1]
    for origin in reversed(came_from):
        path.append(origin[path[-1]])
    return path[::-1]


def random_boundaries(sites: Sequence[int], segments: int, seed: int) -> tuple[int, ...]:
    """Inner boundaries for ``segments`` segments drawn at random from ``sites``; the ablation's control."""
    return tuple(sorted(random.Random(seed).sample(list(sites), segments - 1)))
