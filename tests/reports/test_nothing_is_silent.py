"""A run that could have skipped and did not says so once, with the reason; what can't be used is refused by name."""

import warnings

import numpy as np
import pytest
import torch
from loops import LATENT, bar, noise, pipeline, prompt, sample, skipped, small
from PIL import Image

import synccache
from synccache import Anatomy, InputError, Method, Notice
from synccache.forecasters import Reuse
from synccache.gates import Never
from synccache.scopes import Segments

STEPS = 12


def steps_of(model, latent=lambda x, v, step: x - 0.05 * v, passes=lambda step: prompt(1), steps=STEPS, seed=1):
    """A loop whose next latent, and whose conditioning, may be anything."""
    x = noise(seed, *LATENT)
    with torch.no_grad():
        for step, t in enumerate(torch.linspace(1000, 50, steps)):
            given = passes(step)
            batch = given.pop("batch", 1)
            v = model(x.repeat(batch, 1, 1, 1, 1), t.expand(batch), **given, return_dict=False)[0][:1]
            x = latent(x, v, step)


def anew(x, v, step):
    return noise(50 + step, *LATENT)


def wider(step):
    batch = 1 + step % 2
    return {"encoder_hidden_states": prompt(1)["encoder_hidden_states"].repeat(batch, 1, 1), "batch": batch}


# method, its settings, what the loop does, the reason, what to do
RUNS = {
    "an error that is always over": ("synccache", {"threshold": 1e-9}, {}, "error", "raise threshold="),
    "a warm-up as long as the run": ("interval", {"warmup": STEPS}, {}, "warm-up", "lower warmup="),
    "samples that come and go": ("interval", {}, {"passes": wider}, "no anchors", "batch sizes"),
    "another prompt at each step": ("interval", {}, {"passes": prompt}, "new conditioning", "another"),
    "latents of one generation each": ("interval", {}, {"latent": anew}, "", r"handle\.at\(run=\.\.\.\)"),
    "not a number": ("synccache", {}, {"latent": lambda x, v, step: x * float("nan")}, "", "start of a run of its own"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_could_have_skipped_and_did_not_says_once_why(name):
    method, settings, loop, reason, advice = RUNS[name]
    model = small()
    with synccache.cached(model, method, steps=STEPS, **settings) as handle:
        with pytest.warns(Notice, match=f"'{method}' left out nothing.*{reason}.*{advice}") as said:
            steps_of(model, **loop)
            steps_of(model, **loop, seed=2)
        assert len(said) == 1 and skipped(handle) == 0
        assert "reasons: " in handle.trace.summary() and (reason or "step") in handle.trace.summary()


def test_a_run_that_skips_says_nothing():
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method, settings in (("interval", {}), ("synccache", {"threshold": 0.5}), ("none", {})):
            with synccache.cached(model, method, steps=STEPS, **settings) as handle:
                steps_of(model)
                steps_of(model, steps=7, seed=2)  # cancelled
                steps_of(model, seed=3)
                assert skipped(handle) > 5 or method == "none"
        with synccache.cached(model, Method(Never(), Segments(), Reuse()), steps=STEPS):
            steps_of(model)  # it is meant to


def test_runs_that_are_cancelled_in_their_warm_up_say_nothing():
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with synccache.cached(model, "easycache", threshold=3.0, steps=20) as handle:
            for seed in range(3):
                sample(model, [prompt(seed)], noise(seed, *LATENT), stop=6)
            assert len(handle.trace.runs) == 3 and skipped(handle) == 0


def test_the_summary_counts_reasons():
    model = small()
    with synccache.cached(model, "interval", steps=20) as handle:
        sample(model, [prompt(1), prompt(2)], noise(1, *LATENT))
        (line,) = (line for line in handle.trace.summary().splitlines() if line.startswith("reasons: "))
        assert line == "reasons: every 3 7, warm-up 1" and bar(handle).count("#") == 8


def test_autograd_is_said():
    model = small()
    with synccache.cached(model, "interval", steps=STEPS) as handle:
        with pytest.warns(Notice, match="Autograd is recording, so every step is computed") as said:
            for t in (900.0, 800.0, 700.0):
                model(noise(1, *LATENT), torch.tensor([t]), **prompt(1), return_dict=False)
        assert len(said) == 1 and len(handle.trace) == 0


@pytest.mark.parametrize("passes", ["one", "both in one batch"])
def test_a_method_for_other_passes_that_finds_none(passes):
    pipe = pipeline(small())
    see = (lambda x: x) if passes == "one" else lambda x: x.repeat(2, 1, 1, 1, 1)
    text = prompt(1)["encoder_hidden_states"]
    given = {"encoder_hidden_states": text if passes == "one" else text.repeat(2, 1, 1), "see": see}
    x, scheduler = noise(1, *LATENT), pipe.scheduler
    scheduler.set_timesteps(STEPS)
    with synccache.cached(pipe, "uncond-reuse") as handle, torch.no_grad():
        with pytest.warns(Notice, match="leaves out other guidance branches only.*no step has called") as said:
            for t in scheduler.timesteps:
                batch = 1 if passes == "one" else 2
                v = pipe.transformer(see(x), t.expand(batch), given["encoder_hidden_states"], return_dict=False)[0]
                x = scheduler.step(v[:1], t, x, return_dict=False)[0]
        assert len(said) == 1 and skipped(handle) == 0


# -- names and masks that can't be used ------------------------------------------------------------------------------


WRONG = [
    ("timestep", "t", "without 't'"), ("latent", "x", "without 'x'"),
    ("timestep", "hidden_states", "more than a number for each token as 'hidden_states'"),
    ("timestep", "encoder_hidden_states", "more than a number for each token as 'encoder_hidden_states'"),
    ("timestep", "return_dict", "no number as 'return_dict'"), ("latent", "return_dict", "no tensor as 'return_dict'"),
    ("latent", "timestep", "no tensor as 'timestep'"), ("latent", "attention_kwargs", "without 'attention_kwargs'"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "name", "how"), WRONG)
def test_a_wrong_name_is_refused_at_the_first_call_by_that_name(what, name, how):
    model = small()
    names = {"timestep": "timestep", "latent": "hidden_states", what: name}
    anatomy = Anatomy("mine", tuple(model.blocks), **names)
    with synccache.cached(model, "interval", anatomy=anatomy, steps=STEPS) as handle, torch.no_grad():
        with pytest.raises(InputError, match=rf"WanTransformer3DModel\(.*was called.*{how}.*gives as the {what}"):
            model(noise(1, *LATENT), torch.tensor([900.0]), **prompt(1), return_dict=False)
        assert len(handle.trace) == 0


def test_the_right_names_whatever_form_the_values_have():
    """A number, a batch of them, one for each frame or token, in one, two or five dimensions; a list of latents."""
    forms = [torch.full(shape, 900.0) for shape in ((), (1,), (1, 3), (1, 24, 1), (1, 1, 3, 1, 1))]

    class Any(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))

        def forward(self, x, t):
            h = torch.stack(x) if isinstance(x, list) else x
            for block in self.blocks:
                h = block(h)
            return h

    model = Any()
    anatomy = Anatomy("any", tuple(model.blocks), timestep="t", latent="x", streams={"Linear": {"input": 0}})
    method = Method(Never(), Segments(), Reuse())
    for t in [*forms, 900.0, 900]:
        for x in (noise(1, 1, 6, 4), [noise(1, 6, 4)]):
            with synccache.cached(model, method, anatomy=anatomy) as handle, torch.no_grad():
                model(x, t)
                assert [r.timestep for r in handle.trace] == [900.0]


@pytest.fixture
def picture(tmp_path):
    person = np.zeros((40, 60), np.uint8)
    person[10:30, 20:40] = 255
    Image.fromarray(person).save(tmp_path / "person.png")
    return person, tmp_path / "person.png"


def test_a_mask_is_a_file_a_picture_an_array_or_a_tensor(picture):
    person, path = picture
    share = person.mean() / 255
    forms = [
        path, str(path), Image.open(path), Image.fromarray(person).convert("RGB"), Image.fromarray(person).convert("1"),
        person, person > 0, person / 255, torch.from_numpy(person), torch.from_numpy(person > 0),
        (person / 255).tolist(), np.stack([person] * 3),
    ]  # fmt: skip
    model = small()
    for mask in forms:
        with synccache.cached(model, "synccache", mask=mask, threshold=0.3, steps=STEPS) as handle:
            assert float(handle.mask.mean()) == pytest.approx(share, abs=1e-6)
            steps_of(model)
            assert skipped(handle) > 0


UNUSABLE = {
    "no such file": "nowhere.png", "nothing of the kind": object(), "a word": "person",
    "five dimensions": np.ones((1, 1, 1, 4, 4)), "nothing in it": np.ones((0, 4)), "out of range": np.full((4, 4), 7.0),
    "not a number": torch.full((4, 4), float("nan")), "one number": 0.5, "channels": np.zeros((40, 60, 3), np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_mask_that_can_not_be_used_is_refused_when_it_is_given(name, tmp_path):
    model = small()
    with pytest.raises(InputError, match=r"[Mm]ask"):
        synccache.apply(model, "synccache", mask=UNUSABLE[name])
    assert not hasattr(model.blocks[0], "_hook") and "_call_impl" not in model.__dict__  # and nothing was attached


def test_a_file_that_is_no_picture_is_refused_by_its_name(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"notes\.png can't be read as a mask"):
        synccache.apply(small(), "synccache", mask=tmp_path / "notes.png")


def test_a_mask_on_a_model_whose_grid_is_not_known_is_said():
    model = small()
    anatomy = Anatomy("mine", tuple(model.blocks))
    with synccache.cached(model, "synccache", mask=np.eye(4), anatomy=anatomy, threshold=0.5, steps=STEPS):
        with pytest.warns(Notice, match="mask is not used: the model's token grid is not known") as said:
            steps_of(model)
        assert len(said) == 1


def test_what_is_told_is_a_number_of_a_step():
    with synccache.cached(small(), "interval", steps=STEPS) as handle:
        for wrong in ({"step": -1}, {"step": 1.5}, {"step": True}, {"step": "1"}, {"total": 0}, {"total": 2.0}):
            (name, value), = wrong.items()  # fmt: skip
            with pytest.raises(InputError, match=f"{name}={value!r} is no {name} of a run"), handle.at(**wrong):
                pass
