"""Runs of listed blocks, and the front and the rear of a stack."""

import pytest
from torch import nn

from synccache import Anatomy, InputError
from synccache.methods.profilingdit import PUBLISHED
from synccache.scopes import BlockRuns, Spans


def anatomy(blocks=8, **more):
    return Anatomy("toy", tuple(nn.Identity() for _ in range(blocks)), **{"sites": (), **more})


def members(scope, of, start=0):
    return [r.members for r in scope.regions(of, start)]


def test_each_run_of_neighbours_is_a_region():
    assert members(BlockRuns((1, 2, 4, 6, 7)), anatomy()) == [(1, 2), (4,), (6, 7)]
    assert members(BlockRuns((0, 1, 2, 4)), anatomy(), start=1) == [(1, 2), (4,)]
    assert members(BlockRuns(()), anatomy()) == []
    assert {r.value for r in BlockRuns((1, 2)).regions(anatomy(sites=(1,)), 0)} == {"residual"}


def test_a_run_ends_at_breaks_at_fixed_blocks_and_where_the_class_changes():
    every = BlockRuns(tuple(range(8)))
    assert members(every, anatomy(breaks=(3,))) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert members(every, anatomy(fixed=(3,))) == [(0, 1, 2), (4, 5, 6, 7)]
    assert members(every, anatomy(sites=(2, 5))) == [tuple(range(8))]  # what is injected inside stays live
    mixed = Anatomy("two", (nn.Identity(), nn.Identity(), nn.Linear(1, 1), nn.Linear(1, 1)), sites=())
    assert members(BlockRuns((1, 2, 3)), mixed) == [(1,), (2, 3)]


def test_a_list_for_another_model_is_refused():
    with pytest.raises(InputError, match=r"has block 8, and this one \(toy\) has 8, numbered from 0"):
        BlockRuns((1, 8)).regions(anatomy(), 0)
    with pytest.raises(InputError, match=r"is for a model of 40 blocks, and this one \(toy\) has 8"):
        BlockRuns((1, 2), of=40).regions(anatomy(), 0)


def test_the_published_lists():
    wan, hunyuan = PUBLISHED["wan2.1-14b"], PUBLISHED["hunyuan-video"]
    assert len(wan.blocks) == 28 and len(members(wan, anatomy(40))) == 5
    double, single = range(20), range(20, 60)
    blocks = [nn.Identity() for _ in double] + [nn.Linear(1, 1) for _ in single]
    runs = members(hunyuan, Anatomy("hunyuan-video", tuple(blocks), sites=()))
    assert runs[0] == tuple(range(6, 20)) and len(runs) == 9  # one of double blocks, and eight of single ones
    assert sum(map(len, runs[1:])) == 24


def spans(share, start=0, **more):
    return {r.id: r.members for r in Spans(share).regions(anatomy(**more), start)}


def test_front_and_rear_spans_with_what_they_share_between_them():
    assert spans(0.5) == {"front 0-3": (0, 1, 2, 3), "rear 4-7": (4, 5, 6, 7)}
    assert spans(0.25) == {"front 0-1": (0, 1), "rear 6-7": (6, 7)}  # blocks 2 to 5 always run
    assert spans(0.75) == {"front 0-1": (0, 1), "middle 2-5": (2, 3, 4, 5), "rear 6-7": (6, 7)}
    assert spans(1.0) == {"middle 0-7": tuple(range(8))}
    assert spans(0.5, start=2) == {"front 2-4": (2, 3, 4), "rear 5-7": (5, 6, 7)}
    assert spans(0.01) == {"front 0-0": (0,), "rear 7-7": (7,)}


def test_spans_are_cut_where_the_sequence_changes():
    assert spans(0.5, breaks=(1,)) == {"front 0-1": (0, 1), "front 2-3": (2, 3), "rear 4-7": (4, 5, 6, 7)}
    assert spans(0.5, fixed=(5,)) == {"front 0-3": (0, 1, 2, 3), "rear 4-4": (4,), "rear 6-7": (6, 7)}
