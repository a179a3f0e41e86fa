"""Any other model: blocks found by structure, arguments by name.

A model's declaration tells which modules may be blocks, but not which of them make up the transformer, nor in which
order they run. So ``recognise`` guesses, and the first computed call tells: modules that hand the main stream (the one
with the video tokens) from one to the next form a chain, and the chain that does most of the work is the transformer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise

from torch import nn

from ..core.anatomy import Anatomy, Visit, argument_names, original_class
from ..errors import UnsupportedModel
from .chain import chain_of, links_of, step_of, thin, weight

TIMESTEPS = ("timestep", "timesteps", "t", "sigma", "sigmas", "time", "noise_level")
LATENTS = ("hidden_states", "x", "sample", "latents", "latent", "noisy_latents", "img")
_TEXT = ("text", "txt", "caption")  # in the name of a list that is no part of the transformer
_HELP = 'pass it by hand: anatomy=Anatomy("my-model", blocks=tuple(model.layers), timestep="t", latent="x").'
Lists = Mapping[str, nn.ModuleList]


def recognise(model: nn.Module) -> Anatomy:
    """A guess at the blocks: the heaviest list, and the lists beside it with the same first argument.

    Raises:
        UnsupportedModel: there is no list of blocks, or the forward names no timestep or latent.
    """
    name, lists = original_class(model).__name__, dict(_lists(model))
    alike = {path: blocks for path, blocks in lists.items() if _repeated(blocks)}
    if not alike:
        raise UnsupportedModel(f"No list of transformer blocks was found in {name}; {_HELP}")
    arguments = argument_names(original_class(model))
    timestep = next((n for n in TIMESTEPS if n in arguments), None)
    latent = next((n for n in LATENTS if n in arguments), None)
    for what, found in (("timestep", timestep), ("latent", latent)):
        if found is None:
            given = ", ".join(arguments)
            raise UnsupportedModel(f"{name}.forward({given}) has no argument that is known as the {what}; {_HELP}")
    assert timestep is not None and latent is not None
    heaviest = max(alike, key=lambda path: sum(map(weight, alike[path])))
    kept = {heaviest} | {
        path
        for path, blocks in alike.items()
        if path.rpartition(".")[0] == heaviest.rpartition(".")[0]
        and _first_argument(blocks) == _first_argument(alike[heaviest])
        and not any(word in path for word in _TEXT)
    }
    guess = tuple(block for path, blocks in alike.items() if path in kept for block in blocks)
    anatomy = Anatomy(name=name, blocks=guess, timestep=timestep, latent=latent)
    candidates = tuple(block for blocks in lists.values() for block in blocks if weight(block))
    return replace(anatomy, candidates=candidates, glance=thin, observe=partial(observe, anatomy, lists))


def observe(anatomy: Anatomy, lists: Lists, visits: Sequence[Visit]) -> Anatomy:
    """``anatomy`` with the blocks that ran as a chain, in their order; with none where no two of them did."""
    paths = {block: path for path, blocks in lists.items() for block in blocks}
    steps = [step for visit in visits if (step := step_of(thin(visit), paths[visit.module])) is not None]
    links, calls = links_of(steps), Counter(visit.module for visit in visits)
    kept = [i for i in chain_of(steps, links) if calls[steps[i].module] == 1]
    kept = kept if len(kept) >= 2 else []
    found = tuple(steps[i].module for i in kept)
    apart = [links[b].step != a or links[b].moved for a, b in pairwise(kept)]
    pairs = [(steps[link.step], steps[j]) for j, link in links.items()]
    others = {a.path for a, b in pairs if a.path == b.path and not {a.module, b.module} & {*found}}
    return replace(
        anatomy,
        blocks=found,
        breaks=tuple(index for index, parted in enumerate(apart) if parted),
        uncovered=tuple(_names(lists, found, others)),
        candidates=(),
        observe=None,
    )


def _lists(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    """The outermost lists of two or more modules with parameters, by the names of ``named_modules``."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList) and _holds_blocks([m for m in child if weight(m)]):
            yield path + name, child
        else:
            yield from _lists(child, f"{path}{name}.")


def _holds_blocks(entries: Sequence[nn.Module]) -> bool:
    return len(entries) >= 2 and not any(isinstance(m, nn.ModuleList | nn.ModuleDict) for m in entries)


def _repeated(blocks: nn.ModuleList) -> bool:
    return len({original_class(b) for b in blocks}) == 1


def _first_argument(blocks: nn.ModuleList) -> tuple[str, ...]:
    return argument_names(original_class(blocks[0]))[:1]


def _names(lists: Lists, found: Sequence[nn.Module], others: set[str]) -> Iterator[str]:
    """Names of the blocks that aren't ``found``, of the lists that have some of those and of the ``others``."""
    for path, blocks in lists.items():
        rest = [i for i, block in enumerate(blocks) if block not in found]
        if len(rest) < len(blocks) or (path in others and _repeated(blocks) and any(blocks[0].children())):
            for _, run in groupby(enumerate(rest), lambda pair: pair[1] - pair[0]):
                numbers = [i for _, i in run]
                yield f"{path}.{numbers[0]}" + (f"-{numbers[-1]}" if len(numbers) > 1 else "")
