"""Fewer steps with the same solver: the control that every cache has to beat at equal wall-clock time.

Formula: the pipeline's schedule is cut to ``computed_steps`` steps, whatever it is asked for, where its scheduler
puts that many. With ``schedule``, a list of indices, or a profile, the sampler makes these steps of the longer run and
no others, from one to the next; with a profile they are the ones that ``searched`` would compute at that ``order`` (1
suits solvers of second order, such as UniPC, 0 Euler).
Cost and memory: none. Use it as a control: what a cache reaches beyond the same steps without the cache is its own. It
needs the pipeline (its ``scheduler``), not a bare transformer; to pick steps, a scheduler that goes by ``sigmas``.
Defaults: 12 steps, as many as ``synccache`` computes of 40 on the portrait model. Limit: it can't see content.
"""

from ..core.method import Method
from ..core.pace import steps_of
from ..errors import InputError
from ..forecasters import Reuse
from ..gates import Never
from ..gates.schedules import best_schedule
from ..sampling import Fewer, Picked
from ..scopes import Nothing
from .profiled import learn_outputs, learned, line_or_reuse
from .profiled_gates import NeverFor
from .recipe import Recipe, Settings


def build(s: Settings) -> Method:
    shorter, gate = _shorter(s), Never()
    if isinstance(shorter, Picked) and s["schedule"] is None:
        gate = NeverFor(method="fewer-steps", timesteps=tuple(s["profile"].timesteps[i] for i in shorter.steps))
    return Method(gate, Nothing(), Reuse(), "fewer-steps", shorten=shorter)


def _shorter(s: Settings) -> Fewer | Picked:
    if s["schedule"] is not None:
        steps = tuple(sorted(set(s["schedule"])))
        if not steps or steps[0] != 0:
            raise InputError("The steps that 'fewer-steps' picks have to begin with step 0, where the noise is.")
        return Picked(steps)
    if s["profile"] is None:
        return Fewer(s["computed_steps"])
    gram = learned(s, "fewer-steps", "gram", "the inner products of the outputs")
    return Picked(
        best_schedule(gram, line_or_reuse(s["order"]), steps_of(s["computed_steps"], len(gram), 0.0)), len(gram)
    )


RECIPE = Recipe(
    name="fewer-steps",
    summary="Control: no cache, a shorter schedule with the same solver.",
    paper="control",
    gate="never skips",
    scope="nothing",
    forecaster="none",
    settings={"computed_steps": 12, "schedule": None, "order": 1, "profile": None},
    build=build,
    needs="a pipeline with a scheduler",
    learn=learn_outputs,
)
