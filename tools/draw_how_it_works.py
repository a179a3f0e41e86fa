"""Draw docs/images/how-it-works.png: what SyncCache computes, replays and keeps live over steps and blocks."""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

BLOCKS, STEPS = 9, 12
COMPUTED = {0, 1, 2, 5, 8, 11}
SITES = {0, 2, 4, 6, 8}
COLOURS = {"computed": "#2a6f97", "replayed residual": "#d9dee3", "audio module, live": "#e07a5f"}


def draw(path: Path) -> None:
    """Write the figure to ``path``."""
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for step in range(STEPS):
        for block in range(BLOCKS):
            runs = step in COMPUTED or block == 0
            colour = COLOURS["computed"] if runs else COLOURS["replayed residual"]
            axes.add_patch(Rectangle((step + 0.06, block), 0.88, 0.74, color=colour))
            if block in SITES:
                axes.add_patch(Rectangle((step + 0.06, block + 0.78), 0.88, 0.16, color=COLOURS["audio module, live"]))
    axes.annotate("probe block: always runs", (STEPS, 0.37), (STEPS + 0.2, 0.37), va="center", fontsize=9)
    axes.set(xlim=(0, STEPS + 3.4), ylim=(0, BLOCKS + 0.1), xlabel="denoising steps", ylabel="blocks")
    axes.set_xticks([s + 0.5 for s in range(STEPS)], [str(s + 1) for s in range(STEPS)])
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    axes.legend(handles=handles, loc="upper right", fontsize=9, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, format="png")


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/how-it-works.png"))
