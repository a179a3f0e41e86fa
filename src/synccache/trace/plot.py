"""The trace as a picture; matplotlib is imported only here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..extras import require


def draw_trace(trace: Any, path: Path, run: int = -1) -> Path:
    """Decisions and errors of a ``Trace`` over steps above, cached bytes below.

    Raises:
        InputError: the trace is empty.
    """
    require("A plot", "matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = trace.steps(run)
    if not steps:
        raise InputError("There is nothing to plot: no step was traced. Run the pipeline while the cache is on.")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    x = list(range(len(steps)))
    for i, record in enumerate(steps):
        if record.decision == "computed":
            above.axvspan(i - 0.5, i + 0.5, color="#2a6f97", alpha=0.25, lw=0)
    nan = float("nan")
    errors = [nan if r.error is None else r.error for r in steps]
    totals = [nan if r.total is None else r.total for r in steps]
    above.plot(x, errors, "o-", ms=3, color="#bc4749", label="probe error")
    above.step(x, totals, where="mid", color="#6a994e", label="running sum")
    above.set_ylabel("relative change")
    above.set_title(f"{trace.computed(run)} of {len(steps)} steps computed (shaded)")
    above.legend(loc="upper right", fontsize="small")
    below.fill_between(x, [r.bytes / 2**20 for r in steps], step="mid", color="#2a6f97", label="anchors")
    below.plot(x, [r.probe_bytes / 2**20 for r in steps], color="#bc4749", lw=1, label="probe")
    below.set_ylabel("MiB held")
    below.set_xlabel("step")
    below.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=120)
    return path
