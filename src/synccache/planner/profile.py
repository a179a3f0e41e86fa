"""A profile: what a method learnt about a model from one uncached run, as a safetensors file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..engine.anatomy import Anatomy
from ..errors import InputError
from ..methods.names import lenders
from .digest import weights_of

SCHEMA, VERSION, LIMIT = "synccache.profile", 1, 256 * 2**20
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool)


@dataclass(frozen=True, eq=False)
class Profile:
    """What a method learnt.

    Attributes:
        method: whose it is.
        model: the identity that a model must have to use it (``Anatomy.identity``).
        tensors: what was learnt, by the method's own names.
        timesteps: of the run, as the transformer was called with.
        scheduler: its class name, if there was one.
        source: what it was learnt from, in words.
        weights: digest of the weights that it was learnt on (``weights_of``); None: unknown.
        settings: the recipe's ``shapes``, as it learnt with them.
        shipped: whether it came with the package, instead of from the user.
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
            InputError: there is none of that name, or not of that ``shape`` (None: of any length).
        """
        if name not in self.tensors:
            has = ", ".join(map(repr, self.tensors)) or "nothing"
            raise InputError(f"The profile of {self.method!r} has no {name!r}, only {has}. {remedy(self.method)}")
        found = self.tensors[name]
        if shape is not None and not _fits(found.shape, shape):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise InputError(
                f"The profile of {self.method!r} holds {name!r} of shape {list(found.shape)}; wanted is [{wanted}]. "
                f"{remedy(self.method)}"
            )
        return found

    def check(self, anatomy: Anatomy, method: str | None = None, scheduler: str | None = None) -> None:
        """Raise InputError unless it is of a model like this one, and of ``method`` or of a part of it (``"a+b"``).

        The weights may be others: who gives a profile says that it serves. Where a scheduler's class is known on both
        sides, it must be the same too: another one's steps lie elsewhere.
        """
        if method is not None and not self.serves(method):
            raise InputError(f"The profile is of the method {self.method!r}, not of {method!r}. {remedy(method)}")
        for key, known, value in differences(self.model, anatomy):
            raise InputError(
                f"The profile was made for a model with {key} {known!r}, this one has {value!r}. {remedy(self.method)}"
            )

        if None not in (scheduler, self.scheduler) and scheduler != self.scheduler:
            raise InputError(
                f"The profile was made with a {self.scheduler}, and this pipeline has a {scheduler}. "
                f"{remedy(self.method)}"
            )

    def fits(self, anatomy: Anatomy, scheduler: str | None = None) -> bool:
        """Whether it was learnt on this very model, weights included, and on its scheduler where both are known."""
        another = None not in (scheduler, self.scheduler) and scheduler != self.scheduler
        if another or differences(self.model, anatomy):
            return False
        return self.weights == weights_of(anatomy.blocks)

    def serves(self, method: str) -> bool:
        return self.method in lenders(method)

    def save(self, path: str | Path) -> Path:
        """Write it; an existing file is replaced only by a whole one."""
        from safetensors import SafetensorError  # only here, so that the core imports torch alone
        from safetensors.torch import save

        path = Path(path)
        header = {
            "schema": SCHEMA, "version": VERSION, "method": self.method, "model": dict(self.model),
            "scheduler": self.scheduler, "steps": self.steps, "timesteps": list(self.timesteps),
            "source": dict(self.source), "weights": self.weights, "settings": dict(self.settings),
        }  # fmt: skip
        part = path.with_name(path.name + ".part")
        try:
            tensors = {name: t.detach().cpu().contiguous().clone() for name, t in self.tensors.items()}
            part.write_bytes(save(tensors, {"synccache": json.dumps(header)}))  # save_file lets the owner alone read it
            part.replace(path)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise InputError(f"{path} can't be written ({getattr(error, 'strerror', None) or error}).") from None
        return path

    @classmethod
    def load(cls, path: str | Path, method: str | None = None) -> Profile:
        """Read a profile file.

        Raises:
            InputError: it is missing, no profile of this version, or damaged; or of another method than ``method``.
        """
        path = Path(path)
        header, tensors = _read(path)
        if header.get("schema") != SCHEMA:
            raise InputError(f"{path} holds {header.get('schema', 'no schema')!r}, not {SCHEMA!r}. {remedy(method)}")
        if header.get("version") != VERSION:
            found = header.get("version")
            raise InputError(f"{path} has version {found!r}; this synccache reads version {VERSION}. {remedy(method)}")
        damage = _damage(header, tensors)
        if damage:
            raise InputError(f"{path} is a damaged profile ({damage}). {remedy(method)}")
        names = ("method", "model", "scheduler", "source")
        profile = cls(
            **{n: header[n] for n in names}, tensors=tensors, timesteps=tuple(map(float, header["timesteps"])),
            weights=header.get("weights"), settings=header.get("settings", {}),
        )  # fmt: skip
        if method is not None and not profile.serves(method):
            raise InputError(
                f"{path} is a profile of the method {profile.method!r}, not of {method!r}. {remedy(method)}"
            )
        return profile


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(w in (None, n) for n, w in zip(found, wanted, strict=True))


def differences(model: Mapping[str, Any], anatomy: Anatomy) -> list[tuple[str, Any, Any]]:
    """(key, known, found) wherever the identity ``model`` and that of ``anatomy`` are both known and differ."""
    both = [(key, model.get(key), value) for key, value in anatomy.identity().items()]
    return [(k, known, v) for k, known, v in both if None not in (known, v) and known != v]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a safetensors file."""
    from safetensors import safe_open

    if not path.is_file():
        raise InputError(f"There is no file {path}. A profile made by synccache profile was expected there.")
    if path.stat().st_size > LIMIT:
        raise InputError(f"{path} has {path.stat().st_size} bytes; a profile has at most {LIMIT}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("synccache", "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # whatever a damaged file leads to
        raise InputError(f"{path} is not a readable safetensors file ({error}). {remedy(None)}") from None
    try:
        header = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        header = None
    return header if isinstance(header, dict) else {}, tensors


def _damage(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """What is wrong with the header or the tensors, or None."""
    for name, kind in (("method", str), ("model", dict), ("steps", int), ("timesteps", list), ("source", dict)):
        if not isinstance(header.get(name), kind):
            return f"its header has no {name}"
    if not isinstance(header.get("scheduler", 0), str | None):
        return "its header has no scheduler"
    if not isinstance(header.get("weights"), str | None) or not isinstance(header.get("settings", {}), dict):
        return "its header's weights or settings are of a wrong kind"
    times = header["timesteps"]
    if len(times) != header["steps"] or not all(isinstance(t, int | float) and math.isfinite(t) for t in times):
        return f"{len(times)} timesteps for {header['steps']} steps"
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            return f"{name} is of {tensor.dtype}"
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return f"{name} is not finite"
    return None if tensors else "it holds no tensor"


def remedy(method: str | None) -> str:
    """What to tell who needs a profile of ``method``."""
    return f"Make one with: synccache profile --method {method or 'NAME'} --out profile.safetensors"
