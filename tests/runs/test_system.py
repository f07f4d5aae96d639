import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from medssl.runs import system
from medssl.runs.system import SystemReader, SystemSampler


def test_memory_and_processor_are_those_that_psutil_and_the_kernel_see():
    numbers = SystemReader()()
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    used_share = 100 * (1 - kib["MemAvailable"] / kib["MemTotal"])
    assert numbers["system/system_memory_usage_percentage"] == pytest.approx(used_share, abs=5)
    assert 0 <= numbers["system/cpu_utilization_percentage"] <= 100
    own = psutil.Process(os.getpid()).memory_info().rss / 1e6
    assert numbers["system/process_memory_usage_megabytes"] >= 0.8 * own


def test_the_processes_that_were_started_count():
    read = SystemReader()
    before = read()["system/process_memory_usage_megabytes"]
    command = [sys.executable, "-c", "x = bytearray(200_000_000); print(1, flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        after = read()["system/process_memory_usage_megabytes"]
        other.communicate(b"\n")
    assert after > before + 150


def test_samples_come_at_the_interval_and_go_on_from_the_last_step():
    seen = []
    sampler = SystemSampler(
        lambda numbers, step: seen.append((step, set(numbers))),
        0.05,
        {"system/cpu_utilization_percentage": 7, "loss": 900},
    )
    sampler.start()
    time.sleep(0.6)
    sampler.stop()
    count = len(seen)
    time.sleep(0.2)
    assert len(seen) == count >= 3
    assert [step for step, _ in seen] == list(range(8, 8 + count))


def test_an_interval_of_zero_samples_nothing():
    sampler = SystemSampler(pytest.fail, 0, {})
    sampler.start()
    sampler.stop()


def fake_nvml(used, asked):
    def handle(index):
        asked.append(index)
        return index

    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(used),
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetMemoryInfo=lambda i: SimpleNamespace(used=used[i], total=80_000_000_000),
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=63),
    )


def test_gpus_are_those_of_this_process(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml([0, 0, 40_000_000_000], asked))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    numbers = SystemReader()()
    assert asked == [2]
    assert numbers["system/gpu_0_memory_usage_megabytes"] == 40_000
    assert numbers["system/gpu_0_memory_usage_percentage"] == 50
    assert numbers["system/gpu_0_utilization_percentage"] == 63
    assert not any("gpu_1" in name for name in numbers)


def test_a_broken_driver_leaves_the_rest(monkeypatch):
    def broken():
        raise OSError("no driver")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=broken))
    assert SystemReader()()["system/system_memory_usage_percentage"] > 0


def test_a_gpu_whose_use_cannot_be_read_as_a_part_of_one_leaves_the_rest(monkeypatch):
    def not_supported(_):
        raise OSError("not supported")

    nvml = fake_nvml([1], [])
    nvml.nvmlDeviceGetUtilizationRates = not_supported
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert SystemReader()()["system/system_memory_usage_percentage"] > 0


def test_one_reading_that_fails_is_not_the_last(monkeypatch):
    readings = iter([OSError("lost"), {"x": 1.0}])

    def read():
        reading = next(readings, {"x": 2.0})
        if isinstance(reading, OSError):
            raise reading
        return reading

    monkeypatch.setattr(system, "SystemReader", lambda: read)
    seen = []
    sampler = SystemSampler(lambda numbers, _: seen.append(numbers), 0.02, {})
    sampler.start()
    time.sleep(0.3)
    sampler.stop()
    assert seen[:2] == [{"x": 1.0}, {"x": 2.0}]


def test_a_sampler_does_not_start_cuda(monkeypatch):
    touched = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", touched)
    assert list(system._torch_gpus()) == []


def test_without_nvidias_library_pytorch_is_asked(monkeypatch):
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        memory_reserved=lambda index: 5 * index,  # another process's GPU comes first
        mem_get_info=lambda index: {1: (30_000_000_000, 40_000_000_000)}[index],
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    (gpu,) = system._torch_gpus()
    assert gpu == {"memory_usage_megabytes": 10_000, "memory_usage_percentage": 25}
