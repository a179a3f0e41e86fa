"""The node: MODEL in, MODEL out."""

from __future__ import annotations

from typing import Any

import synccache
from synccache.errors import InputError

from .sampling import Sampling


def offered() -> list[str]:
    """Names of the methods that this node's inputs suffice for and that fit how ComfyUI samples.

    Left out are methods that need a list of steps or the scheduler, and those that derive the negative pass from the
    positive one: ComfyUI runs the negative one first, or both in one batch.
    """
    names = []
    for name, recipe in synccache.methods().items():
        try:
            method = recipe.build(recipe.settings)
        except InputError:
            continue
        if method.guidance is None and method.shorten is None:
            names.append(name)
    return names


class SyncCache:
    """Applies a caching method to a model for as long as it is sampled.

    The model that comes in stays as it is; the one that goes out is a clone that carries the wrappers of ``Sampling``.
    """

    DESCRIPTION = "Computes only the steps that change something. Audio and other injected conditioning stays live."
    CATEGORY = "advanced/model"
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        share = {"default": 0.4, "min": 0.01, "max": 1.0, "step": 0.01}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The loaded model, after LoRA and compile nodes."}),
                "method": (offered(), {"default": "synccache"}),
                "threshold": (
                    "FLOAT",
                    {
                        "default": 0.1, "min": 0.0, "max": 10.0, "step": 0.005,
                        "tooltip": "Error that may add up before a step is computed: higher is faster and less exact. "
                        "Methods that don't measure leave it unused.",
                    },
                ),
                "computed_steps": (
                    "INT",
                    {
                        "default": 0, "min": 0, "max": 1000,
                        "tooltip": "How many steps to compute, in place of the threshold; 0: by threshold.",
                    },
                ),
                "cache_ratio": (
                    "FLOAT",
                    {**share, "tooltip": "Share of the audio sites whose residuals are kept: memory against quality."},
                ),
                "warmup": (
                    "FLOAT",
                    {
                        "default": 0.1, "min": 0.0, "max": 100.0, "step": 0.05,
                        "tooltip": "First steps that are always computed: a share of the run below 1, else a number.",
                    },
                ),
                "verbose": ("BOOLEAN", {"default": False, "tooltip": "Log every step's decision."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White where the person is: what changes there counts twice."}),
                "speed": (
                    "FLOAT",
                    {
                        "default": 0.0, "min": 0.0, "max": 16.0, "step": 0.1,
                        "tooltip": "How many times faster sampling is to be, in place of threshold and computed_steps; "
                        "0: by those.",
                    },
                ),
            },
            "hidden": {"node_id": "UNIQUE_ID"},
        }  # fmt: skip

    def apply(
        self,
        model: Any,
        method: str,
        threshold: float,
        computed_steps: int,
        cache_ratio: float,
        warmup: float,
        verbose: bool = False,
        mask: Any = None,
        speed: float = 0.0,
        node_id: str | None = None,
    ) -> tuple[Any]:
        """A clone of the model patcher, with the method on it.

        Args:
            mask: [B, H, W] in 0..1, one picture or one per frame.

        Raises:
            InputError: settings that can't be used.
            UnsupportedModel: the model's anatomy can't be told.
            Conflict: another cache is on the model.
        """
        known = synccache.methods()[method].settings
        if speed and computed_steps:
            raise InputError("Give speed or computed_steps, not both: set the other one to 0.")
        if computed_steps and "computed_steps" not in known:
            raise InputError(
                f"The method {method!r} has no computed_steps, and {computed_steps} were asked for. Set it to 0, or "
                "choose a method that measures, such as 'synccache'."
            )
        budget = {"computed_steps": computed_steps} if computed_steps else {"threshold": threshold}
        given = {**({} if speed else budget), "cache_ratio": cache_ratio, "warmup": warmup}
        settings = {name: value for name, value in given.items() if name in known}
        settings |= {"speed": speed} if speed else {}
        sampling = Sampling(method, {**settings, "mask": mask}, verbose=verbose, node_id=node_id)
        clone = model.clone()
        sampling.add_to(clone)
        return (clone,)


NODE_CLASS_MAPPINGS = {"SyncCache": SyncCache}
NODE_DISPLAY_NAME_MAPPINGS = {"SyncCache": "SyncCache"}
