"""The stage model as a diffusers pipeline: a caption, sounds, pictures, clips in; a clip out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from ..defaults import STAGE_STEPS
from ..errors import InputError
from ..portrait.hearing import FEATURES, TOKENS, features
from . import GUIDANCE_SCALE
from .layout import PAIR, PATCH
from .scenes import STREAMS
from .text import StageTextEncoder
from .transformer import StageTransformer
from .words import tokens_of

STEPS = STAGE_STEPS


@dataclass
class StageOutput(BaseOutput):
    """``frames``: one clip a prompt, as ``output_type`` says."""

    frames: Any


class StagePipeline(DiffusionPipeline):
    """The built-in scene model: rectified flow over pixels, UniPC, guidance on text and sound together.

    ``StagePipeline.packaged()`` is the model that the package ships; ``save_pretrained`` and ``from_pretrained`` work
    as for every pipeline. Guidance takes two calls a step, the conditional one first.

    Example:
        >>> pipe = StagePipeline.packaged()
        >>> frames = pipe("a red cat in the park, the red one speaks", audio=[speech]).frames[0]
    """

    model_cpu_offload_seq = "text_encoder->transformer"  # type: ignore[assignment]
    transformer: StageTransformer
    text_encoder: StageTextEncoder
    scheduler: Any

    def __init__(
        self, transformer: StageTransformer, text_encoder: StageTextEncoder, scheduler: UniPCMultistepScheduler
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, text_encoder=text_encoder, scheduler=scheduler)

    @classmethod
    def of(
        cls, transformer: StageTransformer, text_encoder: StageTextEncoder, flow_shift: float = 3.0
    ) -> StagePipeline:
        """A pipeline of these models with the usual solver, UniPC on a flow schedule."""
        scheduler = UniPCMultistepScheduler(
            num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift
        )
        return cls(transformer.eval(), text_encoder.eval(), scheduler)

    @classmethod
    def packaged(cls) -> StagePipeline:
        """The shipped model, float32.

        Raises:
            InputError: the package has no weights of it.
        """
        from .files import load

        with as_file(files("synccache.stage") / "assets") as folder:
            return cls.of(*load(folder))

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        audio: Tensor | Sequence[np.ndarray] | None = None,
        *,
        first: Tensor | None = None,
        reference: Tensor | None = None,
        source: Tensor | None = None,
        start: Tensor | None = None,
        height: int = 32,
        width: int = 32,
        num_frames: int = 8,
        num_inference_steps: int = STEPS,
        guidance_scale: float = GUIDANCE_SCALE,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        causal: bool = False,
        output_type: str = "np",
        callback_on_step_end: Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]] | None = None,
        return_dict: bool = True,
    ) -> StageOutput | tuple[Any]:
        """Generate one clip for each of B prompts.

        Args:
            prompt: captions, or instructions where ``source`` is given; known words only (``words.WORDS``).
            audio: sound tracks of who speaks first and who answers: up to two waveforms, float32 [samples] at 16 kHz;
                or their features [B, STREAMS, T, TOKENS, FEATURES + 1] (``data.heard``); None: no sound.
            first: [B, 3, H, W] the clip's first frame, -1 to 1 as all pictures here.
            reference: [B, 3, H, W] a talker's picture, "this one" of the caption.
            source: [B, 3, T, H, W] the clip to edit.
            start: [B, 3, K, H, W] the clip's first K frames, K even.
            height, width: pixels, multiples of 4; the model was trained on 32, 48 and 64.
            num_frames: even; the model was trained on 4, 8 and 16, at ``portrait.hearing.FPS`` a second.
            num_inference_steps: denoising steps.
            guidance_scale: of text and sound together; 1 runs the conditional branch alone.
            generator: of the noise, one for all clips or one each; on the CPU.
            latents: the noise itself, [B, 3, T, H, W].
            causal: each pair of frames sees itself and earlier ones only.
            output_type: "np" (float32 [B, T, H, W, 3], 0 to 1), "pt" ([B, 3, T, H, W], -1 to 1) or "pil" (lists).
            callback_on_step_end: called with (pipeline, step, timestep, {"latents": ...}) as in diffusers; what it
                returns under "latents" takes their place.

        Raises:
            InputError: a size, a word or a tensor doesn't fit.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        batch, device, dtype = len(prompts), self._execution_device, self.transformer.dtype
        if num_frames % PAIR or height % PATCH or width % PATCH or min(num_frames, height, width) < PATCH // PAIR:
            raise InputError(
                f"A clip needs an even number of frames and sides that are multiples of {PATCH}, but "
                f"{num_frames} frames of {height}x{width} were asked for."
            )
        if output_type not in ("np", "pt", "pil"):
            raise InputError(f"output_type must be 'np', 'pt' or 'pil', but is {output_type!r}.")
        given = {
            "first": _fitting("first", first, (batch, 3, height, width)),
            "reference": _fitting("reference", reference, (batch, 3, height, width)),
            "source": _fitting("source", source, (batch, 3, num_frames, height, width)),
        }
        given = {name: None if v is None else v.to(device, dtype) for name, v in given.items()}
        kept = 0 if start is None else start.shape[2]
        if start is not None:
            _fitting("start", start, (batch, 3, kept, height, width))
            if kept % PAIR or not 0 < kept < num_frames:
                raise InputError(f"start must be an even number of frames below {num_frames}, but has {kept}.")
        heard = self._heard(audio, batch, num_frames).to(device, dtype)
        words = tokens_of(prompts).to(device)
        text = self.text_encoder(words)
        nothing = self.text_encoder(torch.zeros_like(words)) if guidance_scale != 1 else text

        shape = (3, num_frames, height, width)
        if latents is None:
            each = generator if isinstance(generator, Sequence) else [generator] * batch
            if len(each) != batch:
                raise InputError(f"One generator a prompt is needed; found {len(each)} for {batch} prompts.")
            latents = torch.stack([torch.randn(shape, generator=g) for g in each])
        latents = _fitting("latents", latents, (batch, *shape)).to(device, torch.float32)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            if start is not None:
                latents = torch.cat([start.to(latents), latents[:, :, kept:]], 2)
            at = timestep.expand(batch).to(dtype)
            if kept:
                at = at[:, None].repeat(1, num_frames // PAIR)
                at[:, : kept // PAIR] = 0
            with self.transformer.cache_context("cond"):
                velocity = self.transformer(latents.to(dtype), at, text, heard, **given, causal=causal).sample
            if guidance_scale != 1:
                with self.transformer.cache_context("uncond"):
                    free = self.transformer(
                        latents.to(dtype), at, nothing, torch.zeros_like(heard), **given, causal=causal
                    ).sample
                velocity = free + guidance_scale * (velocity - free)
            latents = self.scheduler.step(velocity.float(), timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, timestep, {"latents": latents}).pop("latents", latents)
        if start is not None:
            latents = torch.cat([start.to(latents), latents[:, :, kept:]], 2)
        self.maybe_free_model_hooks()
        frames = _as(latents.clamp(-1, 1), output_type)
        return StageOutput(frames=frames) if return_dict else (frames,)

    @staticmethod
    def _heard(audio: Tensor | Sequence[np.ndarray] | None, batch: int, frames: int) -> Tensor:
        """Sound tracks as the transformer hears them, [B, STREAMS, T, TOKENS, FEATURES + 1]."""
        heard = torch.zeros(batch, STREAMS, frames, TOKENS, FEATURES + 1)
        if audio is None:
            return heard
        if isinstance(audio, Tensor):
            found = _fitting("audio", audio, tuple(heard.shape))
            assert found is not None
            return found
        if len(audio) > STREAMS:
            raise InputError(f"At most {STREAMS} sound tracks can be heard, but {len(audio)} were given.")
        for stream, wave in enumerate(audio):
            heard[:, stream, ..., :-1] = features(torch.from_numpy(np.ascontiguousarray(wave)), frames)
            heard[:, stream, ..., -1] = 1
        return heard


def _fitting(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> Any:
    if tensor is not None and tuple(tensor.shape) != shape:
        raise InputError(f"{name} must be {list(shape)}, but is {list(tensor.shape)}.")
    return tensor


def _as(video: Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return video
    frames = ((video.float() + 1) / 2).permute(0, 2, 3, 4, 1).cpu().numpy()
    if output_type == "np":
        return frames
    return [[Image.fromarray(np.rint(frame * 255).astype(np.uint8)) for frame in clip] for clip in frames]
