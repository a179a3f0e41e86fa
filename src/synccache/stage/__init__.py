"""The built-in model that methods are judged on: rendered scenes, text, sound, several tasks in one network."""

from ..defaults import STAGE_GUIDANCE_SCALE as GUIDANCE_SCALE

__all__ = ["GUIDANCE_SCALE"]
