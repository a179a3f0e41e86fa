"""Cutting the blocks into regions."""

import pytest
from torch import nn

from synccache import Anatomy, InputError
from synccache.profiles import Plan
from synccache.scopes import Nothing, Segments, WholeStack


def anatomy(blocks=8, sites=(0, 2, 4, 6), **more):
    return Anatomy("toy", tuple(nn.Identity() for _ in range(blocks)), sites=sites, **more)


def members(regions):
    return [r.members for r in regions]


def test_segments_lie_between_the_sites():
    assert members(Segments().regions(anatomy(), 1)) == [(1, 2), (3, 4), (5, 6), (7,)]
    assert members(Segments().regions(anatomy(7), 1)) == [(1, 2), (3, 4), (5, 6)]  # a site after the last: no tail
    assert members(Segments().regions(anatomy(), 0)) == [(0,), (1, 2), (3, 4), (5, 6), (7,)]
    assert members(Segments().regions(anatomy(sites=None), 1)) == [tuple(range(1, 8))]
    assert {r.value for r in Segments().regions(anatomy(), 1)} == {"residual"}


def test_wan_s2v_has_eleven_segments_for_its_twelve_sites():
    sites = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
    full = Segments().regions(anatomy(40, sites), 1)
    assert len(full) == 11 and full[0].members == (1, 2, 3, 4) and full[-1].members == (37, 38, 39)
    assert len(Segments(0.4).regions(anatomy(40, sites), 1)) == 4
    assert len(Segments(0.01).regions(anatomy(40, sites), 1)) == 1
    assert len(Segments(0.99).regions(anatomy(40, sites), 1)) == 11


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])
def test_every_block_is_in_one_region_whatever_the_ratio(ratio):
    regions = Segments(ratio).regions(anatomy(17, tuple(range(0, 17, 2))), 1)
    assert [i for r in regions for i in r.members] == list(range(1, 17))
    assert len(regions) == min(8, max(1, int(ratio * 9 + 1e-9)))
    sizes = [len(r.members) for r in regions]
    assert max(sizes) - min(sizes) <= 2  # evenly spread without a plan


def test_sigma_one_keeps_every_site_also_with_a_tail():
    assert len(Segments(1.0).regions(anatomy(8, (1, 3, 5)), 1)) == 4


def test_boundaries_and_plans_choose_where_to_merge():
    assert members(Segments(boundaries=(4,)).regions(anatomy(), 1)) == [(1, 2, 3, 4), (5, 6, 7)]

    gamma = ((0, 1, 2, 0, 4), (0, 0, 1, 2, 3), (0, 0, 0, 1, 2), (0, 0, 0, 0, 1), (0,) * 5)  # ending after 6 costs least
    plan = Plan((2, 4, 6, 7), gamma, ())
    assert members(Segments(0.5).regions(anatomy(), 1)) == [(1, 2, 3, 4), (5, 6, 7)]
    assert members(Segments(0.5).regions(anatomy(), 1, plan)) == [(1, 2, 3, 4, 5, 6), (7,)]
    with pytest.raises(InputError, match=r"3 is no inner site. Choose from \[2, 4, 6\]"):
        Segments(boundaries=(3,)).regions(anatomy(), 1)


def test_whole_stack():
    (region,) = WholeStack().regions(anatomy(), 1)
    assert region.members == tuple(range(1, 8)) and region.value == "absorbed" and region.id == "blocks 1-7"
    assert WholeStack(absorb=False).regions(anatomy(), 0)[0].value == "residual"
    assert Nothing().regions(anatomy(), 0) == ()


def test_a_break_counts_among_the_kept_segments():
    parted = anatomy(14, (1, 3, 5, 7, 9, 11), breaks=(9,))
    assert members(Segments(0.5).regions(parted, 1)) == [(1, 2, 3), tuple(range(4, 10)), (10, 11, 12, 13)]
    assert members(Segments(0.1).regions(parted, 1)) == [tuple(range(1, 10)), (10, 11, 12, 13)]
    flat = Plan((1, 3, 5, 7, 9, 11, 13), ((0.0,) * 8,) * 8, ())
    assert 9 in [r.last for r in Segments(0.5).regions(parted, 1, flat)]


def test_no_region_spans_a_break_or_a_fixed_block():
    assert members(WholeStack().regions(anatomy(sites=(), breaks=(3,)), 0)) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert members(Segments().regions(anatomy(sites=(), fixed=(3,)), 0)) == [(0, 1, 2), (4, 5, 6, 7)]
    mixed = Anatomy("two", (nn.Identity(), nn.Identity(), nn.Linear(1, 1), nn.Linear(1, 1)), sites=())
    assert members(WholeStack().regions(mixed, 0)) == [(0, 1), (2, 3)]


def test_a_whole_stack_that_keeps_its_last_blocks():
    assert members(WholeStack(keep_last=2).regions(anatomy(), 1)) == [(1, 2, 3, 4, 5)]
    assert members(WholeStack(keep_last=2).regions(anatomy(breaks=(3, 5)), 1)) == [(1, 2, 3), (4, 5)]
    assert members(WholeStack(keep_last=5).regions(anatomy(breaks=(3,)), 1)) == [(1, 2)]
    for first, last in ((8, 0), (1, 7), (2, 9)):
        with pytest.raises(InputError, match=f"first {first} and the last {last} blocks always run, and toy has 8"):
            WholeStack(keep_last=last).regions(anatomy(), first)
