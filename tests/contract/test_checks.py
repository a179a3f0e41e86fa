"""The checks that users run on their own anatomies: they pass what is right, and say in a sentence what is wrong."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from synccache import Anatomy, Method
from synccache.gates import Listed
from synccache.scopes import Segments
from synccache.testing import (
    AddModel,
    TwoStream,
    UnknownS2V,
    Video,
    WanModel_S2V,
    WanS2VAttentionBlock,
    check_anatomy,
    check_changed_conditioning,
    check_never_skipping,
    check_removal,
    check_repeated_input,
    check_token_grid,
    checks,
    s2v_inputs,
    successive,
)

TIME = torch.tensor([900.0])
LATENT = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
VIDEO = {"hidden_states": LATENT, "timestep": TIME, "audio": torch.ones(1, 8)}
ADD = {"hidden_states": torch.full((1, 2, 3), 20.0), "timestep": TIME, "level": torch.tensor(4.0)}
TEXT = {"hidden_states": torch.linspace(-1, 1, 48).reshape(1, 6, 8), "encoder_hidden_states": torch.ones(1, 5, 8)}


def video(**changes):
    model = Video()
    anatomy = Anatomy("video", tuple(model.blocks), sites=(0, 2), grid=lambda bound: bound["hidden_states"].shape[2:])
    return model, replace(anatomy, **changes)


@pytest.mark.parametrize("named", [True, False])
def test_the_right_anatomies_pass(named):
    model, anatomy = video()
    check_anatomy(model, anatomy if named else None, VIDEO, changed={**VIDEO, "audio": -torch.ones(1, 8)})
    s2v = (WanModel_S2V if named else UnknownS2V)().eval()
    inputs = {**vars(s2v_inputs()), "t": TIME}
    changed = {**inputs, "audio_input": s2v_inputs(1).audio_input}
    check_anatomy(s2v, None, inputs, changed=changed, live=("audio_injector.injector.3",) if named else ())
    check_anatomy(TwoStream(), None, {**TEXT, "timestep": TIME})


def test_what_is_left_out_is_told():
    assert check_repeated_input(AddModel(), None, ADD) == (0, 1, 2)
    model, anatomy = video(fixed=(3,))
    assert check_repeated_input(model, anatomy, VIDEO, within=1) == (0, 1, 2, 4)


@pytest.mark.parametrize("changes", [{"latent": "noise"}, {"timestep": "audio"}])
def test_an_anatomy_that_misnames_what_tells_a_step(changes):
    model, anatomy = video(**changes)
    with pytest.raises(AssertionError, match=r"seen as|called without"):
        check_never_skipping(model, anatomy, successive(VIDEO, video()[1]))


def test_a_model_that_draws_at_random():
    model = nn.ModuleDict({"blocks": Video().blocks, "drop": nn.Dropout()})
    model.forward = lambda hidden_states, timestep: model["drop"](hidden_states)
    anatomy = Anatomy("drop", tuple(model["blocks"]))
    calls = [{"hidden_states": torch.ones(1, 2, 8), "timestep": TIME}]
    with pytest.raises(AssertionError, match=r"another output for the same input each time.*eval\(\)"):
        check_never_skipping(model, anatomy, calls)


def test_streams_that_no_block_returns():
    model = TwoStream()
    streams = {"DoubleBlock": {"hidden_states": 0, "encoder_hidden_states": 1}, "SingleBlock": {"temb": 0}}
    anatomy = Anatomy("two", (*model.transformer_blocks, *model.single_transformer_blocks), streams=streams)
    with pytest.raises(AssertionError, match="it said: No block of this model can be left out"):
        check_repeated_input(model, anatomy, {**TEXT, "timestep": TIME})


class Nothing:
    """Fills in zeros: what a broken cache would do."""

    anchors, split, gram = 1, None, False

    def weights(self, times, t, context):
        return torch.zeros(1, len(times), dtype=torch.float64)


def test_a_step_that_is_filled_in_wrongly(monkeypatch):
    monkeypatch.setattr(checks, "FIRST", Method(Listed(frozenset({0})), Segments(), Nothing()))
    with pytest.raises(AssertionError, match=r"blocks \[0, 1, 2, 3, 4\] left out is .* off the computed one"):
        check_repeated_input(*video(), VIDEO)
    with pytest.raises(AssertionError, match=r"is 0\.55 off"):  # 44, and 20 with nothing in place of the blocks
        check_repeated_input(AddModel(), None, ADD)


def test_conditioning_that_reaches_the_blocks_is_not_live():
    model, changed = AddModel(), {**ADD, "level": torch.tensor([9.0, 8.0, 7.0])}
    inputs = {**ADD, "level": torch.tensor([4.0, 5.0, 6.0])}
    anatomy = Anatomy("add", tuple(model.blocks), sites=())
    assert check_changed_conditioning(model, anatomy, inputs, changed) == "computed"
    with pytest.raises(
        AssertionError, match=r"skipped is 0\.\d+ off .* stale one is 0\.\d+ off.*don't name it in live"
    ):
        check_changed_conditioning(model, replace(anatomy, live=("level",)), inputs, changed)
    model, anatomy = video()
    assert check_changed_conditioning(model, anatomy, VIDEO, {**VIDEO, "audio": -torch.ones(1, 8)}) == "skipped"


def test_conditioning_that_changes_nothing_says_nothing():
    with pytest.raises(AssertionError, match=r"move the model's own output by 0 only"):
        check_changed_conditioning(AddModel(), None, ADD, ADD)


def test_modules_that_are_meant_to_stay_live():
    model, anatomy = video()
    check_repeated_input(model, anatomy, VIDEO, live=("audio.0", "audio.2"))
    with pytest.raises(AssertionError, match=r"blocks\.1 runs 1 times on a computed step and 0 times on one that is"):
        check_repeated_input(model, anatomy, VIDEO, live=("blocks.1",))


@pytest.mark.parametrize("changes", [{"grid": lambda bound: (2, 4, 5)}, {"offset": 3}, {"grid": lambda bound: None}])
def test_a_grid_that_does_not_fit(changes):
    with pytest.raises(AssertionError, match=r"has \d+ tokens, and block 0 has|grid gives None"):
        check_token_grid(*video(**changes), VIDEO)


def test_a_module_that_is_not_what_it_was():
    class Growing(AddModel):
        def forward(self, hidden_states, timestep, level):
            setattr(self, f"seen_{len(vars(self))}", 1)
            return super().forward(hidden_states, timestep, level)

    check_removal(AddModel(), None, ADD)
    with pytest.raises(AssertionError, match="these modules aren't what they were: the model"):
        check_removal(Growing(), None, ADD)


def test_a_failed_check_takes_the_cache_off():
    model, anatomy = video(offset=3)
    with pytest.raises(AssertionError):
        check_token_grid(model, anatomy, VIDEO)
    assert type(model) is Video and {type(b) for b in model.blocks} == {WanS2VAttentionBlock}
