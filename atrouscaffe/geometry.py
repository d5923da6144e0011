"""Output sizes as Caffe rounds them; integers only.

Source: ``conv_layer.cpp``, ``pooling_layer.cpp``, ``interp_layer.cpp`` of the forks
(DEEPLAB: effective kernel ``k + (k-1)(hole-1)``).
"""

from __future__ import annotations

from dataclasses import dataclass

from atrouscaffe.errors import ShapeError

__all__ = ["Window", "interp_size"]


@dataclass(frozen=True)
class Window:
    """A window that slides along one axis.

    Attributes
    ----------
    kernel, stride, pad, hole : int
        ``hole`` is the distance between two taps (dilation); 1 is an ordinary window.
    """

    kernel: int
    stride: int = 1
    pad: int = 0
    hole: int = 1

    @property
    def extent(self) -> int:
        """Pixels from the first tap to the last, both counted."""
        return self.kernel + (self.kernel - 1) * (self.hole - 1)

    def conv_size(self, n: int) -> int:
        """Output size of a convolution over `n` pixels: rounds down.

        Raises
        ------
        ShapeError
            The window does not fit into the padded input once.
        """
        span = n + 2 * self.pad - self.extent
        if span < 0:
            raise ShapeError(f"window of {self.extent} pixels (kernel {self.kernel}, hole {self.hole}) does not fit "
                             f"into {n} pixels with pad {self.pad}; use a larger input or more pad")
        return span // self.stride + 1

    def deconv_size(self, n: int) -> int:
        """Output size of a transposed convolution over `n` pixels."""
        size = self.stride * (n - 1) + self.extent - 2 * self.pad
        if size <= 0:
            raise ShapeError(f"deconvolution of {n} pixels with kernel {self.kernel}, stride {self.stride}, "
                             f"pad {self.pad} leaves {size} pixels")
        return size

    def pool_size(self, n: int, floor: bool = False) -> int:
        """Output size of a pooling over `n` pixels.

        Rounds up (BVLC's ``round_mode: FLOOR`` rounds down); with padding, a last window that
        would begin at or behind ``n + pad`` is dropped. Rounding up, a kernel of less than a stride
        too many pixels still has one window, which ends with the image.

        Raises
        ------
        ShapeError
            There is no window.
        """
        span = n + 2 * self.pad - self.kernel
        size = span // self.stride + 1 if floor else -(-span // self.stride) + 1
        if self.pad and (size - 1) * self.stride >= n + self.pad:
            size -= 1
        if n < 1 or size < 1:
            raise ShapeError(f"pooling kernel of {self.kernel} pixels does not fit into {n} pixels with pad {self.pad}")
        return size


def interp_size(n: int, *, pad_beg: int = 0, pad_end: int = 0, zoom: int = 1, shrink: int = 1, size: int = 0) -> int:
    """Output size of an Interp layer along one axis.

    ``n + pad_beg + pad_end`` pixels (pads are crops, so at most 0) are first shrunk to
    ``(n-1)//shrink + 1`` and then zoomed to ``n + (n-1)(zoom-1)``, or set to `size` when positive.
    """
    effective = n + pad_beg + pad_end
    if effective <= 0:
        raise ShapeError(f"cropping {n} pixels by {-pad_beg} and {-pad_end} leaves nothing")
    if size:
        return size
    effective = (effective - 1) // shrink + 1
    return effective + (effective - 1) * (zoom - 1)
