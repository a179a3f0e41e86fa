"""What is said, and written, when a script has ended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from ..documents import write_document
from ..errors import MissingPackage, SynccacheError
from .options import Options
from .watch import Attached, Watch

SCHEMA, VERSION = "synccache.run", 1


class Report:
    """The end of ``synccache run``: a paragraph for each model, and files in ``options.report``."""

    def __init__(self, options: Options, watch: Watch, say: Callable[[str], None]) -> None:
        self.folder, self.watch, self.say = options.report, watch, say
        self.rank, self.ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def finish(self) -> bool:
        """Say what came of it, and write it; whether a method was attached to anything."""
        self.watch.stop()
        for attached in self.watch.attached:
            attached.timing.finish()
            self.say(paragraph(attached))
        if not self.watch.attached and not self.watch.refused:
            self.say(nothing(self.watch.unknown))
        try:
            self._write()
        except (OSError, SynccacheError) as error:
            self.say(f"the report could not be written: {error}")
        return bool(self.watch.attached)

    def _write(self) -> None:
        if self.folder is None:
            return
        own = f".rank{self.rank}" if self.ranks > 1 else ""
        rows = [{"model": i, **row} for i, a in enumerate(self.watch.attached) for row in a.trace.to_json()]
        (self.folder / f"trace{own}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        if self.rank:
            return
        models = [summary(attached) for attached in self.watch.attached]
        content = {"models": models, "unknown": self.watch.unknown, "refused": self.watch.refused, "ranks": self.ranks}
        write_document(self.folder / "report.json", SCHEMA, VERSION, content)
        for number, attached in enumerate(self.watch.attached):
            if attached.trace.records:
                try:
                    attached.trace.plot(self.folder / f"steps{number or ''}.png")
                except MissingPackage as missing:
                    self.say(f"no plot: {missing}")
        self.say(f"report: {self.folder}")


def summary(attached: Attached) -> dict[str, Any]:
    """Plain values: steps of each run, seconds in the transformer, and what they would be without the cache."""
    trace, timing = attached.trace, attached.timing
    runs = [{"steps": len(trace.steps(n)), "computed": trace.computed(n)} for n in range(len(trace.runs))]
    return {
        "method": attached.method,
        "models": list(attached.models),
        "speed": attached.speed,
        "runs": runs,
        "seconds": timing.seconds,
        "estimated_seconds_without": timing.uncached,
        "peak_bytes": trace.bytes_peak,
        "reasons": [dict(trace.reasons(n)) for n in range(len(trace.runs))],
    }


def paragraph(attached: Attached) -> str:
    """What a method did to a model, in a sentence or three."""
    found = summary(attached)
    asked = "" if attached.speed is None else f", asked for {attached.speed:g} times the speed"
    head = f"{attached.method} on {', '.join(dict.fromkeys(attached.models))}{asked}: "
    runs = found["runs"]
    if not runs:
        return f"{head}no call was part of a run."
    computed, steps = sum(r["computed"] for r in runs), sum(r["steps"] for r in runs)
    many = f" in {len(runs)} runs" if len(runs) > 1 else ""
    text = f"{head}{computed} of {steps} steps computed{many}"
    text += f"; {_lasting(found['seconds'])} in the transformer" if found["seconds"] else ""
    without = found["estimated_seconds_without"]
    if without is not None and found["seconds"] > 0 and computed < steps:
        text += f", without the cache about {_lasting(without)} (estimated from the computed steps), so"
        text += f" {without / found['seconds']:.1f} times faster"
    return f"{text}; at most {found['peak_bytes'] / 2**20:,.1f} MiB kept."


def nothing(unknown: list[str]) -> str:
    """What is said where nothing was attached to."""
    if not unknown:
        return "nothing was attached: no video transformer was called in this process. See 'synccache run --help'."
    names = ", ".join(unknown)
    return (
        f"nothing was attached: {names} looks like a diffusion transformer, but is not known. With --include "
        f"{unknown[0]} its blocks are found by structure; what it injects inside its blocks is then as old as they are."
    )


def _lasting(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
