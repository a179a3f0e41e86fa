"""Steps for each token: those whose velocity changes most are computed on every step, calm ones now and then."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ..core.groups import Groups, to_tokens
from ..core.types import Action, Decision, Run, Seen, Step, Watch
from ..errors import InputError
from .warmup import Warmup


@dataclass(frozen=True)
class Looks:
    """Keeps the model's last two outputs to compare; no number is brought to the host."""

    blocks = 0
    ratios = 0
    watches = MappingProxyType({"output": Watch(computed=2)})

    def measure(self, seen: Seen) -> None:
        return None


@dataclass(frozen=True)
class State:
    """Of one run.

    Attributes:
        sizes: of the groups, the liveliest first; None while the token grid is not known.
        changes: [B, V] sum over the steps so far of how much each token's velocity has changed.
        seen: the latest step whose change is in it.
        groups: which token is in which, once that is decided.
    """

    sizes: tuple[int, ...] | None = None
    changes: Tensor | None = None
    seen: int = 0
    groups: Groups | None = None


@dataclass(frozen=True)
class Allocation:
    """Group k is computed on steps that its divisor divides; the first steps and the last ones are computed in full.

    Each sample's tokens are ranked by ``sum |v_i - v_i-1| / sum |v_i-1|`` over a token's patch of the model's output,
    averaged over the first steps; the liveliest go to group 0. Group k gets a share of them that is proportional to
    ``q^k``; q is found by bisection so that a run computes ``budget`` of what the full run would, counted in tokens of
    blocks. Tokens beside the video's (of the portrait's last frames, say) go with the last group, and are counted.

    Args:
        budget: the wanted cost, a part of the full run's, over 0 and up to 1.
        divisors: of the groups; the first is 1.
        warmup: how many steps are computed in full first, or which part of the run; at least 2, to see a change.
        last: how many at the end.

    Raises:
        InputError: on a run's first step, where the budget can't be kept to within 3 %.
    """

    budget: float = 0.5
    divisors: tuple[int, ...] = (1, 4, 20)
    warmup: float = 0.125
    last: int = 1
    needs_length = True
    measure = Looks()

    @property
    def skips(self) -> bool:
        return self.names_tokens

    @property
    def names_tokens(self) -> bool:
        return len(self.divisors) > 1

    def init(self, run: Run) -> State:
        return State()

    def first(self, total: int) -> int:
        """How many steps of a run of ``total`` are computed in full at its start."""
        return min(total, max(2, Warmup(self, self.warmup).count(total)))

    def window(self, total: int) -> range:
        """The steps between those that are computed in full."""
        return range(self.first(total), max(self.first(total), total - self.last))

    def cost(self, total: int, sizes: tuple[int, ...], others: int = 0) -> float:
        """What a run computes of the full one's tokens of blocks, with groups of these sizes."""
        tokens, window = sum(sizes), self.window(total)
        counts = zip((*sizes[:-1], sizes[-1] + others), self.divisors, strict=True)
        some = sum(count * sum(i % divisor == 0 for i in window) for count, divisor in counts)
        return (total - len(window) + some / (others + tokens)) / total

    def sizes(self, total: int, tokens: int, others: int = 0) -> tuple[int, ...]:
        """How many of ``tokens`` each group gets.

        Raises:
            InputError: the budget can't be kept.
        """

        def of(power: float) -> tuple[int, ...]:
            highest = max(0.0, power * (len(self.divisors) - 1))
            shares = [math.exp(power * k - highest) for k in range(len(self.divisors))]
            ends = [round(tokens * sum(shares[: k + 1]) / sum(shares)) for k in range(len(shares))]
            return tuple(b - a for a, b in zip([0, *ends], ends, strict=False))

        low, high = -20.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.cost(total, of(middle), others) > self.budget else (low, middle)
        found = min((of(low), of(high)), key=lambda s: abs(self.cost(total, s, others) - self.budget))
        cost = self.cost(total, found, others)
        if abs(cost - self.budget) > 0.03 * self.budget:
            raise InputError(
                f"budget={self.budget:g} can't be kept in a run of {total} steps: with the first {self.first(total)} "
                f"and the last {self.last} computed in full and groups of divisors {list(self.divisors)} it costs "
                f"{cost:.3f} of the full run at the nearest. Ask for that, or change warmup, last or divisors."
            )
        return found

    def decide(self, state: State, step: Step, seen: Seen) -> tuple[Decision, State]:
        if step.total is None:
            return Decision(Action.COMPUTE, "length unknown"), state
        if seen.grid is None and self.names_tokens:
            return Decision(Action.COMPUTE, "token grid unknown"), state
        if state.sizes is None:
            sizes = (1,) if seen.grid is None else self.sizes(step.total, math.prod(seen.grid), seen.others)
            state = replace(state, sizes=sizes)
        state = self._measured(state, step, seen)
        if step.index not in self.window(step.total):
            return Decision(Action.COMPUTE, "warm-up" if step.index < self.first(step.total) else "last"), state
        active = tuple(k for k, d in enumerate(self.divisors) if step.index % d == 0)
        if len(active) == len(self.divisors):
            return Decision(Action.COMPUTE, "all groups"), state
        if state.groups is None and state.changes is not None and state.sizes is not None:
            order = state.changes.argsort(dim=1, descending=True, stable=True)
            state = replace(state, groups=Groups(order, state.sizes), changes=None)
        if state.groups is None:
            return Decision(Action.COMPUTE, "no change measured"), state
        return Decision(Action.FILL, "groups", groups=state.groups, active=active), state

    def record(self, state: State, step: Step, decision: Decision, seen: Seen) -> State:
        return state

    def _measured(self, state: State, step: Step, seen: Seen) -> State:
        """With the change from the step before the last one to the last one."""
        outputs = seen.tap("output").computed
        if state.groups is not None or len(outputs) < 2 or step.index <= state.seen or seen.grid is None:
            return state
        now, before = outputs
        parts = [to_tokens(x.float().abs(), seen.grid) for x in (now - before, before)]
        if parts[0] is None or parts[1] is None:
            return state
        change = parts[0].sum(-1) / parts[1].sum(-1).clamp_min(torch.finfo(torch.float32).tiny)
        held = state.changes
        same = held is not None and held.shape == change.shape
        return replace(state, changes=held + change if same and held is not None else change, seen=step.index)
