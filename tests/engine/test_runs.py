"""Where a run begins and what a step is: never a stale tensor, never a run cut in two."""

import pytest
import torch
from calls import EVERY_3, Echo, X, cached, call, decisions, echo, listed, output, picture, prompt, seen

import synccache
from synccache import Method
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Interval, MaxGap, Never, Threshold
from synccache.scopes import Nothing, Segments, WholeStack
from synccache.testing import AddModel, Pipeline, Video

WATCH = Method(Never(), Nothing(), Reuse())


def places(*timesteps):
    """(run, step) of calls with these timesteps and hardly changing latents."""
    model = AddModel()
    with cached(model, WATCH) as handle, torch.no_grad():
        for number, time in enumerate(timesteps):
            model(X - number / 100, torch.as_tensor(time).reshape(-1).float(), torch.tensor(1.0))
    return seen(handle, "run", "step")


def test_a_timestep_that_goes_back_is_a_new_run():
    model = AddModel()
    with cached(model, listed(0)) as handle:
        assert [call(model, t, level) for t, level in ((1000, 3.5), (900, 4), (950, 4), (900, 9))] == [41, 41, 44, 44]
        assert handle.trace.runs == [(None, 0), (None, 1)]
        assert seen(handle, "run", "step") == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert handle.trace.computed(0) == handle.trace.computed(1) == 1


def test_which_way_time_runs_is_learnt_anew_in_each_run():
    two_runs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert places(0.1, 0.2, 0.3, 0.1, 0.2) == places(0.3, 0.2, 0.1, 0.3, 0.2) == two_runs
    assert places(0.1, 0.2, 0.3, 0.25, 0.2) == places(0.3, 0.2, 0.1, 0.15, 0.2) == two_runs


def test_one_timestep_for_each_token_or_frame():
    """The first frame is clean and stays at 0; or all stay where they are but some in between."""
    assert places([900, 900, 0], [600, 600, 0], [300, 300, 0]) == [(0, 0), (0, 1), (0, 2)]
    assert places([900, 500, 0], [900, 400, 0], [900, 300, 0]) == [(0, 0), (0, 1), (0, 2)]
    assert places([900, 500, 0], [900, 400, 0], [900, 450, 0]) == [(0, 0), (0, 1), (1, 0)]


def test_a_latent_that_cant_come_from_the_step_before_begins_a_run():
    """A cancelled run leaves nothing behind, also where the next one begins at a lower noise level."""
    model = Echo()
    with cached(model, listed(0)) as handle:
        for step in range(3):
            assert echo(model, 1000 - 100 * step, picture(1, number=4) * 0.9**step) == pytest.approx(4)
        assert [echo(model, t, picture(2, number=5)) for t in (500, 400)] == [5, 5]
        assert seen(handle, "run", "step")[3:] == [(1, 0), (1, 1)] and decisions(handle) == "#..#."


def test_a_latent_that_leaps_further_than_its_timestep_begins_a_run_where_none_has_leapt_before():
    """A generation with another picture of the same scene, begun at a lower noise level."""
    model = Echo()
    with cached(model, listed(0)) as handle:
        for step in range(3):
            assert echo(model, 1000 - 20 * step, picture(1, number=4) * 0.99**step) == pytest.approx(4)
        assert [echo(model, t, picture(1, number=5) + picture(2) / 2) for t in (940, 920)] == [5, 5]
        assert seen(handle, "run", "step")[3:] == [(1, 0), (1, 1)] and decisions(handle) == "#..#."


@pytest.mark.parametrize("count", [2, 8])
def test_another_picture_in_one_place_of_a_batch_begins_a_run_of_all(count):
    """One generation of several is done, and the next one takes its place."""
    model = Echo()
    with cached(model, listed(0)) as handle, torch.no_grad():
        for step, last in enumerate((1, 1, 1, 5)):
            x = torch.cat([picture(1, number=1)] * (count - 1) + [picture(last, number=last)]) * 0.99**step
            out = model(x, torch.tensor([1000.0 - 20 * step]), prompt(0)) - x
            assert (out[:, -1, 0] / x[:, 0, 0]).tolist() == pytest.approx([7] * count, rel=0.05)
        assert seen(handle, "run", "step")[3:] == [(1, 0)] and decisions(handle) == "#..#"


def test_where_noise_is_renewed_at_each_step_the_first_leap_is_computed_and_the_next_ones_are_believed():
    model = Echo()
    with cached(model, listed(0)) as handle:
        for step in range(4):
            echo(model, 1000 - 20 * step, picture(1) + picture(10 + step) / 2)
        assert seen(handle, "run", "step") == [(0, step) for step in range(4)]
        assert decisions(handle) == "##.." and handle.trace.records[1].reason == "no anchors"


def test_on_a_schedule_that_goes_on_a_latent_may_move_far():
    """Samplers that renew their noise: half of it is another one. Without a schedule that is another picture."""
    for scheduled in (True, False):
        pipe = Pipeline(AddModel())
        pipe.scheduler.timesteps = torch.tensor([1000.0, 500.0])
        with cached(pipe if scheduled else pipe.transformer, WATCH) as handle:
            output(pipe.transformer, 1000, 1, x=picture(1))
            output(pipe.transformer, 500, 1, x=picture(1) + 2.2 * picture(2))
        assert seen(handle, "run", "step")[1] == ((0, 1) if scheduled else (1, 0))


def test_another_picture_at_the_next_timestep_of_a_schedule_is_computed():
    pipe = Pipeline(Echo())
    pipe.scheduler.set_timesteps(10)
    with cached(pipe, listed(0)) as handle:
        for step, number in enumerate((1, 1, 2, 2)):
            assert echo(pipe.transformer, 1000 - 100 * step, picture(number, number)) == number
        assert decisions(handle) == "#.#." and seen(handle, "run")[-1] == (0,)


def test_two_runs_in_a_row_give_what_they_give_alone():
    pipe = Pipeline(Video())
    anatomy = synccache.Anatomy("video", tuple(pipe.transformer.blocks), sites=(0, 2))
    with cached(pipe, EVERY_3, anatomy=anatomy) as handle:
        alone = pipe(seed=1)
        assert handle.trace.decisions() == (["computed", "skipped", "skipped"] * 7)[:20]
    with cached(pipe, EVERY_3, anatomy=anatomy):
        pipe(seed=0)
        assert torch.equal(pipe(seed=1), alone)


@pytest.mark.parametrize("shape", [(1, 4, 3, 4, 4), (1, 4, 2, 4, 6)])
def test_another_shape_is_a_new_run(shape):
    model = Video()
    with torch.no_grad(), cached(model, listed(0)) as handle:
        model(torch.ones(1, 4, 2, 4, 4), torch.tensor([1000.0]))
        model(torch.ones(shape), torch.tensor([900.0]))
        assert handle.trace.decisions() == ["computed"] and len(handle.trace.runs) == 2


class Listing(AddModel):
    """Takes its latents as a list, one for each sample."""

    def forward(self, hidden_states, timestep, level):
        return super().forward(torch.stack(hidden_states), timestep, level)


@pytest.mark.parametrize(("model", "give"), [(AddModel(), lambda x: x), (Listing(), lambda x: list(x.unbind()))])
def test_another_batch_size_drops_anchors_but_not_the_run(model, give):
    with cached(model, listed(0)) as handle, torch.no_grad():
        for t, level, batch in ((1000, 3.5, 1), (900, 4.0, 2), (800, 9.0, 2), (700, 5.0, 1)):
            out = model(give(X.repeat(batch, 1, 1)), torch.tensor([float(t)]), torch.tensor(level))
            assert float(out[0, 0, 0]) == {1000: 41, 900: 44, 800: 44, 700: 50}[t]
    assert seen(handle, "run", "step", "reason")[1:] == [(0, 1, "no anchors"), (0, 2, "listed"), (0, 3, "no anchors")]


def test_a_pipeline_whose_scheduler_was_set_anew_is_a_new_run_even_at_a_lower_timestep():
    pipe = Pipeline(AddModel())
    with cached(pipe, listed(0)) as handle:
        pipe.scheduler.set_timesteps(20)
        call(pipe.transformer, 1000, 3.5)
        pipe.scheduler.set_timesteps(20)
        assert call(pipe.transformer, 900, 4) == 44
        assert len(handle.trace.runs) == 2
        pipe.scheduler.set_timesteps(7)  # for something else: 850 is none of its timesteps
        assert call(pipe.transformer, 850, 9) == 44
        assert len(handle.trace.runs) == 2


def test_heun_evaluates_a_step_twice():
    model = AddModel()
    with cached(model, listed(0)) as handle:
        for number, t in enumerate((1000, 1000, 900, 900)):
            call(model, t, 1, X + number)
        assert seen(handle, "step", "evaluation", "branch") == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
        assert decisions(handle) == "##.."


def test_each_evaluation_of_a_step_is_decided_for_itself():
    """The second one of step 1 is called with a latent four times as large."""
    model = AddModel()
    with cached(model, Method(Threshold(0.5), WholeStack(absorb=False), Reuse())) as handle:
        for t, size in ((1000, 1), (1000, 1.01), (900, 1.02), (900, 4), (800, 4.01), (800, 4.02)):
            call(model, t, 1, size * X)
        assert seen(handle, "step", "evaluation") == [(step, second) for step in range(3) for second in (0, 1)]
        assert decisions(handle) == "##.#.."


def test_heun_with_two_branches():
    model = Echo()
    with cached(model, listed(0)) as handle:
        for number, t in enumerate((1000, 1000, 900, 900)):
            x = picture(1, number=3) * 0.99**number
            x[:, 0] = 3
            assert [echo(model, t, x, p) for p in (torch.ones(1, 4, 2), torch.zeros(1, 4, 2))] == [4, 3]
        assert seen(handle, "step", "evaluation", "branch") == [
            (step, evaluation, branch) for step in (0, 1) for evaluation in (0, 1) for branch in (0, 1)
        ]
        assert decisions(handle) == "####...."


def test_two_experts_share_the_step_index_and_nothing_else():
    pipe = Pipeline(Video(seed=0), Video(seed=1))
    with cached(pipe, Method(MaxGap(Interval(4), 4), Segments(), Reuse())) as handle:
        pipe(steps=20)
        assert len(handle.trace.runs) == 1 and len(handle.trace.steps()) == 20
        assert [r.expert for r in handle.trace.steps()] == [0] * 10 + [1] * 10
        switch = handle.trace.steps()[10]
        assert (switch.decision, switch.reason) == ("computed", "no anchors")
        # the first one's went when it was done
        assert len({r.bytes for r in handle.trace if r.step in (9, 19)}) == 1
    assert type(pipe.transformer_2) is Video


def test_reset_and_pause():
    model = AddModel()
    with cached(model, listed(0)) as handle:
        call(model, 1000, 3.5)
        handle.reset()
        assert handle.bytes == 0 and len(handle.trace) == 0
        assert call(model, 900, 4) == 44
        with handle.pause():
            assert handle.bytes == 0 and call(model, 800, 5) == 50
        assert len(handle.trace) == 1
        assert call(model, 700, 4) == 44


def test_a_never_skipping_gate_with_linear_anchors_stays_bounded():
    model = Video()
    anatomy = synccache.Anatomy("video", tuple(model.blocks), sites=(0, 2))
    with cached(model, Method(Never(), Segments(), Lagrange(1)), anatomy=anatomy) as handle:
        Pipeline(model)()
        held = [r.bytes for r in handle.trace]
        regions, branches, tokens = len(handle.regions), 2, 32 * 8 * 4
        assert set(held[4:]) == {2 * regions * branches * tokens} and max(held) == held[-1]
