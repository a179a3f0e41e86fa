"""A profile: what a method learnt about a model from an uncached run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.anatomy import Anatomy
from ..methods import RECIPES
from ..methods.names import lenders
from ..methods.remedy import ProfileNeeded
from .file import read_profile, write_profile
from .identity import differences, weights_of


@dataclass(frozen=True, eq=False)
class Profile:
    """What a method learnt.

    Attributes:
        method: who learnt it.
        model: the identity that a model must have to use it (``Anatomy.identity``).
        tensors: what was learnt, by the method's own names.
        timesteps: of the run, as the transformer was called with.
        scheduler: its class name, if there was one.
        source: what it was learnt from, in words.
        weights: digest of the weights that it was learnt on (``weights_of``); None: unknown.
        settings: the recipe's ``shapes``, with the values that it learnt with.
        shipped: whether it came with the package, instead of from the user.

    Example:
        >>> profile = synccache.learn_profile(pipe, "magcache", lambda: pipe(image=portrait, audio=speech))
        >>> profile.save("profile.safetensors")
        >>> synccache.apply(pipe, "magcache", profile="profile.safetensors")
    """

    method: str
    model: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    timesteps: tuple[float, ...]
    scheduler: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    shipped: bool = False

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Tensor:
        """One of the ``tensors``.

        Raises:
            ProfileNeeded: there is none of that name, or not of that ``shape`` (None: of any length).
        """
        if name not in self.tensors:
            has = ", ".join(map(repr, self.tensors)) or "nothing"
            raise ProfileNeeded(f"The profile of {self.method!r} has no {name!r}, only {has}.", self.method)
        found = self.tensors[name]
        if shape is not None and not _fits(found.shape, shape):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise ProfileNeeded(
                f"The profile of {self.method!r} holds {name!r} of shape {list(found.shape)}; wanted is [{wanted}].",
                self.method,
            )
        return found

    def check(self, anatomy: Anatomy, method: str | None = None, scheduler: str | None = None) -> None:
        """Refuse another model, another method, or another scheduler.

        ``method`` may be composed (``"a+b"``): then the profile has to be of one of its parts. The model's weights may
        be others, since who gives a profile says that it serves. Schedulers are compared where both are known: another
        one's steps lie elsewhere.

        Raises:
            ProfileNeeded: says what differs.
        """
        if method is not None and not self.serves(method):
            raise ProfileNeeded(f"The profile is of the method {self.method!r}, not of {method!r}.", *learners(method))
        for key, known, value in differences(self.model, anatomy):
            raise ProfileNeeded(
                f"The profile was made for a model with {key} {known!r}, this one has {value!r}.", self.method
            )
        if None not in (scheduler, self.scheduler) and scheduler != self.scheduler:
            raise ProfileNeeded(
                f"The profile was made with a {self.scheduler}, and this pipeline has a {scheduler}.", self.method
            )

    def fits(self, anatomy: Anatomy, scheduler: str | None = None) -> bool:
        """Whether it was learnt on this very model, weights included, and on its scheduler where both are known."""
        another = None not in (scheduler, self.scheduler) and scheduler != self.scheduler
        if another or differences(self.model, anatomy):
            return False
        return self.weights == weights_of(anatomy.blocks)

    def serves(self, method: str) -> bool:
        """Whether ``method`` is the one that learnt it, or composed with that one."""
        return self.method in lenders(method)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file; an existing one is replaced only by a whole one.

        Raises:
            InputError: it can't be written.
        """
        header = {
            "method": self.method, "model": dict(self.model), "scheduler": self.scheduler, "steps": self.steps,
            "timesteps": list(self.timesteps), "source": dict(self.source), "weights": self.weights,
            "settings": dict(self.settings),
        }  # fmt: skip
        return write_profile(Path(path), header, self.tensors)

    @classmethod
    def load(cls, path: str | Path, method: str | None = None) -> Profile:
        """Read a profile file.

        Raises:
            ProfileNeeded: it is missing, no profile of this version, or damaged; or of another method than ``method``.
        """
        header, tensors = read_profile(Path(path), method)
        names = ("method", "model", "scheduler", "source")
        profile = cls(
            **{n: header[n] for n in names}, tensors=tensors, timesteps=tuple(map(float, header["timesteps"])),
            weights=header.get("weights"), settings=header.get("settings", {}),
        )  # fmt: skip
        if method is not None and not profile.serves(method):
            raise ProfileNeeded(
                f"{path} is a profile of the method {profile.method!r}, not of {method!r}.", *learners(method)
            )
        return profile


def learners(method: str) -> list[str]:
    """Of the methods that ``method`` is made of, those that learn a profile."""
    return [name for name in lenders(method) if name in RECIPES and RECIPES[name].learn is not None]


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(w in (None, n) for n, w in zip(found, wanted, strict=True))
