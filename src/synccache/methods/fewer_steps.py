"""Fewer steps with the same solver: the control that every cache has to beat at equal wall-clock time.

Formula: the pipeline's schedule is cut to ``computed_steps`` steps, whatever number it is asked for.
Cost and memory: none. Use it as a control. It needs the pipeline (its ``scheduler``), not a bare transformer.
"""

from ..engine.method import Method
from ..errors import InputError
from ..forecasters import Reuse
from ..gates import Never
from ..scopes import Nothing
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    if s["computed_steps"] is None:
        raise InputError("The method 'fewer-steps' needs computed_steps=..., the length of the shorter schedule.")
    return Method(Never(), Nothing(), Reuse(), "fewer-steps", shorten=s["computed_steps"])


RECIPE = Recipe(
    name="fewer-steps",
    summary="Control: no cache, a shorter schedule with the same solver.",
    paper="control",
    gate="never skips",
    scope="nothing",
    forecaster="none",
    settings={"computed_steps": None},
    build=build,
    needs="a pipeline with a scheduler",
)
