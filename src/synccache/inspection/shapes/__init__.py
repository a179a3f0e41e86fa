"""Minimal builds of transformers that diffusers doesn't have, under their official class names.

Built from the facts of the releases (sizes, order of tokens, what is called between the blocks, argument names), for
counting bytes and measuring time with random weights. They load no released weights and make no pictures.
"""

from .hunyuan_avatar import HYVideoDiffusionTransformer
from .wan_s2v import WanModel_S2V

__all__ = ["HYVideoDiffusionTransformer", "WanModel_S2V"]
