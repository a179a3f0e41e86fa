"""Streams and output structures are recorded, never guessed by shape."""

import pytest
import torch
from calls import cached, listed, value
from torch import nn

import synccache
from synccache import Method, UnsupportedModel
from synccache.core.form import put_together, take_apart
from synccache.forecasters import ByPerson, Lagrange, Reuse
from synccache.gates import Interval, Listed, Never
from synccache.scopes import Segments, WholeStack
from synccache.testing import AddModel, TwoStream, distance

EVERY_OTHER = Method(Interval(2), WholeStack(absorb=False), Reuse())


def two(model):
    return synccache.Anatomy("two", (*model.transformer_blocks, *model.single_transformer_blocks))


def call(model, t, text_tokens=5, step=0):
    random = torch.Generator().manual_seed(0)
    image, text = (torch.randn(1, tokens, 8, generator=random) for tokens in (6, text_tokens))
    return model(image * (1 - step / 20), text, torch.tensor([t]))


@pytest.mark.parametrize("text_tokens", [5, 6])
def test_two_streams_and_a_concatenation(text_tokens):
    """Also where text and image have the same shape, so that only the recorded roles tell them apart."""
    model, streams = TwoStream(), set()
    with torch.no_grad(), synccache.cached(model, EVERY_OTHER, anatomy=two(model)) as handle:
        handle.on_store = lambda shown: streams.add((shown.region.first, shown.stream, shown.video)) or True
        call(model, 1000.0, text_tokens)  # the first call tells which argument is which
        full = call(model, 900.0, text_tokens)
        again = call(model, 899.999, text_tokens)
        assert handle.trace.decisions() == ["computed", "computed", "skipped"]
        assert [r.members for r in handle.regions] == [(0, 1, 2, 3), (4, 5, 6)]
        assert distance(again, full) < 1e-5
        assert [b.calls for b in model.transformer_blocks] == [2] * 4
        assert [b.calls for b in model.single_transformer_blocks] == [2] * 3
    assert streams >= {(0, "hidden_states", True), (0, "encoder_hidden_states", False)}
    assert {(first, stream) for first, stream, _ in streams if first} == {(4, "hidden_states")}


def test_text_in_a_stream_of_its_own_is_no_person():
    """With a mask that holds nobody everything goes by the background's rule, and without one by the person's."""
    outs = {}
    anatomy = lambda m: synccache.Anatomy(  # noqa: E731
        "two", (*m.transformer_blocks, *m.single_transformer_blocks), grid=lambda bound: (1, 2, 3),
        before={"SingleBlock": lambda bound: 5},
    )  # fmt: skip
    for name, forecaster, mask in (
        ("background", ByPerson(Lagrange(1), Reuse()), torch.zeros(2, 3)),
        ("reuse", Reuse(), None),
        ("nobody says", ByPerson(Lagrange(1), Reuse()), None),
        ("line", Lagrange(1), None),
    ):
        model, gate = TwoStream(text_too=True), Listed(frozenset({0, 1, 2}))
        with (
            torch.no_grad(),
            synccache.cached(
                model, Method(gate, WholeStack(absorb=False), forecaster), anatomy=anatomy(model), mask=mask
            ) as handle,
        ):
            for step in range(4):
                outs[name] = call(model, 1000.0 - step, step=step)
            assert handle.trace.decisions()[-1] == "skipped"
    assert torch.equal(outs["background"], outs["reuse"]) and torch.equal(outs["nobody says"], outs["line"])
    assert distance(outs["line"], outs["reuse"]) > 1e-3


def test_two_streams_never_skipping_is_bit_equal():
    model = TwoStream()
    with torch.no_grad():
        plain = call(model, 900.0)
        with synccache.cached(model, Method(Never(), Segments(), Reuse()), anatomy=two(model)):
            assert all(torch.equal(call(model, 900.0 - i), call(model, 900.0 - i)) for i in range(2))
            assert torch.equal(call(model, 900.0), plain)


class Widening(nn.Module):
    """The middle block gives back more tokens than it took."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Repeat(1 if i != 2 else 2) for i in range(5))

    def forward(self, x, timestep):
        for block in self.blocks:
            x = block(x)
        return x


class Repeat(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.calls, self.weight = times, 0, nn.Parameter(torch.ones(1))

    def forward(self, x):
        self.calls += 1
        return (x + 1).repeat(1, self.times, 1)


def test_a_block_that_changes_the_shape_always_runs():
    model, x = Widening(), torch.zeros(1, 2, 3)
    with torch.no_grad(), cached(model, EVERY_OTHER) as handle:
        for t in (1000.0, 900.0, 800.0):
            assert model(x, torch.tensor([t])).unique().tolist() == [5]
        assert handle.anatomy.fixed == (2,)
        assert [r.members for r in handle.regions] == [(0, 1), (3, 4)]
        assert [b.calls for b in model.blocks] == [2, 2, 3, 2, 2]


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(1)), 0

    def forward(self, x, extra=None):
        self.calls += 1
        return x + 1, None, {"kept": 3}


class OddModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Odd() for _ in range(3))

    def forward(self, x, timestep):
        for block in self.blocks:
            x, nothing, rest = block(x)
            assert nothing is None and rest == {"kept": 3}
        return x


def test_none_stays_none_and_other_values_stay():
    model = OddModel()
    with torch.no_grad(), cached(model, EVERY_OTHER):
        for t in (1000.0, 900.0, 800.0, 700.0):
            assert model(torch.zeros(1, 2, 3), torch.tensor([t])).unique().tolist() == [3]
    assert model.blocks[0].calls == 2


def test_structures_come_back_as_they_were():
    leaves = []
    output = (torch.ones(1), [None, {"a": 2}])
    template = take_apart(output, leaves)
    assert put_together(template, dict(enumerate(leaves))) == output
    assert leaves[1:] == [None, 2]


class Stubborn(nn.Module):
    """No block gives back what it was given to change."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

    def forward(self, x, timestep):
        for block in self.blocks:
            x = torch.cat([block(x), x], dim=1)[:, 1:]
        return x


def test_a_changed_sequence_between_blocks_ends_a_segment():
    model = Stubborn()
    with torch.no_grad(), cached(model, EVERY_OTHER) as handle:
        for t in (1000.0, 900.0, 800.0, 700.0):
            model(torch.ones(1, 4, 3), torch.tensor([t]))
        assert [r.members for r in handle.regions] == [(0,), (1,)]
        assert "skipped" in handle.trace.decisions()


def test_a_block_that_was_never_seen_computed_is_not_left_out():
    """Skip-layer guidance leaves blocks out at some steps: what they give back is not known before they ran."""

    class Leaving(AddModel):
        def forward(self, hidden_states, timestep, level, leave_out=None):
            for index, block in enumerate(self.blocks):
                if index != leave_out:
                    hidden_states = block(hidden_states, level)
            return hidden_states

    model, x, level = Leaving(), torch.full((1, 2, 3), 20.0), torch.tensor(4.0)
    with torch.no_grad(), cached(model, EVERY_OTHER) as handle:
        assert model(x, torch.tensor([1000.0]), level, leave_out=1).unique().tolist() == [36]
        assert model(x, torch.tensor([900.0]), level).unique().tolist() == [44]
        assert handle.trace.decisions() == ["computed", "computed"]


class Repeated(AddModel):
    """Runs its blocks in an order that can be changed."""

    order = (0, 1, 2)

    def forward(self, hidden_states, timestep, level):
        for index in self.order:
            hidden_states = self.blocks[index](hidden_states, level)
        return hidden_states


@pytest.mark.parametrize(
    ("order", "text", "full"),
    [
        ((0, 1, 2, 0), r"Block 0 \(AddBlock\) ran twice in one call", 48),
        ((1, 0, 2), r"Block 0 \(AddBlock\) ran after block 1", 44),
        ((0, 0, 1, 1, 2, 2), r"Block 0 \(AddBlock\) ran twice in one call", 68),
    ],
)
def test_blocks_in_an_order_that_is_not_understood_are_computed_and_said_once(order, text, full):
    model = Repeated()
    model.order = order
    with cached(model, listed(0)) as handle, pytest.warns(synccache.Notice, match=text) as said:
        assert [value(model, 1000 - step, 4) for step in range(3)] == [full] * 3
        assert handle.trace.skipped() == 0 and handle.bytes == 0
        assert len(said) == 1 and [r.reason for r in handle.trace] == ["listed", "blocks", "blocks"]


@pytest.mark.parametrize("order", [(0, 1, 2, 0), (0, 2, 1)])
def test_where_blocks_were_left_out_already_such_a_call_is_refused(order):
    model = Repeated()
    with cached(model, listed(0)) as handle:
        value(model, 1000, 4)
        model.order = order
        with pytest.raises(UnsupportedModel, match="Pass anatomy= with the blocks that run once, in the order"):
            value(model, 900, 4)
        assert handle.bytes == 0


def test_a_block_that_is_passed_over_is_no_disorder():
    """Skipped-layer guidance leaves blocks out in passes of its own."""
    model = Repeated()
    with cached(model, listed(0)) as handle:
        value(model, 1000, 4)
        for name, model.order, full in (("all", (0, 1, 2), 44), ("some", (0, 2), 36)):
            for step in range(2):
                with handle.at(step=step, branch=name, run=name):
                    assert value(model, 1000, 4) == full
        assert handle.trace.decisions(-1) == handle.trace.decisions(-2) == ["computed", "skipped"]
