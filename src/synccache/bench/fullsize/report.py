"""Rows to one JSON file and one Markdown table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...files import whole_file

BAR = {"cuda": 0.95, "cpu": 0.9}  # of the ideal speed-up


def table(document: dict[str, Any]) -> str:
    """Markdown, one row a model and contender; milliseconds a call, medians; brackets: lowest and highest run."""
    lines = [
        "| model | contender | computed | untouched ms | computed ms | skipped ms | idle ms | extra | speed-up "
        "| ideal | of ideal | cache MiB | peak GiB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for about in document["models"]:
        own = [r for r in document["rows"] if r["model"] == about["model"]]
        if about["peak_bytes"] is not None:
            lines.append(f"| {about['model']} | untouched |{' – |' * 10} {_gib(about['peak_bytes'])} |")
        for row in own:
            lines.append(f"| {row['model']} | {row['contender']} | {_cells(row, document['steps'])} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any], steps: int) -> str:
    if "note" in row:
        return " | ".join([row["note"], *["–"] * 10])
    calls = [row[f"{kind}_seconds"] for kind in ("untouched", "computed", "skipped", "identity")]
    low, high = row["of_ideal_range"]
    return " | ".join([
        f"{row['computed']} of {steps}",
        *("–" if c is None else f"{1000 * c:.1f}" for c in calls),
        "–" if calls[2] is None else f"{row['extra']:.1%}",
        f"{row['speedup']:.2f}×", f"{row['ideal']:.2f}×", f"{row['of_ideal']:.2f} [{low:.2f}, {high:.2f}]",
        "–" if row["cache_bytes"] is None else f"{row['cache_bytes'] / 2**20:.2f}", _gib(row["peak_bytes"]),
    ])  # fmt: skip


def _gib(count: int | None) -> str:
    return "–" if count is None else f"{count / 2**30:.2f}"


def text(document: dict[str, Any]) -> str:
    """What was measured and on what, the table, and which of our rows are under the bar."""
    hardware, bar = document["hardware"], BAR[document["device"]]
    where = hardware["gpu"] or f"{hardware['processor']}, {hardware['threads']} of {hardware['cores']} cores"
    under = [
        f"{r['model']}, {r['contender']}: {r['of_ideal']:.2f}"
        for r in document["rows"]
        if r.get("cache_bytes") is not None and r["of_ideal"] < bar
    ]
    said = (
        f"Under the bar of {bar:g} of the ideal: {'; '.join(under)}." if under else f"All reach {bar:g} of the ideal."
    )
    return "\n".join([
        f"{where}, torch {hardware['torch']}, {document['started'][:10]}. Scale {document['scale']}, "
        f"{document['dtype']}, {document['steps']} steps of one branch, {document['clock']} time, medians of "
        f"{document['repeats']} runs, random weights: speed and memory only.",
        "",
        table(document),
        "",
        said,
    ])  # fmt: skip


def write(document: dict[str, Any], out: Path) -> None:
    """``fullsize.json`` and ``fullsize.md`` in the folder ``out``, which is made if missing."""
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "fullsize.json") as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    with whole_file(out / "fullsize.md") as temporary:
        temporary.write_text(text(document) + "\n", encoding="utf-8")
