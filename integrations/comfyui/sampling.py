"""Wrappers that hook a model while it is sampled, and only then.

ComfyUI shares one diffusion model among all patchers cloned from a checkpoint, so nothing may stay on it between runs.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import synccache

from .surroundings import moving_windows, refuse_late_compile, refuse_other_caches

KEY = "synccache"
log = logging.getLogger("synccache")


class Sampling:
    """One method with its settings, put on the model anew for every sampling run.

    Args:
        method: a name from ``synccache.methods()``.
        settings: as ``synccache.apply`` takes them.
        verbose: log every step.
        node_id: the node under which the interface shows what was skipped.

    Attributes:
        trace: of the run in progress or the latest one; None before the first.
    """

    def __init__(
        self, method: str, settings: Mapping[str, Any], verbose: bool = False, node_id: str | None = None
    ) -> None:
        self.method, self.settings, self.verbose, self.node_id = method, dict(settings), verbose, node_id
        self.trace: synccache.Trace | None = None
        self._steps: int | None = None  # of the run in progress
        self._handle: synccache.Handle | None = None

    def add_to(self, patcher: Any) -> None:
        """Put the wrappers on a model patcher, in place of those of an earlier SyncCache node.

        The method is attached once and taken off at once, so that what can't work is said before anything is loaded.
        """
        from comfy.patcher_extension import WrappersMP

        refuse_other_caches(patcher.model_options, patcher.wrappers)
        self._attach(patcher.get_model_object("diffusion_model"), None).remove()
        wrappers = {WrappersMP.OUTER_SAMPLE: self.outer_sample, WrappersMP.APPLY_MODEL: self.apply_model}
        for kind, wrapper in wrappers.items():
            patcher.remove_wrappers_with_key(kind, KEY)
            patcher.add_wrapper_with_key(kind, KEY, wrapper)

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Around a whole sampling run: ``args`` are noise [B, C, T, H, W], latent, sampler, sigmas [steps + 1], ..."""
        options, noise, sigmas = executor.class_obj.model_options, args[0], args[3]
        refuse_other_caches(options, options["transformer_options"].get("wrappers", {}))
        moving = moving_windows(options, noise)
        if moving:
            log.warning(
                "SyncCache is idle: the context windows (%s) move from step to step, so nothing stored fits. Choose a "
                "static schedule.",
                moving,
            )
            return executor(*args, **kwargs)
        self._steps = len(sigmas) - 1
        try:
            return executor(*args, **kwargs)
        finally:
            handle, self._handle, self._steps = self._handle, None, None
            if handle is not None:
                handle.remove()
                self._report(handle)

    def apply_model(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Around each call of the model; the first one of a run attaches, when all other patches are in place.

        All calls until then belong to one run: a sampler may add as much noise on the way as it likes.
        """
        if self._steps is None:
            return executor(*args, **kwargs)
        options = kwargs["transformer_options"] if "transformer_options" in kwargs else args[5]
        if self._handle is None:
            refuse_late_compile(options.get("wrappers", {}), KEY)
            self._handle = self._attach(executor.class_obj.diffusion_model, self._steps)
            self.trace = self._handle.trace
        with self._handle.at(run=KEY, branch=branch_of(options), window=window_of(options)):
            return executor(*args, **kwargs)

    def _attach(self, model: Any, steps: int | None) -> synccache.Handle:
        handle = synccache.apply(model, self.method, steps=steps, **self.settings)
        handle.on_step = self._log_step if self.verbose else None
        return handle

    def _log_step(self, record: Any) -> None:
        error = "" if record.error is None else f", error {record.error:.4f}, sum {record.total or 0.0:.4f}"
        log.info("SyncCache step %d: %s (%s)%s", record.step, record.decision, record.reason, error)

    def _report(self, handle: synccache.Handle) -> None:
        trace = handle.trace
        runs = range(len(trace.runs))
        skipped, total = sum(map(trace.skipped, runs)), sum(len(trace.steps(run)) for run in runs)
        text = f"{skipped} of {total} steps skipped, {trace.bytes_peak / 2**20:.0f} MiB kept"
        log.info("SyncCache (%s): %s\n%s", self.method, text, trace.summary())
        _show(text, self.node_id)


def branch_of(options: Mapping[str, Any]) -> Hashable:
    """Name of a call's branch where its conditionings' uuids, which the engine reads itself, don't tell it apart.

    A pass with replaced blocks or attention (skip-layer or perturbed-attention guidance) is another model under the
    same uuids.
    """
    replaced = options.get("patches_replace") or {}
    patches = tuple(sorted(f"{kind} {key}" for kind, keys in replaced.items() for key in keys))
    return (*map(str, options.get("uuids") or ()), patches) if patches else None


def window_of(options: Mapping[str, Any]) -> Hashable:
    """The frames of the context window that a call is about; None where it is about the whole video."""
    return tuple(getattr(options.get("context_window"), "index_list", ())) or None


def _show(text: str, node_id: str | None) -> None:
    """Write ``text`` under the node, where there is a server with an interface."""
    try:
        from server import PromptServer
    except ImportError:
        return
    server = getattr(PromptServer, "instance", None)
    if node_id is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node_id)
