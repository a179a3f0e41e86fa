"""Runs, steps, evaluations and guidance branches, found from what the transformer is called with."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from .fingerprint import Conditioning, Latents


@dataclass(frozen=True)
class Position:
    """Where a call stands.

    Attributes:
        run, step, evaluation: counted from 0; ``evaluation`` is 1 for the second call of a Heun step.
        branch: the guidance branch's name, or its number in the order of calls.
        new_run, new_evaluation: this call is the first of its run; of its step or evaluation.
        new_batch: the branch was called with another batch size before.
        new_conditioning: a steady argument of the branch's is another one than on its call before.
        windowed: the run has calls at one timestep that are windows of a longer video.
    """

    run: int
    step: int
    evaluation: int
    branch: Hashable
    new_run: bool
    new_evaluation: bool
    new_batch: bool
    new_conditioning: bool
    windowed: bool


@dataclass
class Branch:
    label: Hashable
    conditioning: Conditioning
    batch: int
    latest: Conditioning


class Clock:
    """Finds a call's place in its run.

    A timestep that moves on is the next step. The same one again is another branch if the latent is the same or the
    conditioning is new, else another evaluation of the step; in a model that is called with windows, another latent is
    another window. A timestep that goes back, another shape or another schedule is a new run.
    """

    def __init__(self, rising: bool = False) -> None:
        self.rising = rising
        self.run = -1
        self.held = False
        self.forget()

    def forget(self) -> None:
        """The next call starts a new run."""
        self.step = -1
        self.evaluation = 0
        self.timestep: float | None = None
        self.latents: Latents | None = None
        self.schedule: Any = None
        self.branches: list[Branch] = []
        self.called: set[Hashable] = set()
        self.windowed = False

    def observe(
        self,
        timestep: float,
        latents: Latents,
        conditioning: Conditioning,
        label: Hashable = None,
        schedule: Any = None,
        steady: tuple[str, ...] = (),
        windows: bool = False,
    ) -> Position:
        """Take in one call.

        Args:
            timestep: the highest one that the call carries.
            label: the branch's name if the caller gives one.
            schedule: an object that is another one when the scheduler was set anew; None if there is no scheduler.
            steady, windows: the anatomy's.
        """
        new_run = self._starts_run(timestep, latents, schedule)
        if new_run:
            self.forget()
            self.run += 1
        moved = new_run or timestep != self.timestep
        again = not moved and self._is_evaluation(latents, conditioning, label, windows)
        self.windowed = self.windowed or (windows and again)
        if moved:
            self.step, self.evaluation = self.step + 1, 0
        elif again:
            self.evaluation += 1
        if moved or again:
            self.called = set()
        first = moved or again
        branch = self._branch(conditioning, label, latents.batch)
        new_batch = branch.batch != latents.batch
        new_conditioning = bool(steady) and not conditioning.same_as(branch.latest, steady)
        branch.batch = latents.batch
        branch.latest = conditioning.remember() if new_conditioning else branch.latest
        self.called.add(branch.label)
        if first:
            self.timestep, self.latents, self.schedule = timestep, latents, schedule
        return Position(
            self.run, self.step, self.evaluation, branch.label, new_run, first, new_batch,
            new_conditioning=new_conditioning, windowed=self.windowed,
        )  # fmt: skip

    def _starts_run(self, timestep: float, latents: Latents, schedule: Any) -> bool:
        if self.timestep is None or self.latents is None:
            return True
        if latents.shape != self.latents.shape or schedule is not self.schedule:
            return True
        back = timestep < self.timestep if self.rising else timestep > self.timestep
        return back and not self.held

    def _is_evaluation(self, latents: Latents, conditioning: Conditioning, label: Hashable, windows: bool) -> bool:
        assert self.latents is not None
        same = latents.same_as(self.latents)
        if windows or same:
            return not same
        if label is not None:
            return label in self.called
        called = [b for b in self.branches if b.label in self.called]
        return not conditioning.shapes or any(conditioning.same_as(b.conditioning) for b in called)

    def _branch(self, conditioning: Conditioning, label: Hashable, batch: int) -> Branch:
        if label is not None:
            found = next((b for b in self.branches if b.label == label), None)
        else:
            free = [b for b in self.branches if b.label not in self.called]
            known = next((b for b in free if conditioning.same_as(b.conditioning)), None)
            found = known or next(iter(free), None)
        if found is None:
            name = label if label is not None else len(self.branches)
            found = Branch(name, conditioning.remember(), batch, conditioning)
            self.branches.append(found)
        return found
