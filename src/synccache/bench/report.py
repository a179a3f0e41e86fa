"""Rows to one table and one plot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..files import whole_file
from ..metrics.statistics import paired_bootstrap
from .contenders import REFERENCE, Contender

COLUMNS = {
    "speedup": ("speed-up", "{:.2f}×"),
    "computed_steps": ("computed", "{:.1f}"),
    "psnr_mouth_db": ("mouth dB", "{:.1f}"),
    "psnr_person_db": ("person dB", "{:.1f}"),
    "psnr_frame_db": ("frame dB", "{:.1f}"),
    "gain_db": ("over fewer steps", "{:+.1f} dB"),
    "opening_rms": ("opening RMS", "{:.1%}"),
    "opening_rms_truth": ("from truth", "{:.1%}"),
    "sync": ("sync", "{:.2f}"),
    "lag": ("lag", "{:+.1f}"),
    "megabytes": ("cache MiB", "{:.2f}"),
    "skipped_cost": ("skipped step", "{:.1%}"),
    "skipped_extra": ("beyond live", "{:+.1%}"),
    "of_ideal": ("of ideal", "{:.2f}"),
}


def summarise(rows: Sequence[dict[str, Any]], chosen: Sequence[Contender]) -> list[dict[str, Any]]:
    """One dictionary a contender: medians of ratios, means of everything else, intervals where they matter."""
    curve, slowest = _fewer_steps(rows, chosen), _slowest(rows, chosen)
    found = []
    for contender in chosen:
        own = [r for r in rows if r["contender"] == contender.label]
        entry: dict[str, Any] = {"contender": contender.label, "control": contender.control, "clips": len(own)}
        for name in ("speedup", "skipped_cost", "skipped_extra", "of_ideal", "ideal_speedup"):
            values = [r[name] for r in map(_with_extra, own) if r.get(name) is not None]
            entry[name] = float(np.median(values)) if values else None
            if values:
                entry[f"{name}_quartiles"] = [float(q) for q in np.quantile(values, [0.25, 0.75])]
        for name in (
            "computed_steps", "psnr_mouth_db", "psnr_person_db", "psnr_frame_db", "opening_rms", "opening_rms_truth",
            "sync", "lag", "bytes", "probe_bytes",
        ):  # fmt: skip
            values = [r[name] for r in own if r.get(name) is not None]
            entry[name] = float(np.mean(values)) if values else None
        entry["megabytes"] = None if not entry["bytes"] else entry["bytes"] / 2**20
        gains = [r["psnr_mouth_db"] - curve[r["clip"]](r["speedup"]) for r in own if r.get("speedup")] if curve else []
        if gains and entry["speedup"] >= slowest and not contender.full and contender.curve != "fewer-steps":
            entry["gain_db"], low, high = paired_bootstrap(gains)
            entry["gain_db_interval"] = [low, high]
        else:
            entry["gain_db"] = None
        found.append(entry)
    return found


def _with_extra(row: dict[str, Any]) -> dict[str, Any]:
    """The row, with what its skipped steps take beyond the parts that stay live, as a part of a computed step."""
    if row.get("identity_call") is None or row.get("skipped_cost") is None:
        return row
    return {**row, "skipped_extra": row["skipped_cost"] - row["identity_call"]}


def _fewer_steps(rows: Sequence[dict[str, Any]], chosen: Sequence[Contender]) -> dict[int, Any]:
    """By clip: mouth PSNR of fewer steps as a function of the speed-up, linear in its logarithm.

    Beyond the fast end its value there is held, which flatters fewer steps; beyond the slow end, where single clips of
    a contender may come to lie, it goes on as between the two slowest.
    """
    labels = {c.label for c in chosen if c.curve == "fewer-steps"}
    curves = {}
    for clip in {r["clip"] for r in rows}:
        points = sorted(
            (np.log(r["speedup"]), r["psnr_mouth_db"]) for r in rows if r["clip"] == clip and r["contender"] in labels
        )
        if points:
            x, y = zip(*points, strict=True)
            curves[clip] = partial(_continued, x, y)
    return curves


def _continued(x: Sequence[float], y: Sequence[float], speedup: float) -> float:
    at = float(np.log(speedup))
    if at >= x[0] or len(x) < 2:
        return float(np.interp(at, x, y))
    return y[0] + (at - x[0]) * (y[1] - y[0]) / (x[1] - x[0])


def _slowest(rows: Sequence[dict[str, Any]], chosen: Sequence[Contender]) -> float:
    """Median speed-up of the contender with most steps among those with fewer steps; slower ones aren't compared."""
    by_label = [[r["speedup"] for r in rows if r["contender"] == c.label] for c in chosen if c.curve == "fewer-steps"]
    return min((float(np.median(found)) for found in by_label if found), default=0.0)


def compared(rows: Sequence[dict[str, Any]], chosen: Sequence[Contender], base: str) -> list[dict[str, Any]]:
    """Each contender's mouth PSNR minus that of ``base``, paired by clip, with a 95 % bootstrap interval."""
    by = {(r["clip"], r["contender"]): r for r in rows}
    clips = sorted({r["clip"] for r in rows})
    found = []
    for contender in chosen:
        if contender.label in (REFERENCE, base):
            continue
        pairs = [(by[clip, contender.label], by[clip, base]) for clip in clips]
        mean, low, high = paired_bootstrap([a["psnr_mouth_db"] - b["psnr_mouth_db"] for a, b in pairs])
        more = float(np.mean([a["computed_steps"] - b["computed_steps"] for a, b in pairs]))
        found.append(
            {"contender": contender.label, "difference_db": mean, "low": low, "high": high, "more_computed": more}
        )
    return found


def table(summary: Sequence[dict[str, Any]]) -> str:
    """Markdown; controls are in italics, and a dash stands where a figure has no meaning."""
    lines = ["| contender | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---|" + "---:|" * len(COLUMNS))
    for entry in summary:
        cells = []
        for name, (_, form) in COLUMNS.items():
            value = entry.get(name)
            text = "–" if value is None else form.format(value)
            if name == "gain_db" and value is not None:
                low, high = entry["gain_db_interval"]
                text += f" [{low:+.1f}, {high:+.1f}]"
            cells.append(text)
        label = f"*{entry['contender']}*" if entry["control"] else entry["contender"]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_report(
    document: dict[str, Any], rows: Sequence[dict[str, Any]], chosen: Sequence[Contender], out: Path
) -> None:
    """Add the summary of ``rows`` to ``document``; write ``bench.md`` and ``bench.png``."""
    summary = document["summary"] = summarise(rows, chosen)
    hardware = document["hardware"]
    text = [
        f"`{document['command']}`: {len({r['clip'] for r in rows})} held-out clips of {document['frames']} frames, "
        f"{hardware['processor']}, "
        f"{hardware['cores']} cores, torch {hardware['torch']}, {document['started'][:10]}.",
        "",
        "Speed-up, cost of a skipped step (as a part of a computed one), what of it goes beyond the parts that stay "
        "live, and share of the ideal speed-up are medians over clips, the rest are means. PSNR is against the "
        "uncached run of the same seed. *Italics*: controls.",
        "",
        table(summary),
    ]
    if document["spread"]:
        how = ", on one core beside the others' load" if document["beside_others"] else ""
        text[2] += f" Seconds were taken on the first clip{how}; other clips differ by their numbers of computed steps."
    if document["suite"] == "ablations":
        document["compared"] = compared(rows, chosen, "synccache")
        text += ["", "| against `synccache` | mouth PSNR difference | 95 % interval | computed steps more |"]
        text += ["|---|---:|---|---:|"]
        text += [
            f"| {c['contender']} | {c['difference_db']:+.2f} dB | {c['low']:+.2f} to {c['high']:+.2f}"
            + (" (not resolved)" if c["low"] <= 0 <= c["high"] else "") + f" | {c['more_computed']:+.1f} |"
            for c in document["compared"]
        ]  # fmt: skip
    with whole_file(out / "bench.md") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    _plot(summary, chosen, out / "bench.png")


def _plot(summary: Sequence[dict[str, Any]], chosen: Sequence[Contender], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = tuple(dict.fromkeys(c.curve for c in chosen if c.curve))
    crowded = len(curves) > 12
    figure = Figure(figsize=(11, 7) if crowded else (8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    by_label = {s["contender"]: s for s in summary}
    for index, curve in enumerate(curves):
        points = sorted(
            (by_label[c.label]["speedup"], by_label[c.label]["psnr_mouth_db"])
            for c in chosen
            if c.curve == curve and by_label[c.label]["speedup"]
        )
        style: Any = {"color": f"C{index % 10}", "marker": "os^Dv"[index // 10 % 5]}
        if curve.startswith("fewer-steps"):
            style = {"color": "black", "linestyle": "--", "marker": "x" if curve == "fewer-steps" else "+"}
        axes.plot([p[0] for p in points], [p[1] for p in points], label=curve, **style)
    controls = [c.label for c in chosen if c.control and not c.curve]
    if controls:
        levels = [by_label[label]["psnr_mouth_db"] for label in controls]
        axes.axhspan(min(levels), max(levels), color="0.85")
        across: Any = ("axes fraction", "data")
        style = {"color": "0.4", "fontsize": 7}
        axes.annotate(", ".join(controls), (0, max(levels)), (4, 3), across, "offset points", **style)
    axes.set(xlabel="speed-up by wall-clock", ylabel="mouth PSNR against uncached, dB")
    beside: Any = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if crowded else {}
    axes.legend(fontsize=8, **beside)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
