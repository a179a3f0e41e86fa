"""MagCache: skip until the residual's magnitude must have drifted too far.

Paper: MagCache, arXiv 2506.09045, NeurIPS 2025.
Formula: ``P <- P gamma_i``, ``E <- E + |1 - P|`` since the last computed step; a step is skipped while
``E < threshold``, and at most ``max_gap - 1`` (the paper's K) in a row. gamma_i is the mean over tokens of
``|R_i| / |R_{i-1}|``, R the whole stack's residual of the conditional branch. The first fifth of a run is computed.
The ratios are a profile's, or else published ones by name (``ratios="wan2.1-t2v-14b"``), which bring the release's
threshold and largest gap along. HunyuanVideo's are found by themselves; Wan's have to be named, since its models look
alike. The release keeps P and E of both guidance branches apart, with ratios that differ from the fourth digit on; here
the conditional branch decides for both.
Cost of a skipped step: embedding, head (and injections, whose result is dropped). Memory: one tensor per branch.
Limit: a run of another number of steps takes the nearest of the ratios, as the release does; a run of as many
steps as were profiled must have the same timesteps.
Use it where one run can be profiled and speed must not depend on the content: the same steps are skipped for everything
that is generated. The ratios fall at the end of a run, so little is skipped there. ``decoupled=True`` keeps injections
live.
Defaults: those of the named set; with a profile the release's slowest of Wan 2.1, 0.12 and at most four skips in a row.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import Magnitudes
from .profiled_gates import MagnitudesFor
from .recipe import Recipe, Recorder, Settings, protected, stack_scope
from .remedy import ProfileNeeded

USUAL: dict[str, Any] = {"threshold": 0.12, "max_gap": 5}


def build(s: Settings) -> Method:
    known = USUAL if s["profile"] is not None else {**USUAL, **_released().get(s["ratios"], {})}
    threshold, gap = (known[n] if s[n] is None else s[n] for n in ("threshold", "max_gap"))
    gate = _gate(s, threshold, gap - 1 if gap else None)
    return Method(protected(gate, {**s, "max_gap": None}), stack_scope(s), Reuse(), "magcache")


def _released() -> dict[str, dict[str, Any]]:
    text = (files("synccache.methods") / "data" / "magcache.json").read_text(encoding="utf-8")
    return json.loads(text)["released"]


def published() -> dict[str, tuple[float, ...]]:
    """Released ratios by name; ``data/magcache.json`` says where each comes from."""
    return {name: tuple(map(float, entry["ratios"])) for name, entry in _released().items()}


def magnitude_ratios(residuals: Tensor) -> Tensor:
    """[T] float64, the first 1: the mean over tokens of ``|R_i|_2 / |R_{i-1}|_2`` of residuals [T, n, D]."""
    sizes = residuals.double().norm(dim=-1)
    before, now = sizes[:-1], sizes[1:]
    known = before > 0
    means = torch.where(known, now / before.where(known, torch.ones(())), 0).sum(-1) / known.sum(-1).clamp(min=1)
    return torch.cat([torch.ones(1, dtype=torch.float64), means])


def learn(recorder: Recorder, s: Settings) -> dict[str, Tensor]:
    """``ratios``: [T] float64, of the main stream."""
    features = recorder.record(stack_scope(s)).features.values()
    video = [f for f in features if f.shape == next(iter(features)).shape]  # HunyuanVideo's stack has two parts
    return {"ratios": magnitude_ratios(torch.stack(video).sum(0))}


def _gate(s: Settings, threshold: float, most: int | None) -> Magnitudes:
    profile, known = s["profile"], published()
    if profile is not None:
        ratios = tuple(profile.tensor("ratios", (profile.steps,)).tolist())
        return MagnitudesFor(ratios, threshold, most, timesteps=profile.timesteps)
    if s["ratios"] in known:
        return Magnitudes(known[s["ratios"]], threshold, most)
    wrong = "" if s["ratios"] is None else f" ratios={s['ratios']!r} are not among the published ones."
    raise ProfileNeeded(
        f"The method 'magcache' needs to know how the residual's magnitude changes.{wrong} Give published ratios=..., "
        f"one of {', '.join(known)}, or a profile.",
        "magcache",
    )


RECIPE = Recipe(
    name="magcache",
    summary="Skips while the residual's magnitude, by ratios measured once, has hardly drifted.",
    paper="MagCache, arXiv 2506.09045, NeurIPS 2025",
    year=2025,
    gate="drift of the residual's magnitude, accumulated",
    scope="whole stack",
    forecaster="reuse",
    settings={
        "threshold": None, "max_gap": None, "warmup": 0.2, "last": None, "decoupled": False, "ratios": None,
        "profile": None,
    },
    build=build,
    models={"hunyuan-video": {"ratios": "hunyuan-video-720p"}},
    needs="a profile, or published ratios (Wan, HunyuanVideo)",
    learn=learn,
    shapes=("decoupled",),
    alone={"scope": stack_scope, "forecaster": lambda s: Reuse()},
)  # fmt: skip
