"""A plan: what one profiled run taught about a model, as a small JSON file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..engine.anatomy import Anatomy
from ..engine.document import read_document, write_document
from ..engine.types import Gate
from ..errors import InputError
from ..gates import Last, MaxGap, Probe, Threshold, Warmup, threshold_for
from ..scopes import boundaries as paths

SCHEMA, VERSION = "synccache.plan", 1


@dataclass(frozen=True)
class Plan:
    """Where to merge segments, and how large the probe's errors are.

    Attributes:
        model: the identity that a model must have to use it (``Anatomy.identity``).
        ends: index of the last block of each elementary segment.
        gamma: ``gamma[j][k]``, instability of the segment from node j to node k (nodes 0..len(ends)); 0 where j >= k.
        errors: probe error of each step; None where nothing could be compared.
        timesteps: as the transformer was called with.
        sigmas: the scheduler's, if there was one.
        scheduler: its class name, if there was one.
        source: what it was profiled on, in words.
    """

    model: Mapping[str, Any]
    ends: tuple[int, ...]
    gamma: tuple[tuple[float, ...], ...]
    errors: tuple[float | None, ...]
    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...] = ()
    scheduler: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(self.errors)

    def boundaries(self, segments: int, through: Collection[int] = ()) -> tuple[int, ...]:
        """The blocks after which a kept segment ends, for ``segments`` segments of least total instability.

        ``through`` lists blocks that must be among them.

        Raises:
            InputError: more segments than there are.
        """
        self._check(segments)
        nodes = [self.ends.index(block) + 1 for block in through]
        return tuple(self.ends[node - 1] for node in paths.best_path(self.gamma, segments, nodes)[1:-1])

    def random_boundaries(self, segments: int, seed: int) -> tuple[int, ...]:
        """The same number of boundaries, drawn at random."""
        self._check(segments)
        return paths.random_boundaries(self.ends[:-1], segments, seed)

    def threshold(
        self, computed_steps: int, warmup: float | None = 0.1, last: int | None = 1, max_gap: int | None = None
    ) -> float:
        """The threshold at which ``computed_steps`` of the recorded steps are computed, or as near as it gets."""
        gate: Gate = Threshold(0.0, Probe())
        if max_gap:
            gate = MaxGap(gate, max_gap)
        if last:
            gate = Last(gate, last)
        if warmup:
            gate = Warmup(gate, warmup)
        return threshold_for(gate, self.errors, computed_steps)

    def check(self, anatomy: Anatomy) -> None:
        """Raise InputError unless the plan is of a model like this one."""
        for key, known, value in differences(self.model, anatomy):
            raise InputError(
                f"The plan was made for a model with {key} {known!r}, this one has {value!r}. Profile this model "
                "(synccache plan, or synccache.profile) and use that plan."
            )

    def fits(self, anatomy: Anatomy) -> bool:
        """Whether the plan is of a model like this one."""
        return not differences(self.model, anatomy)

    def _check(self, segments: int) -> None:
        if not 1 <= segments <= len(self.ends):
            raise InputError(f"{segments} segments were asked for; the plan has 1 to {len(self.ends)}.")

    def save(self, path: str | Path) -> Path:
        return write_document(path, SCHEMA, VERSION, asdict(self))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file.

        Raises:
            InputError: it is missing, or not a plan of this version, or its parts don't fit together.
        """
        content = read_document(path, SCHEMA, VERSION)
        try:
            known: dict[str, Any] = {f.name: content[f.name] for f in fields(cls) if f.name in content}
            gamma = tuple(tuple(float(x) for x in row) for row in known.pop("gamma"))
            errors = tuple(None if e is None else float(e) for e in known.pop("errors"))
            ends = tuple(int(e) for e in known.pop("ends"))
            timesteps, sigmas = (tuple(float(x) for x in known.pop(n, ())) for n in ("timesteps", "sigmas"))
            plan = cls(gamma=gamma, errors=errors, ends=ends, timesteps=timesteps, sigmas=sigmas, **known)
            values = [x for row in gamma for x in row] + [e for e in errors if e is not None]
            whole = len(gamma) == len(ends) + 1 and all(len(row) == len(gamma) for row in gamma)
            if not (whole and isinstance(plan.model, dict) and all(math.isfinite(x) and x >= 0 for x in values)):
                raise ValueError("its table and its list of segments don't fit together")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a whole plan ({error}). Make it anew with synccache plan.") from None
        return plan


def differences(model: Mapping[str, Any], anatomy: Anatomy) -> list[tuple[str, Any, Any]]:
    """(key, known, found) wherever the identity ``model`` and that of ``anatomy`` are both known and differ."""
    both = [(key, model.get(key), value) for key, value in anatomy.identity().items()]
    return [(k, known, v) for k, known, v in both if None not in (known, v) and known != v]
