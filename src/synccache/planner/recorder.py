"""What a recipe is handed to learn from: a model, a call that runs it, and ways to watch that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import anatomies
from ..api import transformers_of
from ..core.anatomy import Anatomy
from ..core.method import Method
from ..core.types import Scope
from ..handle import Handle
from ..methods.recording import Recording
from ..profiles import Plan, weights_of
from .attention import background
from .instability import measured
from .record import recorded
from .uncached import Watch, uncached


class ModelRecorder:
    """Runs one model uncached, as often as it is asked to (``methods.recipe.Recorder``).

    Args:
        target: as for ``apply``; nothing is left attached. Of two experts the first is learnt about.
        call: runs the pipeline once.
        anatomy, mask, steps, group: as for ``apply``.

    Attributes:
        anatomy: what is known of the model; its injection sites too, once it has run.
        weights: digest of the weights before the first run.
        timesteps: of the latest run.
    """

    def __init__(
        self,
        target: Any,
        call: Callable[[], Any],
        *,
        anatomy: Anatomy | None = None,
        mask: Any = None,
        steps: int | None = None,
        group: Any = None,
    ) -> None:
        self.target, self.call = target, call
        self.model = transformers_of(target)[0]
        self.anatomy = anatomy or anatomies.find(self.model)
        self.weights = weights_of(self.anatomy.blocks)
        self.timesteps: tuple[float, ...] = ()
        self._given = {"mask": mask, "steps": steps, "group": group}

    def run(self, method: Method, watch: Watch, **given: Any) -> Handle:
        """One run with ``method`` attached, which skips nothing."""
        handle = uncached(self.target, self.call, method, watch, anatomy=self.anatomy, **self._given, **given)
        self.anatomy = handle.anatomy
        self.timesteps = tuple(r.timestep for r in handle.trace.steps(0) if r.evaluation == 0)
        return handle

    def record(self, scope: Scope, samples: int = 1024) -> Recording:
        """Samples of what the scope's regions would store and of what the model returns; see ``recorded``."""
        return recorded(self._in_float32, scope, samples)

    def plan(self, mask_weight: float = 2.0) -> Plan:
        """The plan of one run: how unstable each run of segments is, and a probe's errors."""
        return measured(self.run, mask_weight)

    def segments(self, mask_weight: float) -> Mapping[str, Tensor]:
        """The plan's tensors."""
        return self.plan(mask_weight).tensors()

    def background(self, share: float) -> Mapping[str, Tensor]:
        """The blocks that look at the background most, and all blocks' scores; see ``attention.background``."""
        return background(self.run, self.model, self.anatomy, self._given["mask"], share)

    def _in_float32(self, method: Method, watch: Watch) -> Handle:
        return self.run(method, watch, storage_dtype=torch.float32)


def record(
    target: Any, call: Callable[[], Any], *, scope: Scope, samples: int = 1024, anatomy: Anatomy | None = None,
    mask: Any = None, steps: int | None = None, group: Any = None,
) -> Recording:  # fmt: skip
    """Record one run of a model, without skipping anything.

    Args:
        target: as for ``apply``; a cache of ours that is attached is replaced, and nothing is left attached.
        call: runs the pipeline once; of several runs (clips) the first is recorded.
        scope: what to record: each region's stored value.
        samples: at most so many video tokens of a region, and 64 times as many places of the output.
        anatomy, mask, steps, group: as for ``apply``.

    Raises:
        InputError: ``call`` made no step of the model, or only one; or no region was there on all steps.

    Example:
        >>> recording = record(pipe, lambda: pipe(image=portrait, audio=speech), scope=scopes.Segments())
        >>> recording.features["blocks 1-4"].shape  # [steps, tokens, channels]
    """
    return ModelRecorder(target, call, anatomy=anatomy, mask=mask, steps=steps, group=group).record(scope, samples)


def plan_of(
    target: Any, call: Callable[[], Any], *, mask: Any = None, mask_weight: float = 2.0, anatomy: Anatomy | None = None,
    steps: int | None = None, group: Any = None,
) -> Plan:  # fmt: skip
    """Watch the segments of one run of a model, without skipping anything.

    Args:
        target, call, anatomy, steps, group: as for ``record``.
        mask, mask_weight: as for ``synccache``, for the probe's errors.

    Raises:
        InputError: ``call`` made no step of the model, or only one.
    """
    return ModelRecorder(target, call, anatomy=anatomy, mask=mask, steps=steps, group=group).plan(mask_weight)
