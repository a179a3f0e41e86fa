"""Outputs of modules filled in, inside blocks that run."""

import pytest
import torch
from calls import X, cached, output, toy, value
from torch import nn

import synccache
from synccache import Method, UnsupportedModel
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Interval, Listed, Probe, Threshold
from synccache.scopes import Modules, Nothing, WholeModel
from synccache.testing import Pipeline, Video


class Part(nn.Module):
    """Gives ``weight * level`` for every element, as a tensor, or in whatever ``wrap`` makes of it."""

    def __init__(self, weight, wrap):
        super().__init__()
        self.weight, self.wrap, self.calls = weight, wrap, 0

    def forward(self, x, level):
        self.calls += 1
        return self.wrap(torch.ones_like(x) * (self.weight * level).to(x.dtype))


class Gated(nn.Module):
    """``x + gate * attn + live``: the gate and what is added live belong to the step, the module is what is cached."""

    def __init__(self, weight, wrap=lambda out: out, read=lambda out: out, times=1):
        super().__init__()
        self.attn, self.read, self.times, self.calls = Part(weight, wrap), read, times, 0

    def forward(self, hidden_states, level, gate, live):
        self.calls += 1
        for _ in range(self.times):
            out = self.read(self.attn(hidden_states, level))
            out *= gate  # in place: an anchor that weren't a copy would change with it
        return hidden_states + out + live


class Single(nn.Module):
    """Attention and feed-forward end in one projection, and a gate that belongs to the step scales what it gives."""

    def __init__(self, weight):
        super().__init__()
        self.attn, self.proj_mlp = Part(weight, lambda out: (out, out)), Part(weight, lambda out: out)
        self.act_mlp, self.proj_out = nn.ReLU(), Part(2.0, lambda out: out)

    def forward(self, hidden_states, level, gate, live):
        attended = sum(self.attn(hidden_states, level))
        both = torch.cat([attended, self.act_mlp(self.proj_mlp(hidden_states, level))], dim=2)
        return hidden_states + gate * self.proj_out(both, both.mean())[..., : hidden_states.shape[2]] + live


class GatedModel(nn.Module):
    def __init__(self, **block):
        super().__init__()
        self.blocks = nn.ModuleList(Gated(w, **block) for w in (1.0, 10.0))

    def forward(self, hidden_states, timestep, level, gate=1.0, live=0.0):
        for block in self.blocks:
            hidden_states = block(hidden_states, level, gate, live)
        return hidden_states


def listed(*steps, scope=None, forecaster=None, guidance=None):
    return Method(Listed(frozenset(steps)), scope or Modules(), forecaster or Reuse(), guidance=guidance)


def test_the_block_runs_and_its_module_does_not():
    model = GatedModel()
    with cached(model, listed(0)) as handle:
        assert value(model, 1000, 3, gate=4.0) == 20 + 4 * 33
        assert value(model, 900, 99, gate=2.0, live=5.0) == 20 + 2 * 33 + 2 * 5  # 33 is stored, gate and live are not
        assert value(model, 800, 99, x=X + 100) == 120 + 33
        assert [b.calls for b in model.blocks] == [3, 3]
        assert [b.attn.calls for b in model.blocks] == [1, 1]
        assert handle.trace.decisions() == ["computed", "skipped", "skipped"]
        assert handle.bytes == 2 * X.numel() * 4
    assert value(model, 700, 4) == 20 + 44


def test_a_series_through_the_outputs_is_continued():
    model = GatedModel()
    with cached(model, listed(0, 2, forecaster=Lagrange(1))):
        assert [value(model, 1000, 1), value(model, 900, 7), value(model, 800, 3)] == [31, 31, 53]
        assert [value(model, t, 99) for t in (700, 600)] == [20 + 4 * 11, 20 + 5 * 11]


def test_a_tuple_comes_back_as_a_tuple_and_none_as_none():
    def read(out):
        assert type(out) is tuple and len(out) == 3 and out[1] is None
        return out[0] + out[2]["more"]

    model = GatedModel(wrap=lambda out: (out, None, {"more": 100 * out}), read=read)
    with cached(model, listed(0)) as handle:
        assert value(model, 1000, 1) == 20 + 101 * 11
        assert value(model, 900, 99) == 20 + 101 * 11
        assert [b.attn.calls for b in model.blocks] == [1, 1]
        assert handle.bytes == 4 * X.numel() * 4


def test_a_module_that_runs_twice_in_a_call_is_computed_and_the_others_are_not():
    model = GatedModel()
    model.blocks[0].times = 2
    twice = pytest.warns(
        synccache.Notice, match=r"attn of block 0 \(Gated\) ran twice in one call, so it can't be cached"
    )
    with cached(model, listed(0)) as handle, twice as said:
        assert value(model, 1000, 1) == 31  # the second call of it is what the block adds
        assert [value(model, t, 3) for t in (900, 800)] == [20 + 3 + 10] * 2
        assert [b.attn.calls for b in model.blocks] == [6, 1]
        assert handle.trace.decisions() == ["computed", "skipped", "skipped"] and len(said) == 1


def test_a_module_that_runs_twice_after_its_first_call_was_filled_in_is_refused():
    model = GatedModel()
    with cached(model, listed(0)) as handle:
        value(model, 1000, 1)
        model.blocks[1].times = 2
        with pytest.raises(UnsupportedModel, match=r"attn of block 1 \(Gated\) ran twice in one call"):
            output(model, 900, 1)
        assert handle.bytes == 0
    assert value(model, 1000, 1) == 31


def test_half_precision_storage_gives_back_the_models_own():
    model = GatedModel()
    with cached(model, listed(0), storage_dtype=torch.bfloat16) as handle:
        output(model, 1000, 3)
        out = output(model, 900, 99)
        assert out.dtype is torch.float32 and out.unique().tolist() == [53]
        assert handle.bytes == 2 * X.numel() * 2


def test_modules_of_probe_blocks_run():
    model = GatedModel()
    with cached(model, Method(Threshold(1e9, Probe()), Modules(), Reuse())):
        assert [value(model, 1000, 1), value(model, 900, 5)] == [20 + 1 + 10, 20 + 5 + 10]
        assert [b.attn.calls for b in model.blocks] == [2, 1]


def test_branches_and_runs_have_anchors_of_their_own():
    model = GatedModel()
    with cached(model, listed(0)) as handle:
        assert [value(model, 1000, 1), value(model, 1000, 2)] == [31, 42]
        assert [value(model, 900, 1, gate=2.0), value(model, 900, 2, gate=2.0)] == [42, 64]
        assert [value(model, 1000, 5), value(model, 900, 7)] == [75, 75]  # the timestep went back up: another run
        assert handle.trace.decisions(-1) == ["computed", "skipped"]


def test_a_batch_is_as_its_samples_and_another_size_is_computed():
    model = GatedModel()
    x = torch.cat([X, X + 7])
    with cached(model, listed(0)) as handle:
        output(model, 1000, 1, x=x)
        assert output(model, 900, 99, x=x)[:, 0, 0].tolist() == [31, 38]
        assert value(model, 800, 2) == 42
        assert handle.trace.decisions() == ["computed", "skipped", "computed"]


@pytest.mark.filterwarnings("ignore:.*no step has called the model for one")
@pytest.mark.parametrize("scope", [Modules(), WholeModel(), Nothing()])
def test_modules_are_hooked_where_they_are_left_out_and_given_back(scope):
    model = GatedModel()
    before = [(type(m), set(vars(m))) for m in model.modules()]
    method = listed(0, scope=scope, guidance=Reuse())
    handle = synccache.apply(model, method, anatomy=toy(model))
    assert ["_call_impl" in vars(b.attn) for b in model.blocks] == [isinstance(scope, Modules)] * 2
    handle = synccache.apply(model, method, anatomy=toy(model))  # replaces the first
    assert [type(m) for m in model.modules()] == [cls for cls, _ in before]
    output(model, 1000, 1), output(model, 900, 1)
    handle.remove()
    assert [(type(m), set(vars(m))) for m in model.modules()] == before and handle.bytes == 0
    assert value(model, 800, 2) == 42


def test_never_skipping_modules_is_bit_equal():
    pipe = Pipeline(Video())
    plain = pipe()
    with cached(pipe, Method(Interval(1), Modules(), Lagrange(1))):
        assert torch.equal(pipe(), plain)


def test_a_module_that_isnt_called_keeps_no_other_from_being_filled_in():
    class OneOfTwo(GatedModel):
        def forward(self, hidden_states, timestep, level, gate=1.0, live=0.0):
            return self.blocks[1](hidden_states, level, gate, live)

    model = OneOfTwo()
    with cached(model, listed(0)) as handle:
        assert [value(model, 1000, 1), value(model, 900, 99)] == [30, 30]
        assert handle.trace.decisions() == ["computed", "skipped"]


@pytest.mark.parametrize("before", [True, False])
def test_modules_of_compiled_blocks_are_refused_with_what_to_do(before):
    model = GatedModel()
    handle = None if before else synccache.apply(model, listed(0), anatomy=toy(model))
    for block in model.blocks:
        block.compile(backend="eager")
    with pytest.raises(synccache.Conflict, match="Choose a method that leaves out whole blocks"):
        handle = synccache.apply(model, listed(0), anatomy=toy(model)) if handle is None else handle
        output(model, 1000, 1)
    synccache.remove(model)
    assert all(block._compiled_call_impl is not None for block in model.blocks)


# -- modules that feed another -----------------------------------------------------------------------------------------


def test_where_one_projection_is_filled_in_nothing_that_feeds_it_runs():
    model = GatedModel()
    model.blocks = nn.ModuleList(Single(w) for w in (1.0, 10.0))
    plain = value(model, 1000, 3, gate=4.0)
    with cached(model, listed(0, 2)) as handle:
        assert value(model, 1000, 3, gate=4.0) == plain == 20 + 4 * 2 * (1.5 * 3 + 1.5 * 30)
        assert value(model, 900, 99, gate=2.0, live=5.0) == 20 + 2 * 2 * 1.5 * 33 + 2 * 5
        calls = [[m.calls for m in (b.attn, b.proj_mlp, b.proj_out)] for b in model.blocks]
        assert calls == [[2, 2, 2], [2, 2, 2]]  # once without, once with the cache
        assert value(model, 800, 5) == 20 + 2 * 1.5 * 55  # computed again, by all of them
        one = 2 * 3 * (3 + 3) // 3 * 4  # [1, 2, 6] float32
        assert handle.trace.bytes_peak == 2 * one and handle.trace.decisions() == ["computed", "skipped", "computed"]
    assert all(type(m) in (Part, nn.ReLU) for b in model.blocks for m in b.children())
