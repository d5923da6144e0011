"""DetectionEvaluate of SSD: which detections are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError, ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.boxes import BoxLayer
from atrouscaffe.ops.boxes import overlaps
from atrouscaffe.runtime.blob import Blob

__all__ = ["DetectionEvaluate"]


@register
class DetectionEvaluate(BoxLayer):
    """Mark each detection as right or wrong, after the number of true boxes of each class.

    Bottoms: detections (1, 1, D, 7) of DetectionOutput; true boxes (1, 1, G, 8) of AnnotatedData. Top (1, 1, rows, 5):
    for each class (-1, class, true boxes, -1, -1), then for each detection (item, class, score, right, wrong).
    ``detection_evaluate_param``: num_classes, background_label_id, overlap_threshold, evaluate_difficult_gt.

    Notes
    -----
    A detection is right if the true box of its class that it overlaps most does so by overlap_threshold and is not
    taken by a better one; one whose box is difficult is neither, unless evaluate_difficult_gt. Overlaps are those of
    fractions of the image: ``name_size_file``, with which they are measured in pixels, is refused in a forward pass.
    Source: ``detection_evaluate_layer.cpp`` of SSD's Caffe.
    """

    type = "DetectionEvaluate"
    options = "detection_evaluate_param"
    bottoms = (2, 2)
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check the options."""
        if not self.p.overlap_threshold > 0:
            raise LayerError(f"overlap_threshold: expected more than 0, got {self.p.overlap_threshold:g}")
        self.labels = [label for label in range(self.want_classes()) if label != self.p.background_label_id]

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A row for each class and detection; forward knows how many are real."""
        for i, width in enumerate((7, 8)):
            if len(bottoms[i]) != 4 or bottoms[i][:2] != (1, 1) or bottoms[i][3] != width:
                raise ShapeError(f"bottom[{i}]: expected shape (1, 1, rows, {width}), got {tuple(bottoms[i])}")
        return [(1, 1, len(self.labels) + bottoms[0][2], 5)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Compare; the top changes its shape."""
        if self.p.has("name_size_file"):
            raise LayerError("name_size_file: expected none, since overlaps are those of fractions here; leave it out")
        found, truth = bottom[0].host().reshape(-1, 7), bottom[1].host().reshape(-1, 8)
        found, truth = found[found[:, 1] != -1], truth[truth[:, 0] != -1]
        counted = truth if self.p.evaluate_difficult_gt else truth[truth[:, 7] == 0]
        rows = [[-1, label, np.count_nonzero(counted[:, 1] == label), -1, -1] for label in self.labels]
        for item in np.unique(found[:, 0]):
            for label in np.unique(found[found[:, 0] == item, 1]):
                mine, boxes = (part[(part[:, 0] == item) & (part[:, 1] == label)] for part in (found, truth))
                rows += self._marked(mine[np.argsort(-mine[:, 2], kind="stable")], boxes)
        top[0].reshape(1, 1, len(rows), 5)
        top[0].array[...] = ctx.backend.asarray(np.array(rows, np.float64).reshape(top[0].shape), top[0].dtype)

    def _marked(self, found: np.ndarray, truth: np.ndarray) -> list[list[float]]:
        """Return the rows of the detections of one class in one image, best first."""
        shared = overlaps(found[:, 3:7], truth[:, 3:7])
        taken = np.zeros(len(truth), bool)
        rows = []
        for i, (item, label, score, *_) in enumerate(found.tolist()):
            best = int(shared[i].argmax()) if len(truth) else -1
            if best < 0 or shared[i, best] < self.p.overlap_threshold:
                right, wrong = 0, 1
            elif truth[best, 7] and not self.p.evaluate_difficult_gt:
                right, wrong = 0, 0
            else:
                right, wrong = int(not taken[best]), int(taken[best])
                taken[best] = True
            rows.append([item, label, score, right, wrong])
        return rows
