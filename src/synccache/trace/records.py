"""The trace: what was decided, call by call, with errors, bytes and seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """One call of the transformer.

    Attributes:
        run, step, evaluation: counted from 0.
        branch: name or number of the guidance branch; ``decides`` is True for the one whose decision the others follow.
        expert: 1 for a pipeline's ``transformer_2``.
        request, window: as told by ``handle.request`` or ``handle.at``.
        timestep: as the transformer was called with.
        decision: ``"computed"`` or ``"skipped"``.
        reason: why.
        error, total: the probe's error, and the running sum that it was added to; None where nothing was probed.
        seconds: wall-clock time of the call as Python saw it (on a GPU, work may still be under way).
        share: which part of the blocks' tokens was computed, of 1: each block counts its own.
        bytes: held in anchors after the call; ``probe_bytes``: held for the probe.
    """

    run: int
    step: int
    evaluation: int
    branch: Hashable
    decides: bool
    expert: int
    request: Hashable
    timestep: float
    decision: str
    reason: str
    error: float | None
    total: float | None
    seconds: float
    bytes: int
    probe_bytes: int
    window: Hashable = None
    share: float = 1.0


class Trace:
    """All records since the cache was attached or ``reset``, oldest first.

    Example:
        >>> with synccache.cached(pipe, "synccache", threshold=0.1) as handle:
        ...     pipe(image=portrait, audio=speech)
        >>> print(handle.trace.summary())
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Any:
        return iter(self.records)

    @property
    def runs(self) -> list[tuple[Hashable, int]]:
        """(request, run) of each run, in order of first appearance."""
        return list(dict.fromkeys((r.request, r.run) for r in self.records))

    def of_run(self, run: int = -1) -> list[Record]:
        """Records of the run number ``run`` in ``runs``; by default of the latest."""
        if not self.records:
            return []
        key = self.runs[run]
        return [r for r in self.records if (r.request, r.run) == key]

    def steps(self, run: int = -1) -> list[Record]:
        """One record per step (and evaluation) of a run: the deciding branch's, the first where each decides."""
        found: dict[tuple[int, int], Record] = {}
        for record in self.of_run(run):
            if record.decides:
                found.setdefault((record.step, record.evaluation), record)
        return list(found.values())

    def decisions(self, run: int = -1) -> list[str]:
        return [r.decision for r in self.steps(run)]

    def computed(self, run: int = -1) -> int:
        """Number of computed steps of a run."""
        return self.decisions(run).count("computed")

    def skipped(self, run: int = -1) -> int:
        """Number of skipped steps of a run."""
        return self.decisions(run).count("skipped")

    def cost(self, run: int = -1) -> float:
        """Which part of a run was computed, in tokens of blocks, over all its calls."""
        shares = [r.share for r in self.of_run(run)]
        return sum(shares) / len(shares) if shares else 0.0

    def errors(self, run: int = -1) -> list[float | None]:
        return [r.error for r in self.steps(run)]

    def reasons(self, run: int = -1) -> Counter[str]:
        """Why steps of a run were computed, with how many were for each reason."""
        return Counter(r.reason for r in self.steps(run) if r.decision == "computed")

    @property
    def bytes_peak(self) -> int:
        """Most bytes that anchors held after any call."""
        return max((r.bytes for r in self.records), default=0)

    @property
    def probe_bytes_peak(self) -> int:
        return max((r.probe_bytes for r in self.records), default=0)

    def clear(self) -> None:
        self.records.clear()

    def to_json(self) -> list[dict[str, Any]]:
        """One plain dictionary per call, ready for ``json.dump``."""
        plain = (str, int, float, bool, type(None))
        rows = [asdict(r) for r in self.records]
        return [{k: v if isinstance(v, plain) else str(v) for k, v in row.items()} for row in rows]

    def summary(self) -> str:
        """A table of the runs, and the latest one's steps, ``#`` computed, ``.`` skipped, with the reasons."""
        if not self.records:
            return (
                "No step was traced: nothing was called yet, or autograd was recording, which leaves every step "
                "computed (call the model under torch.no_grad())."
            )
        lines = ["run  steps  computed  skipped   s/computed   s/skipped  cached MiB  probe MiB"]
        for number in range(len(self.runs)):
            steps, calls = self.steps(number), self.of_run(number)
            full = [r.seconds for r in calls if r.decision == "computed"]
            short = [r.seconds for r in calls if r.decision == "skipped"]
            peak, probe = max(r.bytes for r in calls) / 2**20, max(r.probe_bytes for r in calls) / 2**20
            lines.append(
                f"{number:3d}  {len(steps):5d}  {self.computed(number):8d}  {self.skipped(number):7d}"
                f"  {_mean(full):>11}  {_mean(short):>10}  {peak:10.2f}  {probe:9.2f}"
            )
        bar = "".join("#" if d == "computed" else "." for d in self.decisions())
        why = ", ".join(f"{reason} {count}" for reason, count in self.reasons().most_common())
        bar += f"   (# computed, . skipped; {self.cost():.1%} of the blocks' tokens computed)"
        return "\n".join([*lines, f"latest run: {bar}", f"reasons: {why or 'none'}"])

    def plot(self, path: str | Path, run: int = -1) -> Path:
        """Draw decisions, errors and bytes of a run over its steps, into a picture file."""
        from .plot import draw_trace

        return draw_trace(self, Path(path), run)


def _mean(seconds: list[float]) -> str:
    return f"{sum(seconds) / len(seconds):.4f}" if seconds else "-"
