"""No cache: every step is computed, and traced. Bit for bit the untouched model; the control for speed and quality."""

from ..core.method import Method
from ..forecasters import Reuse
from ..gates import Never
from ..scopes import Nothing
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    return Method(Never(), Nothing(), Reuse(), "none")


RECIPE = Recipe(
    name="none",
    summary="Control: computes every step and only keeps the trace.",
    paper="control",
    gate="never skips",
    scope="nothing",
    forecaster="none",
    settings={},
    build=build,
)
