"""Training on smaller images first, which costs a step less, and at the prepared size in the end.

In: the epoch, and how it is to be. Out: pixels a side, and images scaled down to it. Progressive resizing: Howard's
entry to DAWNBench (2018) and Tan & Le, EfficientNetV2 (2021), section 4, who let the size grow in stages.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDING = 1e-9  # 0.29 x 100 is a little less than 29


@dataclass(frozen=True)
class Resolution:
    """How large training images are.

    Attributes:
        start: pixels a side of the first epochs, below `end`.
        end: of the others: that of the prepared images.
        at: share of the epochs, above 0 and below 1, that are small ones at most.
        epochs: of the whole training.
    """

    start: int
    end: int
    at: float
    epochs: int

    def size(self, epoch: int) -> int:
        """Pixels a side in an epoch, 1 to `epochs`."""
        return self.start if epoch <= self.at * self.epochs + ROUNDING else self.end


def scaled_down(pixels: Tensor, size: int) -> Tensor:
    """(N, S, S, C) uint8 -> (N, size, size, C) uint8, antialiased bilinear; as they are if S is `size`.

    Computed in float32 and rounded once; a level may differ where two devices add in another order.
    """
    if pixels.shape[1] == size:
        return pixels
    planes = pixels.permute(0, 3, 1, 2).float()
    small = F.interpolate(planes, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return small.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
