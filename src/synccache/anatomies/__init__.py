"""What models are made of: one family per file, recognised by class name without importing it."""

from __future__ import annotations

from torch import nn

from ..core.anatomy import Anatomy
from . import (
    cogvideox,
    comfy,
    cosmos,
    flux,
    generic,
    hunyuan_avatar,
    hunyuan_video,
    ltx,
    mochi,
    portrait,
    qwen_image,
    sd3,
    skyreels,
    stage,
    wan,
    wan_animate,
    wan_official,
    wan_s2v,
    z_image,
)

# ComfyUI first: its S2V class has the official one's name.
OWN = (portrait, stage, comfy, hunyuan_avatar, wan_s2v, wan_official)
VIDEO = (wan, wan_animate, skyreels, hunyuan_video, ltx, cogvideox, mochi, cosmos)
IMAGE = (flux, qwen_image, sd3, z_image)
FAMILIES = (*OWN, *VIDEO, *IMAGE)


def find(model: nn.Module) -> Anatomy:
    """The anatomy of a transformer: a known family's, else found by structure.

    Raises:
        UnsupportedModel: it can't be told; says what to pass by hand.
    """
    for family in FAMILIES:
        anatomy = family.recognise(model)
        if anatomy is not None:
            return anatomy
    return generic.recognise(model)


__all__ = ["FAMILIES", "Anatomy", "find"]
