"""Several ranks: who decides together, and that those who do decide the same although their data differ."""

from dataclasses import replace

import pytest
import torch
import torch.multiprocessing
import two_ranks
from tiny import cached, denoise, tiny_wan

import synccache
from synccache import anatomies

THRESHOLD = 0.21  # of the context-parallel run: some steps are computed, some skipped


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes found, one dictionary each."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(two_ranks.work, args=(str(folder), THRESHOLD), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


ALONE = [[None, 1 / 10, 1 / 11, 1 / 12], [None, 6 / 30, 6 / 36, 6 / 42]]
TOGETHER = [None, 7 / 40, 7 / 47, 7 / 54]


def test_ranks_with_data_of_their_own_are_not_coupled(ranks):
    for found, errors in zip(ranks, ALONE, strict=True):
        assert found["none"]["errors"] == pytest.approx(errors)
        assert found["none"]["reductions"] == 0
    assert ranks[0]["none"]["decisions"] == ["computed", "skipped", "computed", "skipped"]
    assert ranks[1]["none"]["decisions"] == ["computed", "computed", "computed", "skipped"]


def test_ranks_of_one_group_decide_the_same(ranks):
    for found in ranks:
        assert found["world"]["errors"] == pytest.approx(TOGETHER)
        assert found["world"]["decisions"] == ["computed", "computed", "skipped", "computed"]
        assert found["world"]["calls"] == [4, 3, 3]
        assert found["world"]["reductions"] == 3  # one a step, from the second on


def test_a_smaller_group_is_not_the_world(ranks):
    for found in ranks:
        assert found["own"]["reductions"] == 3
        assert {**found["own"], "reductions": 0} == found["none"]


def test_a_model_may_say_that_all_ranks_share_a_sample(ranks):
    for found, alone in zip(ranks, ALONE, strict=True):
        for name, errors in (("off", alone), ("one each", alone), ("on", TOGETHER)):
            assert found["flags"][name] == pytest.approx(errors), name


def test_ranks_that_share_weights_decide_together(ranks):
    """Their samples are not one, but who leaves a block out leaves the other rank waiting."""
    first, second = (found["weights"] for found in ranks)
    assert first == second and 0 < first["decisions"].count("skipped") < 7


def test_ranks_that_share_tokens_skip_on_a_fixed_schedule(ranks):
    """The first block, which splits the tokens, always runs."""
    model = tiny_wan(two_ranks.LAYERS)
    plain = denoise(model)
    with cached(model, probe=0, anatomy=replace(anatomies.find(model), fixed=(0,))) as handle:
        out = denoise(model)
    for found in (r["tokens"] for r in ranks):
        torch.testing.assert_close(found["plain"], plain)
        assert found["schedule"] == handle.trace.decisions()
        torch.testing.assert_close(found["listed"], out)


def test_ranks_that_share_tokens_do_as_one_process_does(ranks):
    model = tiny_wan(two_ranks.LAYERS)
    with synccache.cached(model, two_ranks.probing(THRESHOLD)) as handle:
        out = denoise(model)
    errors = [r.error for r in handle.trace.records]
    assert 1 < handle.trace.decisions().count("computed") < 6
    for found in (r["tokens"] for r in ranks):
        assert found["errors"][1:] == pytest.approx(errors[1:], rel=1e-4)
        assert found["decisions"] == handle.trace.decisions()
        torch.testing.assert_close(found["cached"], out)
