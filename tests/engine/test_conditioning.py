"""What the blocks themselves are conditioned on: where it changes in a run, that branch is computed, and no other."""

import pytest
import torch
from calls import Echo, cached, decisions, echo, listed, picture, prompt, seen
from torch import nn

import synccache
from synccache import Method
from synccache.engine.act.conditioning import SIGNALS
from synccache.engine.place.conditioning import MOST, Conditioning, Mark, Prints
from synccache.forecasters import Reuse
from synccache.gates import Listed
from synccache.scopes import Modules, Segments, WholeModel, WholeStack
from synccache.testing import TwoStream, distance

X, TIMES = picture(1), (1000, 900, 800, 700, 600)
SCOPES = [WholeStack(absorb=False), WholeStack(), Segments(), WholeModel(), WholeModel(residual=True)]


def followed(arguments, scope=SCOPES[0], model=None, anatomy=None):
    """(numbers, decisions) of steps with these arguments, of which the first only is to be computed."""
    model = Echo() if model is None else model
    with cached(model, Method(Listed(frozenset({0})), scope, Reuse()), anatomy=anatomy) as handle:
        found = [echo(model, t, X, **more) for t, more in zip(TIMES, arguments, strict=False)]
        computed = [r.reason for r in handle.trace if r.decision == "computed"][1:]
        assert set(computed) <= {"new conditioning"}
        return found, decisions(handle)


@pytest.mark.parametrize("scope", SCOPES)
def test_another_prompt_is_computed_once_and_reused_from_then_on(scope):
    one, two = prompt(1), prompt(2)
    found = followed([{"prompt": p} for p in (one, one, two, two, one)], scope)
    assert found == ([1, 1, 2, 2, 1], "#.#.#")


@pytest.mark.parametrize("scope", SCOPES)
def test_equal_values_in_a_new_tensor_are_no_change(scope):
    one = prompt(1)
    assert followed([{"prompt": p} for p in (one, one, prompt(1), prompt(1))], scope) == ([1] * 4, "#...")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_prompt_that_is_overwritten_in_place_is_another(scope):
    model, text = Echo(), prompt(1)
    with cached(model, Method(Listed(frozenset({0})), scope, Reuse())) as handle:
        assert [echo(model, t, X, text) for t in (1000, 900)] == [1, 1]
        text += 2
        assert [echo(model, t, X, text) for t in (800, 700)] == [3, 3]
        assert decisions(handle) == "#.#."


@pytest.mark.parametrize("scope", SCOPES)
def test_another_prompt_is_seen_also_where_it_comes_in_a_new_tensor_each_time(scope):
    found = followed([{"prompt": prompt(number)} for number in (1, 1, 1, 1, 2)], scope)
    assert found == ([1, 1, 1, 1, 2], "#...#")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_flag_is_conditioning_and_a_number_is_none(scope):
    text = prompt(1)
    for sites in (None, (0, 1)):
        model = Echo()
        anatomy = None if sites is None else synccache.Anatomy("echo", tuple(model.blocks), sites=sites)
        given = [{"prompt": text, "flag": on} for on in (False, False, True, True)]
        assert followed(given, scope, model, anatomy) == ([1, 1, 10, 10], "#.#.")
    for scales in ((1.0, 2.0, 3.0), [torch.tensor([float(i)]) for i in range(3)]):  # they may move with the timestep
        assert followed([{"prompt": text, "scale": s} for s in scales], scope)[1] == "#.."


def test_what_enters_between_the_blocks_is_live_and_no_reason_to_compute():
    """It is named in ``live``, or it is seen that the first block is called with nothing else than before."""
    text, silence, sound = prompt(1), prompt(0), prompt(5)
    heard = [{"prompt": text, "audio": audio} for audio in (silence, silence, sound, sound)]
    for known in (False, True):
        model = Echo()
        anatomy = synccache.Anatomy("echo", tuple(model.blocks), sites=(0, 1), live=("audio",)) if known else None
        assert followed(heard, model=model, anatomy=anatomy) == ([1, 1, 11, 11], "#...")
        found = followed(heard, WholeModel(), model, anatomy)  # of the whole model nothing is live
        assert found == ([1, 1, 11, 11], "#.#.")


def test_an_argument_that_comes_or_goes_is_compared_at_the_first_block():
    text, sound, model = prompt(1), prompt(2), Echo()
    appears = [{"prompt": text}, {"prompt": text}, {"prompt": text, "audio": sound}, {"prompt": text}]
    anatomy = synccache.Anatomy("echo", tuple(model.blocks), sites=(0, 1))
    assert followed(appears, model=model, anatomy=anatomy) == ([1, 1, 5, 1], "#...")
    assert followed(appears, WholeModel()) == ([1, 1, 5, 1], "#.##")  # nothing is live
    assert followed([{"prompt": text}, {"prompt": text}, {}, {}]) == ([1, 1, 0, 0], "#.#.")


def test_the_branch_whose_conditioning_changes_is_computed_and_no_other():
    model, first, second, third = Echo(), prompt(1), prompt(2), prompt(3)
    with cached(model, listed(0)) as handle:
        for t, other in zip(TIMES, (second, second, third, third), strict=False):
            assert [echo(model, t, X, p) for p in (first, other)] == [1, float(other.mean())]
        assert decisions(handle) == "##.." + ".#.."
        assert seen(handle, "branch", "reason")[5] == (1, "new conditioning")


def test_text_in_a_stream_of_its_own_is_conditioning_too():
    model, random = TwoStream(), torch.Generator().manual_seed(0)
    x, one, two = (torch.randn(1, n, 8, generator=random) for n in (6, 5, 5))
    call = lambda t, text: model(x, text, torch.tensor([t]))  # noqa: E731
    with torch.no_grad():
        true, stale = call(800.0, two), call(800.0, one)
        anatomy = synccache.Anatomy("two", (*model.transformer_blocks, *model.single_transformer_blocks))
        with synccache.cached(model, listed(0, 1), anatomy=anatomy) as handle:
            for t, text in ((1000.0, one), (900.0, one), (850.0, one)):
                call(t, text)
            assert torch.equal(call(800.0, two), true) and distance(stale, true) > 0.01
            assert decisions(handle) == "##.#"


class Attended(Echo):
    """Its blocks have a module that reads the prompt."""

    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.attn = nn.Identity()
            block.forward = lambda hidden_states, prompt, flag=False, b=block: hidden_states + b.attn(prompt).mean()


def test_outputs_of_modules_are_computed_anew_too():
    one, two = prompt(7), prompt(14)
    found = followed([{"prompt": p} for p in (one, one, two, two)], Modules(), Attended())
    assert found == ([3, 3, 6, 6], "#.#.")


# -- the parts -------------------------------------------------------------------------------------------------------


def test_a_mark_knows_its_tensor_until_that_is_written_to_or_gone():
    gone, tensor = [], torch.ones(2)
    mark = Mark(tensor, gone.append)
    assert mark.is_of(tensor) and not mark.is_of(torch.ones(2))
    tensor += 1
    assert not mark.is_of(tensor) and gone == []
    del tensor
    assert gone == [mark]


def test_arguments_are_tensors_plain_values_and_numbers_by_name():
    many, nested = [torch.ones(1)] * (MOST + 1), {"a": [torch.ones(1), 5]}
    plain = {"timestep": 1, "none": None, "flag": True, "scale": 2.0, "word": "a", "made": object()}
    tensors = {"text": torch.ones(2, 3), "pair": torch.ones(2), "vector": torch.ones(3), "nested": nested}
    arguments = {**plain, **tensors, "residuals": many}
    found = Conditioning(arguments, ("timestep",), samples=2)
    assert list(found.tensors) == ["text", "pair", "vector", "nested", "residuals"]
    assert found.plain == {"flag": (True,), "scale": (2.0,), "word": ("a",), "nested": (("a", (5,)),)}
    assert found.numbers == {"scale", "pair"}
    assert list(found.compared) == ["text", "pair", "vector", "nested"]


def test_a_few_numbers_tell_tensors_apart():
    def rows(*tensors):
        prints = Prints({"a": tensors[:1], "b": tensors[1:]})
        if prints.unread is not None:
            prints.arrive(prints.unread.tolist())
        return [row for found in prints.values.values() for row in found]

    long = torch.arange(1000.0)
    changed = long.clone()
    changed[501] += 1  # none of those that are looked at one by one
    assert rows(long) == rows(long.clone()) != rows(changed) and rows() == []
    assert rows(long, changed) == rows(long) + rows(changed)
    others = [torch.ones(3, dtype=kind) for kind in (torch.bool, torch.complex64)]
    others += [torch.ones(0), torch.ones(3, device="meta")]
    assert len(set(rows(*others))) == 3  # of no elements and of no data there is nothing to be told
    assert "temb" in SIGNALS and "prompt" not in SIGNALS
