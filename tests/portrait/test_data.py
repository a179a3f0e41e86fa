"""Training clips: the same index gives the same batch, wherever and in whichever process a run starts."""

import itertools

import torch

from synccache.portrait.data import Batches, loader


def equal(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_depends_on_its_seed_and_index_alone():
    first, second = itertools.islice(Batches(seed=3, start=0, batch=2, frames=2, size=32), 2)
    assert equal(second, next(iter(Batches(seed=3, start=1, batch=2, frames=2, size=32))))
    assert not equal(first, second)
    assert not equal(first, next(iter(Batches(seed=4, start=0, batch=2, frames=2, size=32))))


def test_a_loader_delivers_the_same_batches_from_its_process():
    here = next(iter(Batches(seed=3, start=5, batch=2, frames=2, size=32)))
    assert equal(next(loader(3, 5, 2, 2, 32)), here)
