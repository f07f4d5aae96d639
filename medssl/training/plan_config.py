"""What ``medssl pretrain --plan`` assumes."""

from typing import Annotated

from pydantic import Field

from medssl.config.base import Config

Share = Annotated[float, Field(gt=0, le=1)]


class PlanConfig(Config):
    """What a plan assumes of the GPU; a training does not read it."""

    gpu: str = "h100"
    """Which one, such as h100, a100 or rtx4090; an unknown name lists them all."""
    compute_utilisation: Share = 0.4
    """Share of the published arithmetic rate that convolutions and products reach."""
    bandwidth_utilisation: Share = 0.7
    """Share of the published memory rate that everything else reaches."""
    launch_us: Annotated[float, Field(ge=0)] = 5.0
    """Microseconds that an operation takes however small it is."""
    reserve_gib: Annotated[float, Field(ge=0)] = 2.0
    """GPU memory for the driver, workspaces of kernels and gaps between tensors."""
