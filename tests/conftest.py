"""Shared by all tests: one thread, random numbers from one seed, and ``calls``, ``models`` and ``tiny`` importable."""

import sys
from pathlib import Path

import pytest
import torch

from synccache.testing import WanModel_S2V

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def s2v():
    return WanModel_S2V().eval()
