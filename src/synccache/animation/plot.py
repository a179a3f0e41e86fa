"""An animation as a picture: decisions of every clip, the probe's running sum, and the mouth against the sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ..portrait.hearing import FPS
from .report import opening_of, truth_of
from .scene import Scene
from .take import Take

COMPUTED, SKIPPED, UNCACHED, ACCELERATED = "#2a6f97", "#dfe7ee", "#8d99ae", "#bc4749"


def draw(path: Path, scene: Scene, baseline: Take | None, take: Take) -> Path:
    """Draw a take, and the uncached one beside it where there is one, into a picture file."""
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, middle, below = figure.subplots(3, 1, height_ratios=[2, 2, 2])
    _decisions(above, take)
    _sums(middle, take)
    _mouths(below, scene, baseline, take)
    figure.savefig(path, dpi=110)
    return path


def _decisions(axes, take: Take) -> None:
    runs = range(len(take.trace.runs))
    rows = [[d == "computed" for d in take.trace.decisions(run)] for run in runs]
    width = max(map(len, rows))
    grid = np.array([row + [False] * (width - len(row)) for row in rows], float)
    axes.imshow(grid, aspect="auto", cmap=ListedColormap([SKIPPED, COMPUTED]), vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(np.arange(-0.5, width), minor=True)
    axes.grid(which="minor", axis="x", color="white", lw=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set_yticks(sorted({round(y) for y in np.linspace(0, len(rows) - 1, min(len(rows), 8))}))
    axes.set_ylabel("clip")
    axes.set_title(f"{take.method}: {take.computed} of {int(sum(map(len, rows)))} steps computed (dark)")


def _sums(axes, take: Take) -> None:
    nan = float("nan")
    for run in range(min(len(take.trace.runs), 12)):
        totals = [nan if r.total is None else r.total for r in take.trace.steps(run)]
        axes.step(range(len(totals)), totals, where="mid", color=ACCELERATED, alpha=0.5, lw=1)
    threshold = take.settings.get("threshold")
    if threshold is not None and take.settings.get("computed_steps") is None:
        axes.axhline(threshold, color="black", lw=0.8, ls="--", label=f"threshold {threshold:g}")
        axes.legend(loc="upper right", fontsize="small")
    axes.set_xlabel("step")
    axes.set_ylabel("probe error, running sum")


def _mouths(axes, scene: Scene, baseline: Take | None, take: Take) -> None:
    axes.set_xlabel("seconds")
    axes.set_ylabel("mouth opening")
    opening = opening_of(scene, take.frames)
    if opening is None:
        axes.text(0.5, 0.5, "no face was found, so no mouth was measured", ha="center", transform=axes.transAxes)
        return
    seconds = np.arange(len(opening)) / FPS
    truth = truth_of(scene, len(opening))
    plain = None if baseline is None else opening_of(scene, baseline.frames)
    top = max(float(t.max()) for t in (opening, plain) if t is not None)
    axes.fill_between(seconds, truth * top / max(float(truth.max()), 1e-9), color="#e9e4d4", label="sound (scaled)")
    if plain is not None:
        axes.plot(seconds, plain, color=UNCACHED, lw=2.5, label="uncached")
    axes.plot(seconds, opening, color=ACCELERATED, lw=1.2, label=take.method)
    axes.legend(loc="upper right", fontsize="small")
