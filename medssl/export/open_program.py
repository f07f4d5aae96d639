"""Run a program of torch.export as its users do, in a process of its own.

    python -I open_program.py MODEL.pt2 IN.safetensors OUT.safetensors THREADS

Neither medssl nor MONAI can be imported here, and no connection can be opened. ``IN`` holds the
inputs ``0``, ``1``, ...; ``OUT`` gets ``0/0``, ``0/1``, ...: the outputs for each, in their order.
"""

import sys
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_ASKING = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")


def refuse_connections() -> None:
    """Have this process fail, until it ends, as soon as it asks for a network."""

    def refuse(event: str, arguments: Any) -> None:
        if event in _ASKING:
            raise PermissionError("an exported model opens no connection")

    sys.addaudithook(refuse)


def main(model: str, asked: str, answered: str, threads: str) -> None:
    """Write what the program gives for every input."""
    for name in ("medssl", "monai"):
        sys.modules[name] = None  # type: ignore[assignment]  # any import of it fails
    refuse_connections()
    torch.set_num_threads(int(threads))
    network = torch.export.load(model).module()
    with torch.no_grad():
        outputs = {
            f"{name}/{number}": value.contiguous()
            for name, x_BCIJK in load_file(asked).items()
            for number, value in enumerate(network(x_BCIJK))
        }
    save_file(outputs, answered)


if __name__ == "__main__":
    main(*sys.argv[1:])
