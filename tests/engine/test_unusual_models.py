"""Models that are built or called in unusual ways: mixed dtypes, wrapped modules, other lengths, other orders."""

import pytest
import torch
from torch import nn

import synccache
from synccache import Anatomy
from synccache.core.anatomy import original_class
from synccache.engine.store.anchors import History


class Block(nn.Module):
    """Takes any floating-point tokens and gives back float32, as a block does under autocast."""

    def __init__(self, number):
        super().__init__()
        self.number, self.calls = number, 0

    def forward(self, hidden_states, temb):
        self.calls += 1
        return hidden_states.float() + torch.sin(hidden_states.float() * (self.number + 1)) * temb


class HalfFirst(nn.Module):
    """Its first block is called in half precision, and what comes between blocks sees the stream's dtype."""

    def __init__(self, order=(0, 1, 2)):
        super().__init__()
        self.blocks = nn.ModuleList(Block(i) for i in range(3))
        self.order, self.seen = order, []

    def forward(self, hidden_states, timestep):
        x = hidden_states.bfloat16()
        for i in self.order:
            self.seen.append(x.dtype)
            x = self.blocks[i](x, timestep / 1000)
        return x


class Wrapper(nn.Module):
    """Passes everything on, as FullyShardedDataParallel does."""

    def __init__(self, module):
        super().__init__()
        self._fsdp_wrapped_module = module

    def forward(self, *args, **kwargs):
        return self._fsdp_wrapped_module(*args, **kwargs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_fsdp_wrapped_module"), name)


def run(model, times, x=None):
    x = torch.linspace(-1, 1, 24).reshape(1, 6, 4) if x is None else x
    return [model(hidden_states=x, timestep=torch.tensor([t])) for t in times]


def anatomy(model):
    return Anatomy("half-first", tuple(model.blocks))


def test_a_stream_that_a_block_widens_stays_wide_when_the_block_is_left_out():
    model = HalfFirst()
    (plain,) = run(model, [900.0])
    given = {"anatomy": anatomy(model), "schedule": [0, 1], "steps": 12}
    with torch.no_grad(), synccache.cached(model, "schedule", **given) as handle:
        stored = set()
        handle.on_store = lambda shown: stored.add(shown.value.dtype) or True
        run(model, [902.0, 901.0])
        model.seen.clear()
        skipped = run(model, [900.0])[0]
        assert handle.trace.decisions() == ["computed", "computed", "skipped"]
    assert model.seen == [torch.bfloat16, torch.float32, torch.float32]
    assert stored == {torch.float32} and (skipped - plain).abs().max() < 5e-3


def test_what_fsdp_wraps_is_seen_through():
    model = Wrapper(HalfFirst())
    assert original_class(model) is HalfFirst
    given = {"anatomy": anatomy(model), "schedule": [0], "steps": 12}
    with torch.no_grad(), synccache.cached(model, "schedule", **given) as handle:
        x = torch.ones(1, 6, 4)
        model(x, torch.tensor([900.0]))
        model(x, torch.tensor([899.0]))
        assert handle.trace.decisions() == ["computed", "skipped"]
    assert model.blocks[1].calls == 1


def test_anchors_of_another_length_are_dropped():
    history = History(3)
    history.push(0.0, torch.zeros(1, 4, 2))
    history.push(1.0, torch.ones(1, 4, 2))
    history.push(2.0, torch.ones(1, 5, 2))
    assert history.times == (2.0,)
    history.push(3.0, torch.ones(1, 5, 2))
    assert history.times == (3.0, 2.0) and history.gram().tolist() == [[10, 10], [10, 10]]


def test_a_forecast_goes_on_after_the_number_of_tokens_has_changed():
    model = HalfFirst()
    given = {"anatomy": anatomy(model), "schedule": [0, 1], "order": 1, "steps": 12}
    longer = torch.linspace(-1, 1, 32).reshape(1, 8, 4)
    with torch.no_grad(), synccache.cached(model, "schedule", **given) as handle:
        run(model, [900.0, 899.0, 898.0])
        found = run(model, [897.0, 896.0], longer)
    assert handle.trace.decisions(0)[:3] == ["computed", "computed", "skipped"]
    assert [f.shape for f in found] == [longer.shape] * 2


def test_blocks_out_of_order_are_noticed():
    model = HalfFirst(order=(1, 0, 2))
    given = {"anatomy": anatomy(model), "schedule": [0], "steps": 12}
    noticed = pytest.warns(synccache.Notice, match=r"Block 0 \(Block\) ran after block 1.*Every step is computed")
    with torch.no_grad(), synccache.cached(model, "schedule", **given) as handle, noticed:
        run(model, [900.0, 899.0])
    assert handle.trace.skipped() == 0


def test_each_expert_may_have_an_anatomy_of_its_own():
    class Pipe:
        def __init__(self):
            self.transformer, self.transformer_2 = HalfFirst(), HalfFirst()

    pipe = Pipe()
    both = (anatomy(pipe.transformer), anatomy(pipe.transformer_2))
    with torch.no_grad(), synccache.cached(pipe, "schedule", schedule=[0, 2], steps=12, anatomy=both) as handle:
        for model, time in ((pipe.transformer, 900.0), (pipe.transformer, 899.0), (pipe.transformer_2, 500.0)):
            run(model, [time])
        assert handle.trace.decisions() == ["computed", "skipped", "computed"]
    with pytest.raises(synccache.InputError, match="3 anatomies were given for 2 transformers"):
        synccache.apply(pipe, "schedule", schedule=[0], anatomy=(*both, both[0]))
