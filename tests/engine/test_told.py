"""What is told of where calls belong goes first: by the handle, by diffusers' ``cache_context``, by ComfyUI."""

import threading
from contextlib import contextmanager

import pytest
import torch
from calls import Echo, X, cached, call, decisions, echo, listed, output, picture, prompt, seen

import synccache
from synccache import InputError
from synccache.testing import AddModel


@contextmanager
def attached(model=None, method=None, **given):
    model = AddModel() if model is None else model
    with cached(model, method or listed(0), **given) as handle:
        yield model, handle


def test_a_told_step_is_believed_whatever_the_call_looks_like():
    """The same timestep all the time, or one that rises; another picture each time, another length too."""
    for times in ((7, 7, 7), (7, 8, 9), (9, 7, 8)):
        with attached() as (model, handle):
            for step, t in enumerate(times):
                with handle.at(step=step):
                    output(model, t, 1, x=picture(step))
            assert seen(handle, "run", "step", "branch") == [(0, step, 0) for step in range(3)]
            assert decisions(handle) == "#.."
    with attached() as (model, handle):
        for step in (0, 3):
            with handle.at(step=step):
                call(model, 9, 1)
        with handle.at(step=4), pytest.warns(synccache.Notice, match="doesn't fit this call, so it is computed"):
            assert call(model, 9, 4, X[:, :1]) == 44
        assert seen(handle, "run", "step") == [(0, 0), (0, 3), (0, 4)] and decisions(handle) == "#.#"


def test_a_run_may_begin_at_any_told_step_which_is_computed():
    with attached() as (model, handle):
        for step in (3, 4):
            with handle.at(step=step):
                call(model, 1000, 1)
        assert seen(handle, "step", "decision", "reason") == [(3, "computed", "first step"), (4, "skipped", "listed")]


def test_a_told_step_that_goes_back_is_a_new_run():
    with attached() as (model, handle):
        for step in (0, 1, 0, 1):
            with handle.at(step=step):
                call(model, 1000, 1 + step)
        assert seen(handle, "run", "step") == [(0, 0), (0, 1), (1, 0), (1, 1)] and decisions(handle) == "#.#."


def test_passes_within_a_told_step_are_told_apart_as_ever():
    with attached(Echo()) as (model, handle):
        texts = [prompt(1), prompt(2)]
        for step, order in enumerate(((0, 1), (1, 0))):
            for number in order:
                with handle.at(step=step):
                    assert echo(model, 7, picture(1), texts[number]) == number + 1
        assert seen(handle, "step", "evaluation", "branch") == [(0, 0, 0), (0, 0, 1), (1, 0, 1), (1, 0, 0)]


def test_a_told_branch_goes_before_what_the_conditioning_says():
    with attached() as (model, handle):
        for t, names in ((1000, "ab"), (900, "ba")):
            for name in names:
                with handle.at(branch=name):
                    call(model, t, 1)
        assert seen(handle, "branch") == [("a",), ("b",), ("b",), ("a",)] and decisions(handle) == "##.."


def test_passes_that_go_by_one_name_are_counted():
    with attached(Echo()) as (model, handle):
        for t in (1000, 900):
            for number in (1, 2):
                with handle.at(branch="cond"):
                    assert echo(model, t, picture(1), prompt(number)) == number
        assert seen(handle, "branch") == [("cond",), (("cond", 1),)] * 2


def test_a_told_run_begins_when_its_name_changes_and_not_before():
    with attached() as (model, handle):
        for t, run in ((600, "a"), (600, "b"), (600, "b"), (500, None), (400, "b"), (450, "b"), (300, "a")):
            with handle.at(run=run):
                call(model, t, 1)
        assert seen(handle, "run") == [(0,), (1,), (1,), (1,), (1,), (1,), (2,)]
        assert seen(handle, "step", "branch") == [(0, 0), (0, 0), (0, 1), (1, 0), (2, 0), (3, 0), (0, 0)]


def test_same_run_holds_whatever_speaks_against_it():
    with attached() as (model, handle), handle.same_run():
        for number, t in enumerate((1000, 900, 950, 2000)):
            output(model, t, 1, x=picture(number))
        assert seen(handle, "run", "step") == [(0, 0), (0, 1), (0, 2), (0, 3)] and decisions(handle) == "#..."


def test_what_is_told_nests_and_ends_with_its_block():
    with attached() as (model, handle):
        with handle.at(request="r", branch="outer"), handle.at(step=5, total=9):
            call(model, 1000, 1)
            with handle.at(branch="inner"):
                call(model, 1000, 1)
            call(model, 900, 1)
        with pytest.raises(ZeroDivisionError), handle.at(branch="gone"):
            raise ZeroDivisionError
        call(model, 1000, 1)
        fields = seen(handle, "request", "step", "branch")
        assert fields == [("r", 5, "outer"), ("r", 5, "inner"), ("r", 5, ("outer", 1)), (None, 0, 0)]


def test_what_is_told_to_one_handle_is_not_told_to_another():
    with attached() as (model, handle), attached() as (other, others), handle.at(branch="mine", step=4):
        call(other, 1000, 1)
        with others.at(branch="theirs"):
            call(model, 1000, 1), call(other, 1000, 1)
        assert seen(handle, "branch", "step") == [("mine", 4)]
        assert seen(others, "branch", "step") == [(0, 0), ("theirs", 0)]


@pytest.mark.parametrize("told", [{"step": -1}, {"step": 1.0}, {"step": True}, {"total": 0}, {"total": "9"}])
def test_what_is_no_step_and_no_number_of_steps_is_refused(told):
    (name,) = told
    with attached() as (_, handle), pytest.raises(InputError, match=rf"^{name}=.* is no {name} of a run"):
        handle.at(**told).__enter__()


# -- diffusers' cache_context, ComfyUI's conditionings ----------------------------------------------------------------


class Named(AddModel):
    @contextmanager
    def cache_context(self, name, **fields):
        self.heard = (name, fields)
        yield


def test_diffusers_cache_context_tells_branch_step_and_length():
    with attached(Named(), steps=None) as (model, handle):
        for step, names in enumerate((("cond", "uncond"), ("uncond", "cond"))):
            for name in names:
                with model.cache_context(name, step_index=step, num_inference_steps=12, sigma=0.5):
                    assert call(model, 700, 1 if name == "cond" else 2) == (26 if name == "cond" else 32)
        assert seen(handle, "step", "branch") == [(0, "cond"), (0, "uncond"), (1, "uncond"), (1, "cond")]
        assert model.heard == ("cond", {"step_index": 1, "num_inference_steps": 12, "sigma": 0.5})
        with model.cache_context("cond", step_index=11, num_inference_steps=12):
            call(model, 700, 1)
        with model.cache_context("uncond", step_index=11, num_inference_steps=12):
            call(model, 700, 1)
        assert handle.bytes == 0  # the last step of twelve is done
    assert "cache_context" not in vars(model)


def test_anothers_cache_context_on_the_instance_is_called_and_put_back():
    model, heard = Named(), []

    @contextmanager
    def mine(name, **fields):
        heard.append(name)
        yield

    model.cache_context = mine
    with attached(model) as (_, handle):
        with model.cache_context("cond"):
            call(model, 1000, 1)
        assert seen(handle, "branch") == [("cond",)] and heard == ["cond"]
    assert model.cache_context is mine


def test_comfyui_names_branches_by_the_conditionings_of_a_call():
    class Comfy(AddModel):
        def forward(self, hidden_states, timestep, level, transformer_options):
            return super().forward(hidden_states, timestep, level)

    with attached(Comfy()) as (model, handle), torch.no_grad():
        outs = []
        for t, order in ((1000.0, "ab"), (900.0, "ba")):
            for uuid in order:
                level = torch.tensor(float("ab".index(uuid) + 1))
                outs.append(float(model(X.clone(), torch.tensor([t]), level, {"uuids": [uuid]})[0, 0, 0]))
        assert seen(handle, "branch") == [(("a",),), (("b",),), (("b",),), (("a",),)]
        assert outs == [26, 32, 32, 26]


# -- requests --------------------------------------------------------------------------------------------------------


def test_interleaved_requests_are_kept_apart_and_freed_when_they_are_done():
    with attached() as (model, handle):

        def step(request, t, level):
            with handle.at(request=request):
                return call(model, t, level)

        assert [step("a", 1000, 1), step("b", 800, 2), step("a", 900, 5), step("b", 700, 5)] == [26, 32, 26, 32]
        assert handle.trace.runs == [("a", 0), ("b", 0)]
        one = handle.bytes // 2
        handle.forget_request("a")
        assert handle.bytes == one and step("a", 850, 5) == 50 and step("b", 600, 5) == 32
        with handle.request("b"):
            assert call(model, 500, 5) == 32
        assert handle.bytes == one and step("b", 400, 5) == 50


def test_threads_with_requests_of_their_own():
    model, out = AddModel(), {}
    with cached(model, listed(0)) as handle:

        def work(name, level):
            with handle.request(name):
                out[name] = [call(model, t, level if t == 1000 else 0) for t in (1000, 900, 800, 700)]

        threads = [threading.Thread(target=work, args=(i, i)) for i in range(1, 5)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert handle.bytes == 0
    assert out == {i: [20 + 6 * i] * 4 for i in range(1, 5)}
