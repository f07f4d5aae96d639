"""Processor, memory and GPU while a run is under way, sampled by a thread."""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_log = logging.getLogger(__name__)

Record = Callable[[Mapping[str, float], int], None]

_MB = 1e6
_PREFIX = "system/"
"""What MLflow's page shows under "System metrics"; the names after it are MLflow's own."""


class SystemSampler:
    """Records ``system/...`` every ``every_s`` seconds; the steps go on where a run is resumed."""

    def __init__(self, record: Record, every_s: float, steps_before: Mapping[str, int]) -> None:
        self._record, self._every_s = record, every_s
        earlier = (step for name, step in steps_before.items() if name.startswith(_PREFIX))
        self._step = max(earlier, default=0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="medssl-system", daemon=True)

    def start(self) -> None:
        """Begin, unless the interval is 0."""
        if self._every_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """End; a sample under way is waited for a moment."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _work(self) -> None:
        read = SystemReader()
        while not self._stopped.wait(self._every_s):
            self._step += 1
            try:
                self._record(read(), self._step)
            except Exception as error:  # noqa: BLE001 - a driver that fails: the work goes on
                _log.debug("The machine could not be read (%s)", type(error).__name__)


class SystemReader:
    """Reads the machine's numbers; utilisation is that since the last reading."""

    def __init__(self) -> None:
        import psutil  # type: ignore[import-untyped]

        self._psutil, self._process = psutil, psutil.Process()
        self._gpus = _gpu_reader()
        psutil.cpu_percent()

    def __call__(self) -> dict[str, float]:
        """Return name -> number; memory in megabytes (1e6 bytes), as MLflow counts it."""
        memory = self._psutil.virtual_memory()
        numbers = {
            "cpu_utilization_percentage": self._psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.percent,
            "process_memory_usage_megabytes": self._process_bytes() / _MB,
        }
        for index, gpu in enumerate(self._gpus()):
            numbers |= {f"gpu_{index}_{name}": value for name, value in gpu.items()}
        return {f"{_PREFIX}{name}": float(value) for name, value in numbers.items()}

    def _process_bytes(self) -> float:
        """Return what this process and those it started hold; shared pages count in each."""
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except self._psutil.Error:  # it ended meanwhile
                continue
        return float(total)


def _gpu_reader() -> Callable[[], Iterator[dict[str, float]]]:
    """Return what reads the GPUs: NVIDIA's library where it is installed, else PyTorch's."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handles = [_nvml_handle(nvml, name) for name in _visible(nvml.nvmlDeviceGetCount())]
        for handle in handles:
            _nvml_numbers(nvml, handle)
    except Exception:  # noqa: BLE001 - not installed, no driver or permission, part of a GPU (MIG)
        return _torch_gpus
    return lambda: (_nvml_numbers(nvml, handle) for handle in handles)


def _visible(count: int) -> list[str]:
    """Return the GPUs of this process: numbers, or the UUIDs that a cluster gives out."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if given is None else given.split(",")
    return [name.strip() for name in names if name.strip()]


def _nvml_handle(nvml: Any, name: str) -> Any:
    if name.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)


def _nvml_numbers(nvml: Any, handle: Any) -> dict[str, float]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "memory_usage_megabytes": memory.used / _MB,
        "memory_usage_percentage": 100 * memory.used / memory.total,
        "utilization_percentage": nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    }


def _torch_gpus() -> Iterator[dict[str, float]]:
    torch = sys.modules.get("torch")  # a sampler must not be what starts CUDA
    if torch is None or not torch.cuda.is_initialized():
        return
    for index in range(torch.cuda.device_count()):
        if not torch.cuda.memory_reserved(index):  # asking would open it, and take memory there
            continue
        free, total = torch.cuda.mem_get_info(index)
        used = total - free
        yield {
            "memory_usage_megabytes": used / _MB,
            "memory_usage_percentage": 100 * used / total,
        }
