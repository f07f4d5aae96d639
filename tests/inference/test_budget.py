import pytest
import torch

from medssl.errors import RejectedFileError
from medssl.inference import budget

CPU = torch.device("cpu")


def test_the_memory_of_this_machine_is_told():
    assert 2**20 < budget.free_bytes(CPU) < 2**50


def test_a_slab_takes_a_quarter_of_little_memory_and_never_more_than_it_needs(monkeypatch):
    monkeypatch.setattr(budget, "free_bytes", lambda device: 4000)
    assert budget.rows_that_fit(100) == 10
    assert budget.rows_that_fit(10**6) == 1
    monkeypatch.setattr(budget, "free_bytes", lambda device: 2**40)
    assert budget.rows_that_fit(2**20) == 256


def test_windows_are_joined_where_there_is_room(monkeypatch):
    gpu, given = torch.device("cuda"), (10, (8, 8, 8), (100, 100, 4))
    needed = 4 * 10 * 8 * 100 * 8 * 4  # the window is thicker than the scan
    room = {"cuda": needed + 1, "cpu": needed + 1}
    monkeypatch.setattr(budget, "free_bytes", lambda device: room[device.type])
    assert budget.stitching_device(gpu, *given) == gpu
    room["cuda"] = needed
    assert budget.stitching_device(gpu, *given) == CPU
    room["cpu"] = needed
    with pytest.raises(RejectedFileError, match="more memory than there was"):
        budget.stitching_device(gpu, *given)
