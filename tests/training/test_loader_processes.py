"""Loader processes live through the signals that stop a training, and end with it."""

import os
import signal

import pytest
import torch
from torch.utils.data import Dataset

from medssl.training.loader_processes import Loader, ending


class Squares(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor(index**2)


def pids(batches):
    return [worker.pid for worker in batches._workers]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_at_its_very_start_does_not_end_a_process(number):
    loader = Loader(Squares(), workers=1, batch_size=2)
    with ending(loader):
        batches = iter(loader)
        (pid,) = pids(batches)
        os.kill(pid, number)  # it has not even imported torch
        assert [batch.tolist() for batch in batches] == [[0, 1], [4, 9], [16, 25]]
        os.kill(pid, number)
        assert [batch.tolist() for batch in loader] == [[0, 1], [4, 9], [16, 25]]
        assert pids(loader._iterator) == [pid]
    (worker,) = loader._iterator._workers
    worker.join(timeout=60)
    assert worker.exitcode == 0


def test_processes_end_where_the_training_breaks():
    def breaks():
        with ending(loader, None):
            next(iter(loader))
            raise ConnectionAbortedError

    loader = Loader(Squares(), workers=2, batch_size=2)
    with pytest.raises(ConnectionAbortedError):
        breaks()
    for worker in loader._iterator._workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0


def test_this_process_hears_signals_again_once_they_have_started():
    loader = Loader(Squares(), workers=1, batch_size=6)
    with ending(loader):
        next(iter(loader))
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert not blocked & {signal.SIGTERM, signal.SIGUSR1}


def test_without_processes_it_is_a_loader_like_any_other():
    loader = Loader(Squares(), workers=0, batch_size=3)
    with ending(loader):
        assert [batch.tolist() for batch in loader] == [[0, 1, 4], [9, 16, 25]]
