"""Structural doubles of ComfyUI's patcher, guider and base model, as small as the facts allow.

Facts: ``comfy/patcher_extension.py``, ``model_patcher.py``, ``samplers.py``, ``model_base.py``.
Wrappers nest in the order of their keys; a guider merges the patcher's wrappers into a copy of its options; the model
is called with new tensors every time, the timestep being sigma times 1000; conditionings that fit into memory share a
batch, the last one first, and are named by uuids; all of it under ``inference_mode``.
"""

from __future__ import annotations

import copy
import uuid
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn


class WrappersMP:
    OUTER_SAMPLE = "outer_sample"
    APPLY_MODEL = "apply_model"
    DIFFUSION_MODEL = "diffusion_model"


class Executor:
    """Calls the wrappers, outermost first, then the original."""

    def __init__(self, original, class_obj, wrappers) -> None:
        self.original, self.class_obj, self.wrappers = original, class_obj, wrappers

    def __call__(self, *args, **kwargs):
        return Executor(self.original, self.class_obj, self.wrappers[1:]).execute(*args, **kwargs)

    def execute(self, *args, **kwargs):
        return self.wrappers[0](self, *args, **kwargs) if self.wrappers else self.original(*args, **kwargs)


def wrapped(kind: str, original, class_obj, transformer_options: dict) -> Executor:
    by_key = transformer_options.get("wrappers", {}).get(kind, {})
    return Executor(original, class_obj, [w for key in by_key for w in by_key[key]])


class Patcher:
    """A model with patches; clones share the model."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.wrappers, self.object_patches = model, {}, {}
        self.model_options: dict = {"transformer_options": {}}

    def clone(self) -> Patcher:
        other = Patcher(self.model)
        other.model_options = copy.deepcopy(self.model_options)
        other.object_patches = dict(self.object_patches)
        other.wrappers = {k: {key: list(w) for key, w in keys.items()} for k, keys in self.wrappers.items()}
        return other

    def add_wrapper_with_key(self, kind: str, key: str, wrapper) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, kind: str, key: str) -> None:
        self.wrappers.get(kind, {}).pop(key, None)

    def get_model_object(self, name: str):
        return self.object_patches[name] if name in self.object_patches else self.model.get_submodule(name)


class BaseModel(nn.Module):
    def __init__(self, diffusion_model: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = diffusion_model

    def apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        run = wrapped(WrappersMP.APPLY_MODEL, self._apply_model, self, transformer_options)
        return run.execute(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    def _apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        velocity = self.diffusion_model(
            x.to(torch.float32), (t * 1000).float(), context=c_crossattn, control=control,
            transformer_options=transformer_options, **kwargs,
        )  # fmt: skip
        return x - velocity.float() * t.view(-1, 1, 1, 1, 1)


class Handler:
    """Context windows over dimension 2, the latent frames, without overlap."""

    def __init__(self, name: str, length: int) -> None:
        self.context_schedule, self.context_length, self.dim = SimpleNamespace(name=name), length, 2

    def windows(self, frames: int, step: int) -> list[list[int]]:
        shift = 0 if self.context_schedule.name in ("standard_static", "batched") else step % frames
        order = [(i + shift) % frames for i in range(frames)]
        return [order[i : i + self.context_length] for i in range(0, frames, self.context_length)]


class Guider:
    """Classifier-free guidance with Euler steps.

    Args:
        batched: whether a step's conditionings share a batch; a function of the step's index.
        skip_layer: a block to leave out in a third pass of the positive conditioning, at a strength of 0.
    """

    def __init__(self, patcher: Patcher, positive: dict, negative: dict, batched=False, skip_layer=None, on_step=None):
        self.model_patcher, self.model_options = patcher, patcher.model_options
        self.conds = [{**cond, "uuid": uuid.uuid4()} for cond in (positive, negative)]
        self.batched = batched if callable(batched) else lambda step: batched
        self.skip_layer, self.on_step = skip_layer, on_step

    def sample(self, noise: Tensor, sigmas: Tensor) -> Tensor:
        before = self.model_options
        options = self.model_options = copy.copy(before)
        options["transformer_options"] = dict(before["transformer_options"])
        options["transformer_options"]["wrappers"] = self.model_patcher.clone().wrappers
        try:
            with torch.inference_mode():
                run = wrapped(WrappersMP.OUTER_SAMPLE, self.outer_sample, self, options["transformer_options"])
                return run.execute(noise, torch.zeros_like(noise), "euler", sigmas, None, None, False, 0)
        finally:
            self.model_options = before

    def outer_sample(self, noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed):
        model, x = self.model_patcher.model, noise
        originals = {name: model.get_submodule(name) for name in self.model_patcher.object_patches}
        for name, patch in self.model_patcher.object_patches.items():
            model.set_submodule(name, patch)
        try:
            for step, (sigma, following) in enumerate(pairwise(sigmas)):
                denoised = self.predict(step, x, sigma.expand(x.shape[0]))
                x = x + (x - denoised) / sigma * (following - sigma)
                if self.on_step is not None:
                    self.on_step(step)
            return x
        finally:
            for name, original in originals.items():
                model.set_submodule(name, original)

    def predict(self, step: int, x: Tensor, sigma: Tensor) -> Tensor:
        handler = self.model_options.get("context_handler")
        out, frames = torch.zeros_like(x), x.shape[2]
        windows = handler.windows(frames, step) if handler and frames > handler.context_length else [None]
        for window in windows:
            part, extra = (x, {}) if window is None else (x[:, :, window], {"context_window": _Window(window)})
            cond, uncond = self.calc_cond_batch(step, self.conds, part, sigma, extra)
            if self.skip_layer is not None:
                skip = {"dit": {("double_block", self.skip_layer): lambda args, _: args}}
                (weak,) = self.calc_cond_batch(step, self.conds[:1], part, sigma, {**extra, "patches_replace": skip})
                cond = cond + 0 * weak
            out[:, :, slice(None) if window is None else window] = uncond + 2.0 * (cond - uncond)
        return out

    def calc_cond_batch(self, step: int, conds: list[dict], x: Tensor, sigma: Tensor, extra: dict) -> list[Tensor]:
        out, left = {}, list(reversed(range(len(conds))))
        while left:
            group = left if self.batched(step) else left[:1]
            left = left[len(group) :]
            merged = {k: torch.cat([conds[i][k] for i in group]) for k in conds[0] if k != "uuid"}
            options = {
                **self.model_options["transformer_options"], **extra, "cond_or_uncond": list(group),
                "uuids": [conds[i]["uuid"] for i in group], "sigmas": sigma,
            }  # fmt: skip
            merged["c_crossattn"] = merged.pop("context")
            result = self.model_patcher.model.apply_model(
                torch.cat([x] * len(group)), torch.cat([sigma] * len(group)), transformer_options=options, **merged
            )
            out.update(zip(group, result.chunk(len(group)), strict=True))
        return [out[i] for i in range(len(conds))]


class _Window:
    def __init__(self, index_list: list[int]) -> None:
        self.index_list = index_list
