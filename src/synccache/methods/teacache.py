"""TeaCache: skip while the time embedding, through a fitted polynomial, says that the output hardly changes.

Paper: TeaCache ("Timestep Embedding Tells"), arXiv 2411.19108, CVPR 2025.
Formula: ``e = p(mean|s - s_before| / mean|s_before|)``, s the signal that the first block receives, is added up; over
``threshold`` the step is computed and the sum starts again, else the whole stack's residual is reused.
Cost of a skipped step: embedding, head, and injections, whose result is dropped. Memory: one tensor per stream and
branch, and a time embedding.
Use it as the best known baseline. A time embedding depends on the timestep alone, so the steps that it computes are
the same for every video with one schedule and can be known in advance: it can't see content, and long skips hurt. Not
where conditioning enters between the blocks (speech): stale on skipped steps, unless ``decoupled=True``.
Coefficients: a list, highest power first, or the name of a set in ``data/teacache.json``, which tells what each was
fitted on. The release fits p to three signals. Wan's blocks receive the projected embedding, so the sets of its "ret"
mode fit here, and by default, by the number of blocks, that of the 1.3- or 14-billion text-to-video model (others:
``coefficients="wan2.1-...-ret"``); CogVideoX's receive the time embedding (the set of 2b or 5b). Sets on another signal
than the model's ``signal`` are refused. Those on the first block's modulated input (HunyuanVideo, FLUX, LTX-Video,
Mochi, Cosmos) want an anatomy that gives it, and ``signal="modulated input of the first block"``. Without a set p is
the identity, with a threshold of its own: take a profile, from which p is fitted as in the paper. It maps changes onto
changes, so it holds for any number of steps.
Computed: with ``computed_steps=N`` exactly N steps of every run, spread evenly, whatever is measured.
Defaults: with a set the release's slower threshold, warm-up and last step; else 0.1, the first and the last step.
On the built-in portrait model 0.034, which with the shipped profile computes 12 of 40 steps.
Limit: half precision rounds small changes of the embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.method import Method
from ..documents import read_document
from ..errors import InputError
from ..forecasters import Reuse
from ..gates import Signal
from ..scopes import Nothing
from .measuring import SUMMED, summing_gate
from .recipe import Recipe, Recorder, Settings, stack_scope
from .remedy import ProfileNeeded
from .settings import unknown

_FILE = read_document(Path(__file__).parent / "data" / "teacache.json", "synccache.teacache", 1)
SETS: dict[str, dict[str, Any]] = _FILE["sets"]


def coefficients(s: Settings) -> tuple[float, ...]:
    """The polynomial's, highest power first: the profile's if there is one. InputError where a set can't serve."""
    given = s["coefficients"] if s["profile"] is None else s["profile"].tensor("coefficients", (None,)).tolist()
    if isinstance(given, str):
        if given not in SETS:
            raise InputError(unknown("set of coefficients", given, SETS))
        kind = SETS[given]["signal"]
        if s["signal"] not in (None, kind):
            raise ProfileNeeded(
                f"The set {given!r} was fitted on the {kind}; here the gate measures the {s['signal']}. Give a set "
                "that was fitted on that, a list of coefficients, or a profile.",
                "teacache",
            )
        given = SETS[given]["coefficients"]
    return (1.0, 0.0) if given is None else tuple(float(c) for c in given)


USUAL = {"threshold": 0.1, "warmup": 1, "last": 1}


def build(s: Settings) -> Method:
    wanted = [n for n in USUAL if s[n] is None and (n != "threshold" or s["computed_steps"] is None)]
    s = {**s, **{n: _usual(s)[n] for n in wanted}}
    gate = summing_gate(s, Signal(coefficients(s)))
    return Method(gate, stack_scope(s), Reuse(), "teacache")


def fitted(signals: Tensor, changes: Tensor, degree: int = 4) -> Tensor:
    """[degree + 1] float64, highest power first: the polynomial nearest to ``changes`` [n] at ``signals`` [n].

    Least squares; where n is too small for the degree, its highest coefficients are 0.
    """
    x, y = signals.double(), changes.double()
    scale = x.abs().max().clamp(min=1e-12)
    powers = torch.arange(min(degree, len(x) - 1), -1, -1)
    found = torch.linalg.lstsq((x / scale)[:, None] ** powers, y[:, None], driver="gelsd").solution[:, 0]
    return torch.cat([torch.zeros(degree + 1 - len(powers), dtype=torch.float64), found / scale**powers])


def learn(recorder: Recorder, s: Settings) -> dict[str, Tensor]:
    """``coefficients``: [5] float64, highest power first, fitted to the run's signals and outputs."""
    recording = recorder.record(Nothing())
    both = zip(recording.signals, recording.changes, strict=False)
    known = [pair for pair in both if None not in pair]
    if not known:
        raise InputError("No change of a time embedding was seen: the first block is called with none that is known.")
    pairs = torch.tensor(known, dtype=torch.float64)
    return {"coefficients": fitted(pairs[:, 0], pairs[:, 1])}


def _usual(s: Settings) -> Settings:
    known = SETS.get(s["coefficients"]) if isinstance(s["coefficients"], str) and s["profile"] is None else None
    return {**known, "threshold": known["thresholds"][0]} if known else USUAL


RECIPE = Recipe(
    name="teacache",
    summary="Skips while the time embedding, through a fitted polynomial, says that the output hardly changes.",
    paper="TeaCache, arXiv 2411.19108, CVPR 2025",
    year=2025,
    gate="time embedding's change through a polynomial, accumulated",
    scope="whole stack",
    forecaster="reuse",
    settings={
        **SUMMED, "threshold": None, "coefficients": None, "signal": None, "decoupled": False, "profile": None,
    },
    build=build,
    models=_FILE["anatomies"],
    needs="coefficients fitted on the model: a profile, or published ones (Wan, CogVideoX)",
    learn=learn,
    alone={"scope": stack_scope, "forecaster": lambda s: Reuse()},
)  # fmt: skip
