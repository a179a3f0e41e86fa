"""Calls of toys in which a wrong path shows, and methods to call them under."""

import torch
from torch import nn

import synccache
from synccache import Anatomy, Method
from synccache.core.anatomy import argument_names
from synccache.forecasters import Reuse
from synccache.gates import Interval, Listed
from synccache.scopes import Segments, WholeStack

X = torch.full((1, 2, 3), 20.0)
EVERY_3 = Method(Interval(3), Segments(), Reuse())


def toy(model):
    """The anatomy of a toy, which is otherwise found on a call that stores nothing."""
    latent = next(name for name in argument_names(type(model)) if name in ("hidden_states", "x"))
    return Anatomy("toy", tuple(model.blocks), latent=latent)


def cached(target, method, **given):
    """``synccache.cached`` with the anatomies of toys known from the start."""
    if given.get("anatomy") is None:
        models = [getattr(target, name) for name in ("transformer", "transformer_2") if getattr(target, name, None)]
        given["anatomy"] = [toy(model) for model in models or [target]]
    return synccache.cached(target, method, **given)


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


class EchoBlock(nn.Module):
    """Adds the first token to all of them, and the mean of the prompt; ten times that with a flag."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(())), 0

    def forward(self, hidden_states, prompt=None, flag=False):
        self.calls += 1
        prompted = 0 if prompt is None else prompt.mean()
        return hidden_states + hidden_states[:, :1] + (10 * prompted if flag else prompted)


class Echo(nn.Module):
    """Tells whose value was filled in: three blocks add 7 times the latent's first number and the prompt's.

    ``audio`` is added after two of them, 7 times, to all tokens but the first.
    """

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(EchoBlock() for _ in range(3))

    def forward(self, hidden_states, timestep, prompt=None, flag=False, scale=1.0, audio=None):
        others = (torch.arange(hidden_states.shape[1]) > 0)[:, None]
        for index, block in enumerate(self.blocks):
            hidden_states = block(hidden_states, prompt, flag)
            if audio is not None and index < 2:
                hidden_states = hidden_states + 7 * audio.mean() * others
        return hidden_states


def picture(seed=0, number=0, tokens=64):
    """A latent [1, tokens, 3] of halves that looks like no other seed's, and begins with ``number``."""
    found = torch.randint(-8, 8, (1, tokens, 3), generator=torch.Generator().manual_seed(seed)) + 0.5
    found[:, 0] = number
    return found


def prompt(number):
    """A new tensor [1, 4, 2]."""
    return torch.full((1, 4, 2), float(number))


def echo(model, timestep, x, *args, **more):
    """The number that the latent begins with plus the prompt's, of this call where ``Echo`` is computed, else of the
    one that was stored; and twice this call's audio."""
    with torch.no_grad():
        out = model(x.clone(), torch.tensor([float(timestep)]), *args, **more)
    return float((out - x)[0, -1, 0]) / 7


def seen(handle, *names):
    """These fields of each record of the trace."""
    return [tuple(getattr(record, name) for name in names) for record in handle.trace]


def decisions(handle):
    """Of all calls: ``#`` computed, ``.`` skipped."""
    return "".join("#" if record.decision == "computed" else "." for record in handle.trace)
