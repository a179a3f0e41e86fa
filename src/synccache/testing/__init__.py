"""Toy models, and checks for anatomies: what our own tests use, for yours. Needs neither pytest nor diffusers.

>>> from synccache.testing import check_anatomy
>>> check_anatomy(model, anatomy, inputs, changed={**inputs, "audio": other})
"""

from .calling import count_calls, distance, successive
from .checks import (
    check_anatomy,
    check_changed_conditioning,
    check_never_skipping,
    check_removal,
    check_repeated_input,
    check_token_grid,
)
from .pipelines import EulerScheduler, Pipeline
from .s2v import UnknownS2V, WanModel_S2V, s2v_inputs
from .streams import DoubleBlock, SingleBlock, TwoStream
from .toys import AddBlock, AddModel, FeedForward, SelfAttention, Video, WanS2VAttentionBlock
from .watching import Look, Watching

__all__ = [
    "AddBlock",
    "AddModel",
    "DoubleBlock",
    "EulerScheduler",
    "FeedForward",
    "Look",
    "Pipeline",
    "SelfAttention",
    "SingleBlock",
    "TwoStream",
    "UnknownS2V",
    "Video",
    "WanModel_S2V",
    "WanS2VAttentionBlock",
    "Watching",
    "check_anatomy",
    "check_changed_conditioning",
    "check_never_skipping",
    "check_removal",
    "check_repeated_input",
    "check_token_grid",
    "count_calls",
    "distance",
    "s2v_inputs",
    "successive",
]
