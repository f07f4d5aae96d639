"""A way round a fault of PyTorch: gradients that are not written, of convolutions of short volumes.

On processors with AMX, oneDNN's convolutions in bfloat16 leave a part of the weights' gradient as
the memory happened to be, where the first axis of a volume is shorter than the kernel (seen in
torch 2.13 with a kernel of 3 on 2 voxels, which is what four stages make of a crop of 16). Zeros
that are added by hand, instead of by the convolution, make the axis long enough.
"""

from types import MethodType

from torch import Tensor, nn
from torch.nn import functional as F


def lengthen_short_axes(network: nn.Module) -> None:
    """Let every 3D convolution of ``network`` add its zeros by hand where an axis is short.

    Values stay as they are, as do names and weights; doing it twice changes nothing.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d) and layer.padding_mode == "zeros":
            layer._conv_forward = MethodType(_conv_forward, layer)  # type: ignore[method-assign]


def _conv_forward(self: nn.Conv3d, x_BCIJK: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    first = self.padding[0]
    span = self.dilation[0] * (self.kernel_size[0] - 1) + 1
    if isinstance(first, str) or not first or not 1 < x_BCIJK.shape[2] < span:
        y_BCIJK: Tensor = nn.Conv3d._conv_forward(self, x_BCIJK, weight, bias)
        return y_BCIJK
    longer = F.pad(x_BCIJK, (0, 0, 0, 0, first, first))
    padding = (0, *self.padding[1:])
    return F.conv3d(longer, weight, bias, self.stride, padding, self.dilation, self.groups)
