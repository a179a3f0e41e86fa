"""Outputs filled in: of a model that doesn't run, of other guidance branches."""

from types import SimpleNamespace

import pytest
import torch
from calls import X, cached, output, value

import synccache
from synccache import InputError, Method
from synccache.core.types import Region
from synccache.engine.act.outputs import is_main
from synccache.forecasters import Lagrange, Reuse
from synccache.gates import Interval, Listed, Probe, Threshold
from synccache.scopes import Nothing, WholeModel
from synccache.testing import AddModel, Pipeline, Video


def listed(*steps, scope, forecaster=None, guidance=None):
    return Method(Listed(frozenset(steps)), scope, forecaster or Reuse(), guidance=guidance)


# -- the whole model -------------------------------------------------------------------------------------------------


class Wrapped(AddModel):
    """Gives its output in a list, as Wan's own models do."""

    def forward(self, hidden_states, timestep, level):
        return [super().forward(hidden_states, timestep, level)]


def number(out):
    (out,) = out if isinstance(out, list) else (out,)
    (found,) = out.unique().tolist()
    return found


@pytest.mark.parametrize("model", [AddModel(), Wrapped()])
@pytest.mark.parametrize(("residual", "expected"), [(False, 41), (True, 141)])
def test_the_models_output_or_its_difference_from_the_latent(model, residual, expected):
    before = [b.calls for b in model.blocks]
    with cached(model, listed(0, scope=WholeModel(residual))) as handle:
        assert number(output(model, 1000, 3.5)) == 41
        out = output(model, 900, 99, x=X + 100)
        assert number(out) == expected and isinstance(out, list) == isinstance(model, Wrapped)
        assert [b.calls - n for b, n in zip(model.blocks, before, strict=True)] == [1, 1, 1]
        assert handle.trace.decisions() == ["computed", "skipped"] and handle.bytes == X.numel() * 4
        for tensor in out if isinstance(out, list) else [out]:
            tensor.fill_(-7)
        assert number(output(model, 800, 99, x=X + 100)) == expected  # what was given out was a copy


def test_a_line_through_the_models_outputs():
    model = AddModel()
    with cached(model, listed(0, 1, scope=WholeModel(), forecaster=Lagrange(1))):
        assert [value(model, t, v) for t, v in ((1000, 1), (900, 2), (800, 99))] == [26, 32, 38]


def test_the_model_in_half_precision_storage_and_in_a_batch():
    model, x = AddModel(), torch.cat([X, X + 7])
    with cached(model, listed(0, scope=WholeModel()), storage_dtype=torch.bfloat16) as handle:
        output(model, 1000, 4, x=x)
        out = output(model, 900, 99, x=x)
        assert out.dtype is torch.float32 and out[:, 0, 0].tolist() == [44, 51]
        assert handle.bytes == x.numel() * 2
        assert value(model, 800, 1) == 26  # another batch size


def test_an_output_of_another_shape_than_the_latent_has_no_difference_from_it():
    class Narrow(AddModel):
        def forward(self, hidden_states, timestep, level):
            return super().forward(hidden_states, timestep, level)[..., :1]

    model = Narrow()
    method = listed(0, scope=WholeModel(residual=True))
    with cached(model, method) as handle, pytest.warns(synccache.Notice, match="another shape"):
        assert [value(model, 1000, 1), value(model, 900, 2)] == [26, 32]
        assert handle.trace.decisions() == ["computed", "computed"]


@pytest.mark.parametrize("gate", [Threshold(0.1, Probe())])
def test_a_gate_that_looks_inside_cant_leave_the_model_out(gate):
    model = AddModel()
    with pytest.raises(InputError, match="The gate looks into the model before it decides"):
        synccache.apply(model, Method(gate, WholeModel(), Reuse()))
    assert type(model) is AddModel


# -- other guidance branches, and nothing else -----------------------------------------------------------------------


def test_without_regions_the_conditional_branch_runs_and_the_other_is_told_from_it():
    model = AddModel()
    with cached(model, listed(0, scope=Nothing(), guidance=Reuse())) as handle:
        assert [value(model, 1000, 4), value(model, 1000, 1)] == [44, 26]
        moved = X + 5
        assert [value(model, 900, 9, x=moved), value(model, 900, 1, x=moved)] == [79, 61]  # 79 live, 61 = 79 + 26 - 44
        assert [b.calls for b in model.blocks] == [3, 3, 3]
        records = list(handle.trace)
        assert [r.decision for r in records] == ["computed", "computed", "skipped", "skipped"]
        assert [r.reason for r in records][2:] == ["listed", "guidance"]
        assert [r.bytes for r in records] == [
            X.numel() * 4,
            *[2 * X.numel() * 4] * 3,
        ]  # what the other is told from, too
        assert [value(model, 1000, 1), value(model, 1000, 0)] == [26, 20]  # another run
        assert handle.trace.decisions(-1) == ["computed"]


def test_a_direction_that_grows_evenly_without_regions():
    model = AddModel()
    method = listed(0, 1, scope=Nothing(), guidance=Lagrange(1))
    with cached(model, method, storage_dtype=torch.bfloat16) as handle:
        for t, other in ((1000, 3), (900, 2)):
            output(model, t, 4), output(model, t, other)
        assert [value(model, 800, 8), value(model, 800, 1)] == [68, 68 - 18]  # -6, -12, so -18
        assert handle.bytes == 2 * X.numel() * 2 + X.numel() * 4


def test_nothing_is_called_skipped_where_there_is_no_other_branch():
    for batched, guidance in ((True, 2.0), (False, 1.0)):
        pipe = Pipeline(Video(), batched=batched)
        plain = pipe(guidance=guidance)
        method = Method(Interval(3), Nothing(), Reuse(), guidance=Reuse())
        with cached(pipe, method) as handle, pytest.warns(synccache.Notice, match="no step has called"):
            assert torch.equal(pipe(guidance=guidance), plain)
            assert handle.trace.skipped() == 0


# -- what can't be filled in is computed, and the rest is not --------------------------------------------------------


def test_an_output_without_tensors_is_computed_and_said_so():
    class Boxed(AddModel):
        def forward(self, hidden_states, timestep, level):
            self.box = [super().forward(hidden_states, timestep, level)]
            return "in the box"

    model = Boxed()
    method = listed(0, scope=WholeModel())
    with cached(model, method) as handle, pytest.warns(synccache.Notice, match="is a str, so it is computed"):
        assert [output(model, 1000, 1), output(model, 900, 2)] == ["in the box"] * 2
        assert handle.trace.skipped() == 0 and number(model.box) == 32


def test_the_output_keeps_its_own_precision_where_the_latent_has_another():
    class Precise(AddModel):
        def forward(self, hidden_states, timestep, level):
            return super().forward(hidden_states, timestep, level).float() + 1 / 512

    model, x = Precise(), X.bfloat16()
    with cached(model, listed(0, scope=WholeModel(residual=True))):
        outs = [output(model, t, 1, x=x) for t in (1000, 900)]
    assert outs[1].dtype is torch.float32 and torch.equal(*outs)


def test_only_an_output_laid_out_as_the_main_stream_has_its_video_tokens():
    """By shape, so not where another stream has the same one."""
    video, text, part = torch.Size([1, 6, 8]), torch.Size([1, 3, 8]), Region("ff of block 0", (0,), "output", "ff")
    assert is_main(SimpleNamespace(shapes=[video, text]), part, video)
    assert not is_main(SimpleNamespace(shapes=[video, text]), part, text)
    assert not is_main(SimpleNamespace(shapes=[video, video]), part, video)
    assert not is_main(SimpleNamespace(shapes=[]), part, video)
