"""Blocks found by structure: those that hand one stream on in an observed call, in the order in which they ran."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from synccache import Anatomy
from synccache.anatomies import generic
from synccache.core.anatomy import Visit, bind, original_class
from synccache.errors import UnsupportedModel

DIM = 16


class Block(nn.Module):
    def __init__(self, width: int = DIM) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(DIM, width), nn.GELU(), nn.Linear(width, DIM))

    def forward(self, hidden_states: Tensor, temb: Tensor | None = None) -> Tensor:
        return hidden_states + self.mlp(hidden_states if temb is None else hidden_states + temb)


class Injector(nn.Module):
    """What is added to the video tokens, seen from where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * DIM, DIM)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        return self.mix(torch.cat([x, audio.expand_as(x)], dim=-1))


class Model(nn.Module):
    """Lists of modules, and how one call uses them; [1, 12, 16] of video, [1, 20, 16] of text."""

    def __init__(self, run: Callable, **lists: list[nn.Module]) -> None:
        super().__init__()
        self.run = run
        for name, modules in lists.items():
            self.add_module(name, nn.ModuleList(modules))

    def forward(self, hidden_states: Tensor, timestep: Tensor, text: Tensor, conditional: bool = True) -> Tensor:
        return self.run(self, hidden_states, timestep.reshape(1, 1, 1).expand(1, 1, DIM), text, conditional)


def blocks(count: int, width: int = DIM) -> list[nn.Module]:
    torch.manual_seed(count)
    return [Block(width) for _ in range(count)]


def record(model: nn.Module, keep: Callable[[Visit], Visit] = lambda visit: visit, **more) -> list[Visit]:
    """The visits of the candidates in one call, in the order in which they began; ``keep`` makes the records."""
    visits, running, hooks = [], [], []

    def enter(module, args, kwargs):
        visits.append(Visit(module, {}, None, running[-1] if running else None))
        running.append(len(visits) - 1)

    def leave(module, args, kwargs, output):
        number = running.pop()
        bound = bind(original_class(module), args, kwargs)
        visits[number] = keep(replace(visits[number], bound=bound, output=output))

    for module in generic.recognise(model).candidates:
        hooks += [module.register_forward_pre_hook(enter, with_kwargs=True)]
        hooks += [module.register_forward_hook(leave, with_kwargs=True)]
    torch.manual_seed(1)
    with torch.no_grad():
        model(torch.randn(1, 12, DIM), torch.tensor(0.5), torch.randn(1, 20, DIM), **more)
    for hook in hooks:
        hook.remove()
    return visits


def observed(model: nn.Module, **more) -> Anatomy:
    anatomy = generic.recognise(model)
    assert anatomy.observe is not None
    found = anatomy.observe(record(model, **more))
    assert found.observe is None and (found.name, found.timestep, found.latent) == (
        "Model", "timestep", "hidden_states"
    )  # fmt: skip
    return found


def names(model: nn.Module, anatomy: Anatomy) -> list[str]:
    known = {module: name for name, module in model.named_modules()}
    return [known[block] for block in anatomy.blocks]


def straight(model, x, temb, text, conditional):
    for block in model.blocks:
        x = block(x, temb)
    return x


# -- order ---------------------------------------------------------------------------------------------------------


def test_blocks_come_in_the_order_in_which_they_ran():
    def run(model, x, temb, text, conditional):
        for index in (2, 0, 3, 1):
            x = model.blocks[index](x, temb)
        return x

    model = Model(run, blocks=blocks(4))
    found = observed(model)
    assert names(model, found) == ["blocks.2", "blocks.0", "blocks.3", "blocks.1"]
    assert (found.breaks, found.uncovered) == ((), ())


def test_an_order_that_differs_between_branches_is_that_of_the_branch_that_was_observed():
    def run(model, x, temb, text, conditional):
        for block in model.blocks if conditional else reversed(model.blocks):
            x = block(x, temb)
        return x

    model = Model(run, blocks=blocks(3))
    assert names(model, observed(model)) == ["blocks.0", "blocks.1", "blocks.2"]
    assert names(model, observed(model, conditional=False)) == ["blocks.2", "blocks.1", "blocks.0"]


def test_two_lists_that_alternate_are_one_chain():
    def run(model, x, temb, text, conditional):
        for a, b in zip(model.spatial, model.temporal, strict=True):
            x = b(a(x, temb), temb)
        return x

    model = Model(run, spatial=blocks(3), temporal=blocks(3))
    found = observed(model)
    assert names(model, found) == [f"{kind}.{i}" for i in range(3) for kind in ("spatial", "temporal")]
    assert (found.breaks, found.uncovered) == ((), ())


@pytest.mark.parametrize("frames", [2, 3, 4])
def test_reordered_tokens_are_followed_and_break_the_segments(frames):
    """As in Latte, at (frames, 12 / frames) tokens, with positions added once."""

    def run(model, x, temb, text, conditional):
        x = x.reshape(frames, -1, DIM)
        for index, (a, b) in enumerate(zip(model.spatial, model.temporal, strict=True)):
            x = a(x, temb).transpose(0, 1).contiguous()
            if index == 0:
                x = x + torch.linspace(-1, 1, DIM)
            x = b(x, temb).transpose(0, 1).contiguous()
        return x

    model = Model(run, spatial=blocks(3), temporal=blocks(3))
    found = observed(model)
    assert names(model, found) == [f"{kind}.{i}" for i in range(3) for kind in ("spatial", "temporal")]
    assert found.breaks == (0, 1, 2, 3, 4)


def test_tokens_that_all_changed_are_not_followed_where_their_number_changed_too():
    def run(model, x, temb, text, conditional):
        x = x.reshape(2, 6, DIM)
        for index, (a, b) in enumerate(zip(model.spatial, model.temporal, strict=True)):
            x = a(x, temb).transpose(0, 1).contiguous()
            if index == 2:
                x = x[:3] + torch.linspace(-1, 1, DIM)
            x = b(x, temb).transpose(0, 1).contiguous()
        return x

    model = Model(run, spatial=blocks(3), temporal=blocks(3))
    found = observed(model)
    assert names(model, found) == ["spatial.0", "temporal.0", "spatial.1", "temporal.1", "spatial.2"]
    assert found.uncovered == ("temporal.2",)


def test_reordered_tokens_of_the_same_shape_break_the_segments_too():
    def run(model, x, temb, text, conditional):
        x = x[:, :9].reshape(3, 3, DIM)
        for block in model.blocks:
            x = block(x, temb).transpose(0, 1).contiguous()
        return x

    model = Model(run, blocks=blocks(3))
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2"]
    assert found.breaks == (0, 1)


def test_blocks_that_change_nothing_are_told_apart_by_the_order_of_the_calls():
    """A new model's gates are zero: all streams have the same values."""

    def run(model, x, temb, text, conditional):
        for block in model.blocks:
            x = block(x, temb).clone()
        return x

    model = Model(run, blocks=blocks(4))
    for block in model.blocks:
        nn.init.zeros_(block.mlp[2].weight)
        nn.init.zeros_(block.mlp[2].bias)
    assert names(model, observed(model)) == [f"blocks.{i}" for i in range(4)]


def test_blocks_that_write_into_their_input_are_a_chain():
    class Overwriting(Block):
        def forward(self, hidden_states, temb):
            hidden_states += self.mlp(hidden_states + temb)
            return hidden_states

    model = Model(straight, blocks=[Overwriting() for _ in range(3)])
    assert names(model, observed(model)) == ["blocks.0", "blocks.1", "blocks.2"]


# -- which ---------------------------------------------------------------------------------------------------------


def refined(model, x, temb, text, conditional):
    for block in model.context_refiner:
        text = block(text)
    for block in model.noise_refiner:
        x = block(x, temb)
    x = torch.cat([text, x], dim=1)
    for block in model.layers:
        x = block(x, temb)
    return x[:, text.shape[1] :]


def test_a_refiner_of_the_video_belongs_to_the_transformer_and_one_of_the_text_does_not():
    """Though the text has more tokens here, and came first."""
    model = Model(refined, noise_refiner=blocks(2), context_refiner=blocks(2), layers=blocks(3))
    found = observed(model)
    assert names(model, found) == ["noise_refiner.0", "noise_refiner.1", "layers.0", "layers.1", "layers.2"]
    assert (found.breaks, found.uncovered) == ((1,), ("context_refiner.0-1",))


@pytest.mark.parametrize("video_first", [True, False])
def test_of_two_that_join_with_the_same_modulation_the_one_with_more_tokens_goes_on(video_first):
    def run(model, x, temb, text, conditional):
        text = text[:, :5]
        for a, b in zip(model.video, model.words, strict=True):
            if video_first:
                x, text = a(x, temb), b(text, temb)
            else:
                text, x = b(text, temb), a(x, temb)
        x = torch.cat([text, x], dim=1)
        for block in model.layers:
            x = block(x, temb)
        return x

    model = Model(run, video=blocks(2), words=blocks(2), layers=blocks(3))
    found = observed(model)
    assert names(model, found) == ["video.0", "video.1", "layers.0", "layers.1", "layers.2"]
    assert (found.breaks, found.uncovered) == ((1,), ("words.0-1",))


def test_what_joins_without_a_common_modulation_is_not_understood():
    def run(model, x, temb, text, conditional):
        for block in model.words:
            text = block(text)
        x = torch.cat([text, x], dim=1)
        for block in model.layers:
            x = block(x, temb)
        return x

    model = Model(run, words=blocks(2), layers=blocks(3))
    found = observed(model)
    assert names(model, found) == ["layers.0", "layers.1", "layers.2"]
    assert found.uncovered == ("words.0-1",)


class Joint(Block):
    """Two streams, the text's first."""

    def forward(self, encoder_hidden_states, hidden_states, temb):
        mean = hidden_states.mean(1, keepdim=True)
        return super().forward(encoder_hidden_states, mean), super().forward(hidden_states, temb)


class Unnamed(Joint):
    def forward(self, said, seen, temb):
        return super().forward(said, seen, temb)


@pytest.mark.parametrize(("block_class", "words"), [(Joint, 20), (Unnamed, 5)])
def test_of_two_streams_the_one_with_the_usual_name_is_the_main_one_or_the_one_with_more_tokens(block_class, words):
    """So the text's refiner is no part of the chain, though it hands on the joint blocks' first stream."""

    def run(model, x, temb, text, conditional):
        text = text[:, :words]
        for block in model.refiner:
            text = block(text)
        for block in model.blocks:
            text, x = block(text, x, temb)
        return x

    model = Model(run, refiner=blocks(2), blocks=[block_class() for _ in range(4)])
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert found.uncovered == ("refiner.0-1",)


def test_padding_that_two_streams_have_in_common_links_nothing():
    def run(model, x, temb, text, conditional):
        text, x = text[:, :12].clone(), x.clone()
        text[:, 6:], x[:, 6:] = 0, 0
        for block in model.words:
            text = block(text)
        for block in model.blocks:
            x = block(x)
        return x

    model = Model(run, words=blocks(2), blocks=blocks(3))
    for block in [*model.words, *model.blocks]:
        nn.init.zeros_(block.mlp[0].bias)
        nn.init.zeros_(block.mlp[2].bias)
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2"]
    assert found.uncovered == ("words.0-1",)


def test_tokens_are_known_again_in_another_precision():
    def run(model, x, temb, text, conditional):
        for block in model.first:
            x = block(x, temb)
        x = x.bfloat16()
        for block in model.second:
            x = block(x, temb.bfloat16())
        return x

    model = Model(run, first=blocks(2), second=blocks(2))
    model.second.bfloat16()
    found = observed(model)
    assert names(model, found) == ["first.0", "first.1", "second.0", "second.1"]
    assert (found.breaks, found.uncovered) == ((), ())


def test_a_longer_list_of_projections_is_no_transformer():
    """Each works on another layer's text, of the very width that the blocks have."""

    def run(model, x, temb, text, conditional):
        texts = [project(text + index) for index, project in enumerate(model.projections)]
        for block, said in zip(model.blocks, texts, strict=False):
            x = block(x + said.mean(1, keepdim=True), temb)
        return x

    model = Model(run, projections=[nn.Linear(DIM, DIM) for _ in range(9)], blocks=blocks(4))
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert found.uncovered == ()


def test_the_chain_that_does_most_of_the_work_is_taken_and_the_other_is_named():
    def run(model, x, temb, text, conditional):
        for block in model.many:
            text = block(text)
        for block in model.wide:
            x = block(x + text.mean(1, keepdim=True), temb)
        return x

    model = Model(run, many=blocks(4), wide=blocks(2, width=16 * DIM))
    found = observed(model)
    assert names(model, found) == ["wide.0", "wide.1"]
    assert found.uncovered == ("many.0-3",)


def test_what_blocks_hold_in_lists_is_left_to_them():
    class Experts(Block):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(blocks(3))

        def forward(self, hidden_states, temb):
            for expert in self.experts:
                hidden_states = expert(hidden_states)
            return super().forward(hidden_states, temb)

    model = Model(straight, blocks=[Experts() for _ in range(3)])
    found = observed(model)
    assert len(generic.recognise(model).candidates) == 3
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2"]
    assert found.uncovered == ()


def test_a_candidate_that_runs_within_another_is_not_left_out():
    class Borrowing(Block):
        def forward(self, hidden_states, temb):
            for block in self.borrowed:
                hidden_states = block(hidden_states, temb)
            return super().forward(hidden_states, temb)

    model = Model(straight, blocks=[Borrowing() for _ in range(2)], inner=blocks(4, width=8 * DIM))
    for half, block in enumerate(model.blocks):
        object.__setattr__(block, "borrowed", list(model.inner)[2 * half : 2 * half + 2])
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1"]


def test_a_block_that_runs_twice_is_not_left_out_and_no_segment_spans_it():
    def run(model, x, temb, text, conditional):
        for index in (0, 1, 2, 2, 3, 4):
            x = model.blocks[index](x, temb)
        return x

    model = Model(run, blocks=blocks(5))
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.3", "blocks.4"]
    assert (found.breaks, found.uncovered) == ((1,), ("blocks.2",))


def test_nothing_is_left_out_where_every_block_runs_twice():
    def run(model, x, temb, text, conditional):
        return straight(model, straight(model, x, temb, text, conditional), temb, text, conditional)

    model = Model(run, blocks=blocks(3))
    found = observed(model)
    assert (found.blocks, found.uncovered) == ((), ("blocks.0-2",))


def test_one_block_is_no_chain():
    def run(model, x, temb, text, conditional):
        for index in (0, 1, 1, 2, 2):
            x = model.blocks[index](x, temb)
        return x

    assert observed(Model(run, blocks=blocks(3))).blocks == ()


def test_blocks_that_did_not_run_are_named():
    def run(model, x, temb, text, conditional):
        for index in (0, 1, 4):
            x = model.blocks[index](x, temb)
        return x

    model = Model(run, blocks=blocks(7))
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.4"]
    assert (found.breaks, found.uncovered) == ((), ("blocks.2-3", "blocks.5-6"))


def test_blocks_side_by_side_are_no_chain():
    def run(model, x, temb, text, conditional):
        return sum(block(x, temb) for block in model.blocks)

    found = observed(Model(run, blocks=blocks(3)))
    assert found.blocks == ()


@pytest.mark.parametrize("strength", [1, 10])
def test_modules_whose_results_the_model_adds_are_no_chain(strength):
    """Also where they outweigh what they are added to."""

    def run(model, x, temb, text, conditional):
        for layer in model.layers:
            x = x + strength * layer(nn.functional.layer_norm(x, (DIM,)))
        return x

    torch.manual_seed(0)
    found = observed(Model(run, layers=[nn.Linear(DIM, DIM) for _ in range(6)]))
    assert found.blocks == ()


def test_a_chain_whose_result_is_the_condition_of_another_does_not_go_on_in_it():
    """As in MotifVideo, whose last blocks start again from the first tokens, with the others' result beside them."""

    class Reading(Block):
        def forward(self, hidden_states, context, temb):
            return super().forward(hidden_states + 0.1 * context.mean(1, keepdim=True), temb)

    def run(model, x, temb, text, conditional):
        start, context = x.clone(), text
        for index, block in enumerate(model.blocks):
            if index == 3:
                x, context = start, x
            x = block(x, context, temb)
        return x

    model = Model(run, blocks=[Reading() for _ in range(5)])
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2"]
    assert found.uncovered == ("blocks.3-4",)


# -- what comes in between -----------------------------------------------------------------------------------------


def test_what_is_added_after_every_block_does_not_part_them():
    def run(model, x, temb, text, conditional):
        for block in model.blocks:
            x = block(x, temb) + 0.5 * text.mean(1, keepdim=True)
        return x

    model = Model(run, blocks=blocks(4))
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert (found.breaks, found.uncovered) == ((), ())


def test_a_part_of_the_tokens_replaced_after_every_block_does_not_part_them():
    """As in HiDream and BriaFibo, whose blocks get another text each."""

    def run(model, x, temb, text, conditional):
        for index, block in enumerate(model.blocks):
            x = block(torch.cat([x[:, :12], text + index], dim=1), temb)
        return x

    model = Model(run, blocks=blocks(4))
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert (found.breaks, found.uncovered) == ((), ())


def test_modules_that_only_look_at_the_stream_in_between_part_nothing():
    def run(model, x, temb, text, conditional):
        hints = 0
        for block, looking in zip([*model.first, *model.second], model.looking, strict=True):
            x = block(x, temb)
            hints = hints + looking(x, temb)
        return x + hints

    model = Model(run, first=blocks(2), second=blocks(2), looking=blocks(4))
    found = observed(model)
    assert names(model, found) == ["first.0", "first.1", "second.0", "second.1"]
    assert (found.breaks, found.uncovered) == ((), ())


def test_modules_whose_results_are_added_between_blocks_stay_out():
    """Also the one after the last block, and though their list is as long."""

    def run(model, x, temb, text, conditional):
        for block, injector in zip(model.blocks, model.injectors, strict=True):
            x = block(x, temb)
            x = x + injector(x, text.mean(1, keepdim=True))
        return x

    model = Model(run, blocks=blocks(4), injectors=[Injector() for _ in range(4)])
    found = observed(model)
    assert names(model, found) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert found.uncovered == ()


def test_a_few_modules_that_pass_the_stream_on_between_many_blocks_stay_live():
    class Within(Injector):
        def forward(self, x, audio):
            return x + super().forward(x, audio)

    def run(model, x, temb, text, conditional):
        for index, block in enumerate(model.blocks):
            x = block(x, temb)
            if index % 2 and index < 5:
                x = model.injectors[index // 2](x, text.mean(1, keepdim=True))
        return x

    model = Model(run, blocks=blocks(6), injectors=[Within() for _ in range(2)])
    found = observed(model)
    assert names(model, found) == [f"blocks.{i}" for i in range(6)]
    assert (found.breaks, found.uncovered) == ((1, 3), ())


# -- before a call, and what is kept -------------------------------------------------------------------------------


def test_before_a_call_the_heaviest_list_and_those_beside_it_are_the_guess():
    model = Model(refined, noise_refiner=blocks(2), context_refiner=blocks(2), layers=blocks(3))
    model.projections = nn.ModuleList(nn.Linear(DIM, 1) for _ in range(9))
    guess = generic.recognise(model)
    assert names(model, guess) == ["noise_refiner.0", "noise_refiner.1", "layers.0", "layers.1", "layers.2"]
    assert len(guess.candidates) == 16 and guess.uncovered == ()


def test_lists_at_any_depth_are_watched_and_their_entries_lists_are_not():
    model = Model(straight, blocks=blocks(3))
    model.deep = nn.ModuleDict({"a": nn.ModuleList(blocks(2)), "b": nn.ModuleList([nn.ModuleList(blocks(2))] * 2)})
    model.single = nn.ModuleList(blocks(1))
    model.empty = nn.ModuleList([nn.GELU(), nn.GELU()])
    watched = {*generic.recognise(model).candidates}
    assert watched == {*model.blocks, *model.deep["a"], *model.deep["b"][0]}


def test_a_model_without_blocks_is_refused():
    with pytest.raises(UnsupportedModel, match="No list of transformer blocks"):
        generic.recognise(Model(straight, blocks=blocks(1)))


def test_thin_visits_tell_the_same_and_keep_no_tensor():
    kept = []

    def run(model, x, temb, text, conditional):
        for block in model.blocks:
            x = block(torch.cat([x[:, :12], text], dim=1), temb)
            kept.append(weakref.ref(x))
        return x

    model = Model(run, blocks=blocks(4))
    anatomy, found = generic.recognise(model), []
    for keep, alive in ((lambda visit: visit, 4), (generic.thin, 0)):
        kept.clear()
        visits = record(model, keep)
        assert len([x for x in kept if x() is not None]) == alive
        found.append(anatomy.observe(visits))
    full, light = found
    assert names(model, light) == names(model, full) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert (light.breaks, light.uncovered) == (full.breaks, full.uncovered)
