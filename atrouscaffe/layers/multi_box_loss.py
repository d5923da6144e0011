"""MultiBoxLoss of SSD: what a detector's locations and scores cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.layers.base import Context, Shape, register
from atrouscaffe.layers.boxes import BoxLayer
from atrouscaffe.layers.loss import Loss, normalization, normalizer
from atrouscaffe.ops.boxes import decode, encode, overlaps
from atrouscaffe.runtime.blob import Blob

__all__ = ["MultiBoxLoss"]


@dataclass
class _Match:
    """Of one image: the true box of each prior (-1 none, -2 left out), and the priors taken as negatives."""

    truth: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    overlap: np.ndarray
    negatives: np.ndarray


@register
class MultiBoxLoss(BoxLayer):
    """Smooth L1 or squared error of the locations of matched priors, and cross entropy of the scores.

    Bottoms: locations, scores, priors, true boxes (1, 1, G, 8): item, class, instance, xmin, ymin, xmax, ymax,
    difficult. ``multibox_loss_param``: num_classes, loc_weight, loc_loss_type, conf_loss_type, match_type,
    overlap_threshold, use_prior_for_matching, background_label_id, use_difficult_gt, mining_type, neg_pos_ratio,
    neg_overlap, sample_size, code_type, encode_variance_in_target, map_object_to_agnostic,
    ignore_cross_boundary_bbox, bp_inside; ``loss_param``: normalization (by the number of matches).

    Notes
    -----
    Each true box takes the prior that overlaps it most; with PER_PREDICTION, priors that are left take the box that
    they overlap most, from overlap_threshold on. Of the others those of the largest loss are negatives, neg_pos_ratio
    for each match. Source: ``multibox_loss_layer.cpp`` and ``bbox_util.cpp`` of SSD's Caffe. Not there:
    ``share_location: false`` and ``nms_param``, which are refused. With encode_variance_in_target the gradient is
    divided by the variances, too, which the original forgets.
    """

    type = "MultiBoxLoss"
    options = "multibox_loss_param"
    bottoms = (4, 4)
    auto_tops = 1
    is_loss = True
    backward_reads = ("bottom",)

    def setup(self) -> None:
        """Check the options."""
        p = self.p
        self.classes = self.want_classes()
        if not p.share_location:
            raise LayerError("share_location: expected true; locations for each class are not trained here")
        if p.has("nms_param"):
            raise LayerError("nms_param: expected none; examples are mined here without suppressing their neighbours")
        if p.has("do_neg_mining") and p.do_neg_mining == (p.mining_type == "NONE"):
            raise LayerError(f"do_neg_mining: expected what mining_type says ({p.mining_type})")
        softmax = p.conf_loss_type == "SOFTMAX"
        if softmax and p.background_label_id >= self.classes:
            raise LayerError(f"background_label_id: expected 0 to {self.classes - 1}, got {p.background_label_id}")
        self.mode = normalization(self.spec.fields.loss_param, "VALID")
        self.mining = p.mining_type != "NONE"
        given = self.spec.propagate_down
        self.counts = tuple(given[:2]) if given else (True, True)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """A scalar."""
        self.check_predictions(bottoms, self.classes, 1)
        if len(bottoms[3]) < 2 or bottoms[3][-1] != 8:
            raise ShapeError(f"bottom[3] (true boxes): expected 8 numbers a box, got shape {tuple(bottoms[3])}")
        return [()]

    def allows_gradient(self, bottom: int) -> bool:
        """Locations and scores."""
        return bottom < 2

    # -- matching -------------------------------------------------------------------------------

    def _truth(self, rows: np.ndarray, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes and labels of one image."""
        mine = rows[rows[:, 0] == item]
        if not self.p.use_difficult_gt:
            mine = mine[mine[:, 7] == 0]
        labels = mine[:, 1].astype(np.int64)
        bad = (labels == self.p.background_label_id) | (labels < 0)
        if not self.p.map_object_to_agnostic:
            bad |= labels >= self.classes
        if bad.any():
            raise DataError(f"bottom[3]: expected classes below {self.classes} and not the background's "
                            f"({self.p.background_label_id}), got {labels[bad][0]}")
        return mine[:, 3:7], labels

    def _match(self, boxes: np.ndarray, truth: np.ndarray, labels: np.ndarray) -> _Match:
        """Give each prior a true box, or none."""
        index = np.full(len(boxes), -1)
        if self.p.ignore_cross_boundary_bbox:
            index[((boxes < 0) | (boxes > 1)).any(axis=1)] = -2
        shared = overlaps(boxes, truth)
        shared[(shared <= 1e-6) | (index == -2)[:, None]] = 0
        best = shared.max(axis=1, initial=0)
        open_ = shared.copy()
        for _ in range(len(truth)):
            prior, box = np.unravel_index(np.argmax(open_), open_.shape)
            if open_[prior, box] <= 0:
                break
            index[prior] = box
            open_[prior], open_[:, box] = 0, 0
        if self.p.match_type == "PER_PREDICTION" and len(truth):
            more = (index == -1) & (best >= self.p.overlap_threshold) & (best > 0)
            index[more] = shared[more].argmax(axis=1)
        return _Match(truth, labels, index, best, np.zeros(0, np.int64))

    def _mine(self, match: _Match, scores: np.ndarray, distance: np.ndarray) -> None:
        """Choose the negatives of one image; HARD_EXAMPLE also gives up matches that cost little."""
        if not len(match.truth):
            return
        loss = self._score_loss(scores, self._labels(match))[0]
        if self.p.mining_type == "HARD_EXAMPLE":
            loss = loss + distance
            eligible, count = np.arange(len(loss)), self.p.sample_size
        else:
            eligible = np.flatnonzero((match.index == -1) & (match.overlap < self.p.neg_overlap))
            count = int(np.count_nonzero(match.index >= 0) * self.p.neg_pos_ratio)
        chosen = np.zeros(len(loss), bool)
        chosen[eligible[np.argsort(-loss[eligible], kind="stable")[: max(0, count)]]] = True
        unmatched = match.index == -1
        if self.p.mining_type == "HARD_EXAMPLE":
            match.index[(match.index >= 0) & ~chosen] = -1
        match.negatives = np.flatnonzero(unmatched & chosen)

    # -- losses ---------------------------------------------------------------------------------

    def _labels(self, match: _Match) -> np.ndarray:
        """Return the class that each prior should have."""
        background = int(self.p.background_label_id)
        mine = np.full(len(match.index), background)
        taken = match.index >= 0
        mine[taken] = background + 1 if self.p.map_object_to_agnostic else match.labels[match.index[taken]]
        return mine

    def _score_loss(self, scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss of each prior and its gradient by the scores; a label that is no class is all zeros."""
        target = (labels[:, None] == np.arange(self.classes)).astype(scores.dtype)
        if self.p.conf_loss_type == "SOFTMAX":
            shifted = scores - scores.max(axis=1, keepdims=True)
            total = np.exp(shifted).sum(axis=1, keepdims=True)
            return (target * (np.log(total) - shifted)).sum(axis=1), np.exp(shifted) / total - target
        loss = np.maximum(scores, 0) - scores * target + np.log1p(np.exp(-np.abs(scores)))
        return loss.sum(axis=1), 1 / (1 + np.exp(-scores)) - target

    def _place_loss(self, difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss of each location and its gradient."""
        if self.p.loc_loss_type == "L2":
            return (difference**2 / 2).sum(axis=1), difference
        size = np.abs(difference)
        return np.where(size < 1, difference**2 / 2, size - 0.5).sum(axis=1), np.clip(difference, -1, 1)

    def _differences(self, match: _Match, boxes: np.ndarray, coded: np.ndarray, priors: np.ndarray,
                     variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the matched priors, and their locations less the true ones."""
        mine = np.flatnonzero(match.index >= 0)
        unit = np.ones_like(variances[mine]) if self.p.encode_variance_in_target else variances[mine]
        found = coded[mine] - encode(priors[mine], unit, match.truth[match.index[mine]], self.p.code_type)
        if self.p.encode_variance_in_target:
            found = found / variances[mine]
        if self.p.bp_inside:
            found[(boxes[mine] < 0) | (boxes[mine] > 1)] = 0
        return mine, found

    def _image(self, coded: np.ndarray, scores: np.ndarray, rows: np.ndarray, item: int, priors: np.ndarray,
               variances: np.ndarray, slopes: tuple[np.ndarray, np.ndarray]) -> tuple[float, float, int]:
        """Return the two losses and the number of matches of one image; write the gradients into `slopes`."""
        unit = np.ones_like(variances) if self.p.encode_variance_in_target else variances
        boxes = priors if self.p.use_prior_for_matching else decode(priors, unit, coded, self.p.code_type)
        match = self._match(boxes, *self._truth(rows, item))
        if self.mining:
            mine, difference = self._differences(match, boxes, coded, priors, variances)
            distance = np.zeros(len(priors))
            distance[mine] = self._place_loss(difference)[0]
            self._mine(match, scores, distance)
        mine, difference = self._differences(match, boxes, coded, priors, variances)
        place, slope = self._place_loss(difference)
        slopes[0][mine] = slope / variances[mine] if self.p.encode_variance_in_target else slope
        chosen = np.concatenate([mine, match.negatives]) if self.mining else np.arange(len(priors))
        labels = self._labels(match)
        if not self.mining and self.p.conf_loss_type == "LOGISTIC":
            labels[match.index < 0] = -1
        loss, slope = self._score_loss(scores[chosen], labels[chosen])
        slopes[1][chosen] = slope
        return float(place.sum()), float(loss.sum()), len(mine)

    def forward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """Match, mine, and add up; the gradients are kept."""
        priors, variances = self.priors(bottom[2])
        if not (variances > 0).all():
            raise DataError("bottom[2]: expected variances above 0")
        items, rows = bottom[0].shape[0], bottom[3].host().reshape(-1, 8)
        coded = bottom[0].host().reshape(items, len(priors), 4)
        scores = bottom[1].host().reshape(items, len(priors), self.classes)
        slopes = np.zeros_like(coded), np.zeros_like(scores)
        sums = [self._image(coded[item], scores[item], rows, item, priors, variances,
                            (slopes[0][item], slopes[1][item])) for item in range(items)]
        place, score, matches = (sum(column) for column in zip(*sums)) if sums else (0.0, 0.0, 0)
        divisor = normalizer(self.mode, items, len(priors), float(matches))
        weights = (self.p.loc_weight * self.counts[0] / divisor, self.counts[1] / divisor)
        top[0].array[...] = place * weights[0] + score * weights[1]
        if ctx.keeps:
            ctx.saved["slopes"] = [slope * weight for slope, weight in zip(slopes, weights)]

    def backward(self, ctx: Context, bottom: Sequence[Blob], top: Sequence[Blob], params: Sequence[Blob]) -> None:
        """The kept gradients, times the loss's."""
        for i, slope in enumerate(ctx.saved["slopes"]):
            if ctx.propagate[i]:
                bottom[i].grad[...] = ctx.backend.asarray(slope.reshape(bottom[i].shape), bottom[i].dtype)
                bottom[i].grad[...] *= Loss.weight(top)
