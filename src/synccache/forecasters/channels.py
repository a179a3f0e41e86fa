"""Channels in groups, each with a rule of its own, and which channel takes which rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from ..core.sums import add_forecast
from ..core.types import Context, Forecaster, Step
from .grouped import Grouped
from .learned import Learned
from .solvers import POOL


@dataclass(frozen=True, eq=False)
class ChannelMask(Learned):
    """Channel d belongs to group ``of[d]``: the groups' weights become one factor per channel and anchor, so a skipped
    step costs one pass over the anchors. A value of another width goes with the group that has the most channels.

    Args:
        of: [D] int64.
        groups: how many there are.
    """

    of: Tensor
    groups: int
    _moved: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def add(self, value: Tensor, anchors: Sequence[Tensor], weights: Tensor, context: Context, onto: bool) -> Tensor:
        if value.ndim != 3 or value.shape[-1] != len(self.of):
            most = int(self.of.mode().values)
            return add_forecast(value, anchors, weights[most : most + 1], onto=onto)
        return add_forecast(value, anchors, weights, self.shares(value.device), onto)

    def shares(self, device: torch.device) -> Tensor:
        """[G, 1, 1, D], 1 where the channel belongs to the group."""
        if device not in self._moved:
            shares = torch.nn.functional.one_hot(self.of, self.groups).T.float()
            self._moved[device] = shares[:, None, None].to(device)
        return self._moved[device]


@dataclass(frozen=True, eq=False)
class ByChannel(Learned, Grouped):
    """Channel d of the missing value is what ``rules[of[d]]`` makes of the anchors' channel d.

    Args:
        rules: each with one group of weights.
        of: [D] int64.
    """

    rules: tuple[Forecaster, ...]
    of: Tensor

    @cached_property
    def anchors(self) -> int:  # type: ignore[override]
        """As many as the rules want that any channel takes."""
        return max(self.rules[g].anchors for g in self.of.unique().tolist())

    @cached_property
    def split(self) -> ChannelMask:  # type: ignore[override]
        return ChannelMask(self.of, len(self.rules))


def learn_channels(features: Tensor, rules: Sequence[Forecaster] = tuple(POOL.values()), clusters: int = 2) -> Tensor:
    """Which rule predicts each channel's next step best: channels that move alike share one.

    Args:
        features: [T, n, D] of T consecutive steps, T at least 4.
        rules: to choose from.
        clusters: of channels; each takes the rule with the least mean squared one-step error over its channels.

    Returns [D] int64, indices into ``rules``.
    """
    cluster = k_means(descriptors(features), clusters)
    errors = torch.stack([_one_step_error(features, rule) for rule in rules])  # [rules, D]
    found = torch.zeros(features.shape[-1], dtype=torch.int64)
    for c in cluster.unique():
        found[cluster == c] = int(errors[:, cluster == c].mean(1).argmin())
    return found


def _one_step_error(features: Tensor, rule: Forecaster) -> Tensor:
    """[D]: mean squared error of ``rule`` one step ahead, on the steps that have three before them."""
    times = [2.0, 1.0, 0.0][: rule.anchors]
    weights = rule.weights(times, 3.0, Context(Step(3)))[0]
    last = features.shape[0]
    guess = sum((w * features[2 - j : last - 1 - j] for j, w in enumerate(weights.tolist())), torch.zeros(()))
    return (features[3:] - guess).square().mean((0, 1))


def descriptors(features: Tensor) -> Tensor:
    """[D, 5] of features [T, n, D], each standardised over channels: how a channel moves from step to step.

    Logarithms of its energy, of the size of its first differences to it, of second to first differences (curvature), of
    third to second ones (jerk), and of its spectral flatness over the steps, the mean left out.
    """
    sizes = [features.square().mean((0, 1))]
    for order in (1, 2, 3):
        sizes.append(torch.diff(features, n=order, dim=0).square().mean((0, 1)))
    tiny = 1e-12 * max(float(sizes[0].max()), 1e-300)
    logs = [(s.double() + tiny).log() for s in sizes]
    power = torch.fft.rfft(features, dim=0)[1:].abs().square().mean(1).double() + tiny
    flatness = power.log().mean(0) - power.mean(0).log()
    table = torch.stack([logs[0], *(b - a for a, b in pairwise(logs)), flatness], dim=1)
    return (table - table.mean(0)) / table.std(0, unbiased=False).clamp_min(1e-9)


def k_means(points: Tensor, clusters: int, iterations: int = 100) -> Tensor:
    """[N] int64 of points [N, k], without chance: the first centre is the point farthest from the mean, each next one
    the point farthest from all before; then Lloyd's steps until nothing changes."""
    centres = points[torch.cdist(points, points.mean(0, keepdim=True)).argmax()][None]
    while len(centres) < min(clusters, len(points)):
        centres = torch.cat([centres, points[torch.cdist(points, centres).min(1).values.argmax()][None]])
    of = torch.cdist(points, centres).argmin(1)
    for _ in range(iterations):
        centres = torch.stack([points[of == c].mean(0) if bool((of == c).any()) else m for c, m in enumerate(centres)])
        before, of = of, torch.cdist(points, centres).argmin(1)
        if torch.equal(of, before):
            break
    return of
