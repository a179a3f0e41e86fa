"""From a portrait and speech to a talking video, clip by clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from ..defaults import GUIDANCE_SCALE
from ..errors import InputError
from .data import to_pixels, with_presence
from .hearing import FPS, features
from .transformer import PortraitTransformer

WEIGHTS = "portrait.safetensors"


class PortraitPipeline:
    """The built-in audio-driven portrait model with its solver: rectified flow, UniPC as Wan2.2-S2V uses it.

    ``transformer`` and ``scheduler`` are public, so that ``synccache.apply(pipe, ...)`` finds them. Guidance takes two
    calls a step, the conditional one first; clips after the first one continue from the last frames of the one before.
    """

    def __init__(self, transformer: PortraitTransformer, flow_shift: float = 3.0) -> None:
        self.transformer = transformer.eval()
        self.scheduler: Any = UniPCMultistepScheduler(
            num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift
        )

    @classmethod
    def load(cls, path: str | Path | None = None) -> PortraitPipeline:
        """The packaged model, or the weights at ``path``.

        Raises:
            InputError: the weights are missing or not a portrait model.
        """
        if path is not None:
            return cls(PortraitTransformer.load(path))
        with as_file(files("synccache.portrait") / "assets" / WEIGHTS) as packaged:
            return cls(PortraitTransformer.load(packaged))

    @torch.no_grad()
    def denoise(
        self,
        reference: Tensor,
        audio: Tensor,
        motion: Tensor | None = None,
        *,
        steps: int = 40,
        guidance_scale: float = GUIDANCE_SCALE,
        seeds: Sequence[int] = (0,),
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Generate one clip for each of B portraits.

        Args:
            reference: [B, 3, H, W] portraits, -1 to 1.
            audio: [B, T, A, F] audio features.
            motion: [B, 3*M, H, W] last frames of the clip before, or None.
            steps: denoising steps.
            guidance_scale: weight of the audio; 1 runs the conditional branch alone.
            seeds: one a portrait; the noise of each depends on its own seed only.
            on_step: called with (steps done, steps) after every step.

        Returns [B, 3, T, H, W], -1 to 1.
        """
        if len(seeds) != reference.shape[0]:
            raise InputError(f"One seed a portrait is needed; found {len(seeds)} seeds for {reference.shape[0]}.")
        shape = (3, audio.shape[1], *reference.shape[-2:])
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        latents = torch.stack(noise).to(reference)
        heard = with_presence(audio)
        unheard = torch.zeros_like(heard)
        self.scheduler.set_timesteps(steps)
        timesteps, run, place = self.scheduler.timesteps, object(), self.transformer.cache_context
        for index, timestep in enumerate(timesteps):
            t = timestep.expand(reference.shape[0]).to(reference)
            told = {"step_index": index, "num_inference_steps": len(timesteps), "run": run}
            with place("cond", **told):
                velocity = self.transformer(latents, t, heard, reference, motion)
            if guidance_scale != 1:
                with place("uncond", **told):
                    free = self.transformer(latents, t, unheard, reference, motion)
                velocity = free + guidance_scale * (velocity - free)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            if on_step:
                on_step(index + 1, len(timesteps))
        return latents.clamp(-1, 1)

    def clips(self, samples: int) -> int:
        """How many clips a recording of ``samples`` at 16 kHz takes."""
        frames = self.frames(samples)
        return -(-frames // self.transformer.config.frames)

    def last_frames(self, video: Tensor) -> Tensor:
        """What the next clip continues from: the last M frames of ``video`` [B, 3, T, H, W], as [B, 3*M, H, W]."""
        return video[:, :, -self.transformer.config.motion_frames :].transpose(1, 2).flatten(1, 2)

    @staticmethod
    def frames(samples: int) -> int:
        """Video frames that cover ``samples`` of audio at 16 kHz."""
        return max(1, -(-samples * 25 // (2 * 16000)))

    def __call__(
        self,
        image: np.ndarray,
        audio: np.ndarray,
        *,
        steps: int = 40,
        guidance_scale: float = GUIDANCE_SCALE,
        seed: int = 0,
        on_step: Callable[[int, int], None] | None = None,
        finished: Sequence[Tensor] = (),
        on_clip: Callable[[int, Tensor], None] | None = None,
    ) -> np.ndarray:
        """Animate a portrait.

        Args:
            image: uint8 [H, W, 3], H = W = the model's image size, in canonical framing (``framing.canonical_crop``).
            audio: float32 [samples] at 16 kHz.
            steps, guidance_scale: as in ``denoise``.
            seed: of everything that the audio does not determine.
            on_step: called with (steps done, steps of all clips).
            finished: the first clips, as ``on_clip`` was given them; they aren't made again.
            on_clip: called with the number and the video [1, 3, T, H, W], -1 to 1, of each clip that was made.

        Returns float32 [T, H, W, 3], 0 to 1, at ``FPS`` frames a second.
        """
        size = self.transformer.config.image_size
        if image.shape != (size, size, 3):
            raise InputError(f"The portrait must be [{size}, {size}, 3], not {list(image.shape)}; see canonical_crop.")
        length, count = self.transformer.config.frames, self.frames(len(audio))
        clips = self.clips(len(audio))
        heard = features(torch.from_numpy(np.ascontiguousarray(audio)), clips * length)
        device = next(self.transformer.parameters()).device
        heard, reference = heard.to(device), to_pixels(image)[None].to(device)
        parts = [video.to(device) for video in finished[:clips]]
        total, motion = clips * steps, self.last_frames(parts[-1]) if parts else None
        for clip in range(len(parts), clips):
            window = heard[None, clip * length : (clip + 1) * length]
            report = None if on_step is None else lambda done, n, clip=clip: on_step(clip * n + done, total)
            video = self.denoise(
                reference, window, motion, steps=steps, guidance_scale=guidance_scale, seeds=[seed * 1009 + clip],
                on_step=report,
            )  # fmt: skip
            if on_clip is not None:
                on_clip(clip, video)
            parts.append(video)
            motion = self.last_frames(video)
        frames = torch.cat(parts, dim=2)[0, :, :count]
        return ((frames + 1) / 2).permute(1, 2, 3, 0).contiguous().cpu().numpy()


__all__ = ["FPS", "PortraitPipeline"]
