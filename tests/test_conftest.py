import os

import pytest
import torch

AT_IMPORT = torch.get_num_threads()


def test_the_processes_that_run_tests_share_the_cores():
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    assert torch.get_num_threads() * processes <= max(len(os.sched_getaffinity(0)), processes)


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_number_of_threads_does_not_outlive_its_test(turn):
    assert torch.get_num_threads() == AT_IMPORT
    torch.set_num_threads(AT_IMPORT + 1)
