"""WindowData: refused by name."""

from __future__ import annotations

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Layer, register


@register
class WindowData(Layer):
    """R-CNN's sampler of windows: known by name, and refused when a net asks for it.

    It trains detectors on region proposals, for which this package has no use; a net that stems
    from one can read its images with ImageData.
    """

    type = "WindowData"
    options = "window_data_param"
    bottoms = (0, 0)
    tops = (2, 2)

    def setup(self) -> None:
        """Refuse."""
        raise LayerError("WindowData (R-CNN's sampling of region proposals) is not supported; read images with "
                         "ImageData, or leave the layer out with an include rule of the other phase")
