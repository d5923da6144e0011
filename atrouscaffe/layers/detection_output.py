"""DetectionOutput of SSD: from scores and locations to a list of detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrouscaffe.errors import LayerError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.boxes import BoxLayer
from atrouscaffe.ops.boxes import decode, suppress
from atrouscaffe.runtime.blob import Blob

__all__ = ["DetectionOutput"]


@register
class DetectionOutput(BoxLayer):
    """Write the boxes of all classes that are left after non-maximum suppression, one a row.

    Bottoms: locations, scores, priors; a fourth, the image, is not read. Top (1, 1, detections, 7): item, class, score,
    xmin, ymin, xmax, ymax. ``detection_output_param``: num_classes, share_location, background_label_id, nms_param
    (nms_threshold, top_k, eta), code_type, variance_encoded_in_target, keep_top_k, confidence_threshold.

    Notes
    -----
    The number of detections is known only after forward; until then the top has one row. Without any detection it has
    one row an item, -1 but for the item's number. ``save_output_param`` and ``visualize`` write files and windows
    there and nothing here: `atrouscaffe detect` does that. Source: ``detection_output_layer.cpp`` of SSD's Caffe.
    """

    type = "DetectionOutput"
    options = "detection_output_param"
    bottoms = (3, 4)
    has_backward = False
    backward_reads = ()

    def setup(self) -> None:
        """Check the thresholds."""
        self.classes = self.want_classes()
        self.located = 1 if self.p.share_location else self.classes
        nms = self.p.nms_param
        if not nms.nms_threshold >= 0 or not 0 < nms.eta <= 1:
            raise LayerError(f"nms_param: expected nms_threshold of at least 0 and eta above 0, at most 1, "
                             f"got {nms.nms_threshold:g} and {nms.eta:g}")
        self.most = nms.top_k if nms.has("top_k") else -1
        self.least = self.p.confidence_threshold if self.p.has("confidence_threshold") else float("-inf")

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """One row; forward knows how many."""
        self.check_predictions(bottoms, self.classes, self.located)
        return [(1, 1, 1, 7)]

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Decode, suppress, keep the best; the top changes its shape."""
        priors, variances = self.priors(bottom[2])
        items = bottom[0].shape[0]
        coded = bottom[0].host().reshape(items, len(priors), self.located, 4)
        scores = bottom[1].host().reshape(items, len(priors), self.classes)
        if self.p.variance_encoded_in_target:
            variances = np.ones_like(variances)
        boxes = decode(priors[:, None], variances[:, None], coded, self.p.code_type)
        rows = [self._item(item, boxes[item], scores[item]) for item in range(items)]
        found = np.concatenate(rows) if rows else np.zeros((0, 7))
        if not len(found):
            found = np.full((items, 7), -1.0)
            found[:, 0] = np.arange(items)
        top[0].reshape(1, 1, len(found), 7)
        top[0].array[...] = ctx.backend.asarray(found.reshape(top[0].shape), top[0].dtype)

    def _item(self, item: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the detections of one image, by class and then by score."""
        nms, found = self.p.nms_param, []
        for label in range(self.classes):
            if label == self.p.background_label_id:
                continue
            mine = boxes[:, 0 if self.located == 1 else label]
            kept = suppress(mine, scores[:, label], self.least, nms.nms_threshold, self.most, nms.eta)
            head = np.broadcast_to([item, label], (len(kept), 2))
            found.append(np.concatenate([head, scores[kept, label][:, None], mine[kept]], 1))
        rows = np.concatenate(found) if found else np.zeros((0, 7))
        if -1 < self.p.keep_top_k < len(rows):
            best = np.sort(np.argsort(-rows[:, 2], kind="stable")[: self.p.keep_top_k])
            rows = rows[best]
        return rows
