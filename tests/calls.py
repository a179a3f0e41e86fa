"""Calls of the toy that adds up, and methods to call it under."""

import torch

from synccache import Method
from synccache.forecasters import Reuse
from synccache.gates import Interval, Listed
from synccache.scopes import Segments, WholeStack

X = torch.full((1, 2, 3), 20.0)
EVERY_3 = Method(Interval(3), Segments(), Reuse())


def output(model, timestep, level, x=X, **more):
    with torch.no_grad():
        return model(x.clone(), torch.tensor([float(timestep)]), torch.tensor(float(level)), **more)


def call(model, timestep, level, x=X):
    """The first value of what ``AddModel`` gives."""
    return float(output(model, timestep, level, x).flatten()[0])


def value(model, *args, **more):
    """The one value that all of the output has."""
    (number,) = output(model, *args, **more).unique().tolist()
    return number


def listed(*steps):
    """Reuse of the stack on all other steps, injections live."""
    return Method(Listed(frozenset(steps)), WholeStack(absorb=False), Reuse())
