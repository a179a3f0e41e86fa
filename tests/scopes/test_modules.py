"""Attention and feed-forward modules, found by name."""

import pytest
from torch import nn

from synccache import Anatomy, UnsupportedModel
from synccache.scopes import Modules


class Block(nn.Module):
    def __init__(self, *names):
        super().__init__()
        for name in ("norm1", *names):
            self.add_module(name, nn.Identity())


def parts(scope, *blocks, start=0):
    return [(r.first, r.part) for r in scope.regions(Anatomy("toy", blocks, sites=()), start)]


WAN, FLUX, BARE = ("attn1", "attn2", "ffn"), ("attn", "ff", "ff_context"), ("proj", "modulation")


def test_which_modules_are_regions():
    blocks = (Block(*WAN), Block(*FLUX), Block(*BARE))
    assert parts(Modules(), *blocks) == [(0, n) for n in WAN] + [(1, n) for n in FLUX]
    assert parts(Modules(feed_forward=False), *blocks) == [(0, "attn1"), (0, "attn2"), (1, "attn")]
    assert parts(Modules(attention=False), *blocks) == [(0, "ffn"), (1, "ff"), (1, "ff_context")]
    assert parts(Modules(), *blocks, start=1) == [(1, n) for n in FLUX]
    (region, *_) = Modules().regions(Anatomy("toy", blocks, sites=()), 0)
    assert (region.id, region.members, region.value, region.part) == ("block 0 attn1", (0,), "output", "attn1")


def test_a_block_whose_modules_end_in_one_projection_holds_one_output():
    single = Block("proj_mlp", "act_mlp", "proj_out", "attn")
    (region,) = Modules().regions(Anatomy("toy", (single,), sites=()), 0)
    assert (region.part, region.feeding, region.value) == ("proj_out", ("proj_mlp", "act_mlp", "attn"), "output")
    assert parts(Modules(feed_forward=False), single) == [(0, "attn")]


def test_a_model_without_any_is_refused():
    with pytest.raises(UnsupportedModel, match=r"No attention or feed-forward module was found .* of Block"):
        parts(Modules(), Block(*BARE))
    with pytest.raises(UnsupportedModel, match="No feed-forward module"):
        parts(Modules(attention=False), Block("attn"))
