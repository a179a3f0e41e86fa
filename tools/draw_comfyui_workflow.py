"""Draw docs/images/comfyui.png: the nodes of a ComfyUI workflow, with what is set in them, and their links."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from PIL import Image

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "integrations" / "comfyui" / "example_workflows" / "wan2.2-s2v.json"
PICTURE = ROOT / "docs" / "images" / "comfyui.png"
TITLE, ROW = 24, 20  # heights in the units of the workflow
COLOURS = {
    "MODEL": "#b39ddb", "CLIP": "#ffd500", "VAE": "#ff6e6e", "CONDITIONING": "#ffa931", "LATENT": "#ff9cf9",
    "IMAGE": "#64b5f6", "MASK": "#81c784", "VIDEO": "#64b5f6",
}  # fmt: skip
OTHER = "#b0bec5"
HIDDEN = {"KSampler": ("control_after_generate",), "LoadAudio": ("ui", "upload"), "LoadImage": ("upload",)}


def widgets(node: dict[str, Any]) -> dict[str, Any]:
    """Names and values of what is set in a node. Some nodes have values that no input stands for."""
    names = [i["name"] for i in node["inputs"] if "widget" in i]
    if node["type"] in HIDDEN:
        names[1:1] = HIDDEN[node["type"]]
    return dict(zip(names, node["widgets_values"], strict=True))


def sockets(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [i for i in node["inputs"] if "widget" not in i]


def rows(node: dict[str, Any]) -> int:
    return max(len(sockets(node)), len(node["outputs"])) + len(widgets(node))


def place(node: dict[str, Any], side: str, index: int) -> tuple[float, float]:
    """Where the dot of an input or output is."""
    x, y = node["pos"]
    return x + (node["size"][0] if side == "outputs" else 0), y + TITLE + ROW * (index + 0.6)


def draw_node(axes: Axes, node: dict[str, Any]) -> None:
    (x, y), width, height = node["pos"], node["size"][0], TITLE + ROW * rows(node) + 6
    ours = node["type"] == "SyncCache"
    edge, face = ("#e07a5f", "#41384a") if ours else ("#1b1b1b", "#353535")
    style = "round,pad=0,rounding_size=6"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=face, ec=edge, lw=2.2 if ours else 0.8))
    axes.text(x + 8, y + TITLE / 2 + 1, node.get("title", node["type"]), va="center", color="white", fontsize=8)
    for side, align, offset in (("inputs", "left", 10), ("outputs", "right", -10)):
        for index, socket in enumerate(sockets(node) if side == "inputs" else node["outputs"]):
            at = place(node, side, index)
            axes.plot(*at, "o", ms=5, color=COLOURS.get(socket["type"], OTHER))
            axes.text(at[0] + offset, at[1], socket["name"], ha=align, va="center", color="#dddddd", fontsize=6.5)
    first = max(len(sockets(node)), len(node["outputs"]))
    for index, (name, value) in enumerate(widgets(node).items()):
        at = y + TITLE + ROW * (first + index + 0.6)
        text = str(value) if len(str(value)) < 26 else f"{str(value)[:24]}…"
        axes.text(x + 12, at, name, va="center", color="#999999", fontsize=6.5)
        axes.text(x + width - 10, at, text, ha="right", va="center", color="white", fontsize=6.5)


def draw(workflow: dict[str, Any], path: Path) -> None:
    """Write the picture to ``path``."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    figure = Figure(figsize=(12.4, 7.2), layout="constrained", facecolor="#202020")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for _, source, out, target, into, kind in workflow["links"]:
        (x, y), (x2, y2) = place(nodes[source], "outputs", out), place(nodes[target], "inputs", into)
        bend = max(40, abs(x2 - x) / 2)
        curve = Curve([(x, y), (x + bend, y), (x2 - bend, y2), (x2, y2)], [Curve.MOVETO, *[Curve.CURVE4] * 3])
        axes.add_patch(PathPatch(curve, fc="none", ec=COLOURS.get(kind, OTHER), lw=1.3, alpha=0.7))
    for node in nodes.values():
        draw_node(axes, node)
    right = max(n["pos"][0] + n["size"][0] for n in nodes.values())
    bottom = max(n["pos"][1] + TITLE + ROW * rows(n) for n in nodes.values())
    axes.set(xlim=(10, right + 30), ylim=(bottom + 30, 30), aspect="equal")
    axes.axis("off")
    figure.savefig(path, dpi=90, format="png")
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    draw(json.loads(WORKFLOW.read_text(encoding="utf-8")), Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
