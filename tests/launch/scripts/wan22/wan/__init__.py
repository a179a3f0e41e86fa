from . import configs
from .speech2video import WanS2V
from .text2video import WanT2V

__all__ = ["WanS2V", "WanT2V", "configs"]
