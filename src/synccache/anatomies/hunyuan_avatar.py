"""HunyuanVideo-Avatar, the official class: 20 double and 40 single blocks, audio after every other double block.

Read from the release (github.com/Tencent-Hunyuan/HunyuanVideo-Avatar, ``hymm_sp/modules/models_audio.py`` and the
pipeline): ``forward(x, t, ref_latents, text_states, ..., is_cache)`` takes latents [B, C, T, h, w] of both guidance
branches in one batch, blocks are called by position as ``block(img, txt, vec, ...)``, the tokens of the reference frame
come before those of the video, and what an audio adapter hears is added to the video tokens times ``face_mask``.

- That mask, which the pipeline scales by 0.6 for the first ten steps, is the person mask where the user gives none.
- At the eleventh step the text of the unconditional branch becomes the prompt: that step is computed.
- With ``is_cache=True``, as its pipeline has it on 20 of 50 steps, only the last block runs, on what was stored before
  it. That is off while a cache is attached.
- Videos of more than 129 frames are denoised in windows of 33 latent frames, which move by 10 (modulo 33) from step to
  step, so that a window's place comes again after 33 steps. No argument says where a window lies; those runs are
  computed.

Recognised by class name and its audio adapters, since the text-to-video release has a class of the same name; its
repository is not imported.
"""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..core.anatomy import Anatomy, original_class
from .parts import attribute, is_named, patch_of, video_grid


def recognise(model: nn.Module) -> Anatomy | None:
    """Anatomy of a ``HYVideoDiffusionTransformer`` with audio adapters."""
    if not is_named(model, "HYVideoDiffusionTransformer") or not hasattr(model, "audio_adapter_blocks"):
        return None
    grid = video_grid("x", patch_of(model))

    def reference_tokens(arguments: Mapping[str, Any]) -> int:
        size = grid(arguments)
        return size[1] * size[2] if size is not None else 0

    return Anatomy(
        name="hunyuan-avatar",
        blocks=tuple(model.double_blocks) + tuple(model.single_blocks),
        timestep="t",
        latent="x",
        sites=tuple(sorted(int(i) for i in model.double_stream_list)),
        streams={"DoubleStreamBlock": {"img": 0, "txt": 1}, "SingleStreamBlock": {"x": 0}},
        grid=grid,
        ahead=reference_tokens,
        width=attribute(model, "hidden_size"),
        mask=face,
        live=("audio_prompts",),
        forced={"is_cache": False},
        group=lambda: sequence_group(model),
    )


def sequence_group(model: nn.Module) -> Any:
    """The group whose ranks share the tokens: the release keeps it, and whether there is one, beside the class."""
    released = vars(sys.modules[original_class(model).__module__])
    shared = released.get("get_sequence_parallel_state")
    return released["nccl_info"].group if shared is not None and shared() else None


def face(arguments: Mapping[str, Any]) -> Tensor | None:
    """The call's face mask [B, 1, T or 1, h, w] as [B, T or 1, h, w], scaled so that each sample reaches 1."""
    mask = arguments.get("face_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 5:
        return None
    mask = mask[:, 0].float()
    return mask / mask.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
