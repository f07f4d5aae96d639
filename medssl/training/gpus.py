"""What GPUs can do at best, as their makers publish it."""

from dataclasses import dataclass

from medssl.errors import ConfigError


@dataclass(frozen=True)
class GPU:
    """Peak rates of one card: dense arithmetic, no sparsity, sums in 32 bits."""

    title: str
    half_tflops: float
    """10^12 FLOPs per second in bfloat16, or in float16 where there is no bfloat16."""
    single_tflops: float
    """The same in float32."""
    bandwidth_gb_s: float
    """10^9 bytes per second to and from its memory."""
    memory_gib: float
    """2^30 bytes."""


GPUS = {
    # NVIDIA H100, H200 and A100 Tensor Core GPU data sheets; the SXM modules
    "h200": GPU("NVIDIA H200 SXM", 989, 67, 4800, 141),
    "h100": GPU("NVIDIA H100 SXM", 989, 67, 3350, 80),
    "a100": GPU("NVIDIA A100 SXM 80 GB", 312, 19.5, 2039, 80),
    "a100-40": GPU("NVIDIA A100 SXM 40 GB", 312, 19.5, 1555, 40),
    # NVIDIA L40S and RTX A6000 data sheets
    "l40s": GPU("NVIDIA L40S", 362, 91.6, 864, 48),
    "a6000": GPU("NVIDIA RTX A6000", 154.8, 38.7, 768, 48),
    # Appendices of NVIDIA's Ada and Ampere GA102 architecture papers: half with sums in 32 bits
    "rtx4090": GPU("NVIDIA GeForce RTX 4090", 165.2, 82.6, 1008, 24),
    "rtx3090": GPU("NVIDIA GeForce RTX 3090", 71, 35.6, 936, 24),
    # NVIDIA V100 and T4 data sheets; float16 only
    "v100": GPU("NVIDIA V100 SXM2 32 GB", 125, 15.7, 900, 32),
    "t4": GPU("NVIDIA T4", 65, 8.1, 320, 16),
    # AMD Instinct MI300X data sheet
    "mi300x": GPU("AMD Instinct MI300X", 1307.4, 163.4, 5300, 192),
}


def find_gpu(name: str) -> GPU:
    """Return the card of that name.

    Raises:
        ConfigError: There is none of that name in the table.
    """
    card = GPUS.get(name.lower())
    if card is None:
        raise ConfigError(
            f"no GPU is known as {name!r}; known are {', '.join(GPUS)}",
            hint="take the one nearest to yours in memory and bandwidth",
        )
    return card
