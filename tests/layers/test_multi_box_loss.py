"""MultiBoxLoss against loops written from SSD's definition."""

import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError, ShapeError
from atrouscaffe.ops.boxes import encode
from tests.check import check_layer, make_net
from tests.layers.test_detection_output import BOXES, CLASSES, PRIOR, PRIORS, VARIANCES, iou, naive_decode

DRAW = np.random.default_rng(7)
LOCATIONS = DRAW.standard_normal((3, PRIORS * 4)).astype(np.float32)
SCORES = DRAW.standard_normal((3, PRIORS * CLASSES)).astype(np.float32)
NEAR = BOXES + DRAW.uniform(-0.04, 0.04, BOXES.shape)
TRUTH = np.array([[0, 1, 0, *NEAR[0], 0], [0, 2, 1, *NEAR[3], 0], [0, 2, 2, *NEAR[5], 1], [2, 1, 0, *NEAR[7], 0]],
                 np.float32).reshape(1, 1, 4, 8)
BOTTOMS = {"loc": LOCATIONS, "conf": SCORES, "prior": PRIOR, "gt": TRUTH}


def multi_box(options="", loss="", propagate=""):
    words = " ".join(f'bottom: "{name}"' for name in BOTTOMS)
    return (f'layer {{ name: "l" type: "MultiBoxLoss" {words} top: "y" {propagate} loss_param {{ {loss} }} '
            f"multibox_loss_param {{ num_classes: {CLASSES} {options} }} }}")


def match(boxes, truth, threshold=0.5, bipartite=False, inside=False):
    index, best = [-1] * PRIORS, [0.0] * PRIORS
    shared = {}
    for i in range(PRIORS):
        if inside and any(not 0 <= v <= 1 for v in boxes[i]):
            index[i] = -2
            continue
        for j, box in enumerate(truth):
            if iou(boxes[i], box) > 1e-6:
                shared[i, j] = iou(boxes[i], box)
                best[i] = max(best[i], shared[i, j])
    pool = set(range(len(truth)))
    while pool:
        pairs = [(shared[i, j], i, j) for i, j in shared if index[i] == -1 and j in pool]
        if not pairs:
            break
        _, i, j = max(pairs)
        index[i] = j
        pool.remove(j)
    if not bipartite:
        for i in range(PRIORS):
            pairs = [(shared[i, j], j) for j in range(len(truth)) if (i, j) in shared and shared[i, j] >= threshold]
            if index[i] == -1 and pairs:
                index[i] = max(pairs)[1]
    return index, best


def softmax_loss(scores, label):
    return np.log(np.exp(scores).sum()) - scores[label]


def logistic_loss(scores, label):
    target = np.arange(CLASSES) == label
    return (np.logaddexp(0, scores) - scores * target).sum()


def smooth(d):
    return np.where(abs(d) < 1, d * d / 2, abs(d) - 0.5).sum()


def square(d):
    return (d * d / 2).sum()


def reference(code="CORNER", mining="MAX_NEGATIVE", threshold=0.5, bipartite=False, inside=False, difficult=True,
              by_prior=True, place=smooth, score=softmax_loss, weight=1.0, ratio=3, sample=64, encoded=False,
              agnostic=False, bp_inside=False, divide="VALID", counts=(1, 1)):
    def loss(bottoms, _):
        total_place = total_score = matches = 0
        for n in range(3):
            coded, scores = bottoms["loc"][n].reshape(PRIORS, 4), bottoms["conf"][n].reshape(PRIORS, CLASSES)
            rows = [row for row in TRUTH.reshape(-1, 8).astype(float) if row[0] == n and (difficult or not row[7])]
            unit = np.ones_like(VARIANCES) if encoded else VARIANCES
            boxes = BOXES if by_prior else [naive_decode(BOXES[p], unit[p], coded[p], code) for p in range(PRIORS)]
            index, best = match(boxes, [row[3:7] for row in rows], threshold, bipartite, inside)

            def label(p, index=index, rows=rows):
                return 0 if index[p] < 0 else 1 if agnostic else int(rows[index[p]][1])

            def distance(p, index=index, rows=rows, boxes=boxes, coded=coded, unit=unit):
                d = coded[p] - encode(BOXES[p], unit[p], rows[index[p]][3:7], code)
                d = d / VARIANCES[p] if encoded else d
                return np.where((np.asarray(boxes[p]) < 0) | (np.asarray(boxes[p]) > 1), 0, d) if bp_inside else d

            chosen = []
            if rows and mining != "NONE":
                costs = [score(scores[p], label(p)) for p in range(PRIORS)]
                if mining == "HARD_EXAMPLE":
                    costs = [c + (place(distance(p)) if index[p] >= 0 else 0) for p, c in enumerate(costs)]
                    best_ones = sorted(range(PRIORS), key=lambda p: -costs[p])[:sample]
                    chosen = [p for p in best_ones if index[p] == -1]
                    for p in range(PRIORS):
                        if index[p] >= 0 and p not in best_ones:
                            index[p] = -1
                else:
                    open_ = [p for p in range(PRIORS) if index[p] == -1 and best[p] < 0.5]
                    many = int(sum(i >= 0 for i in index) * ratio)
                    chosen = sorted(open_, key=lambda p: -costs[p])[:many]
            mine = [p for p in range(PRIORS) if index[p] >= 0]
            matches += len(mine)
            total_place += sum(place(distance(p)) for p in mine)
            every = mine + chosen if mining != "NONE" else range(PRIORS)
            total_score += sum(score(scores[p], label(p) if p in mine or mining != "NONE" or score is softmax_loss
                                     else -1) for p in every)
        divisor = max(1, {"VALID": matches, "BATCH_SIZE": 3, "FULL": 3 * PRIORS, "NONE": 1}[divide])
        return (weight * total_place * counts[0] + total_score * counts[1]) / divisor

    return loss


CASES = {
    "as SSD": ("code_type: CENTER_SIZE", {"code": "CENTER_SIZE"}),
    "corners": ("", {}),
    "bipartite": ("match_type: BIPARTITE neg_pos_ratio: 1.5", {"bipartite": True, "ratio": 1.5}),
    "without difficult ones": ("use_difficult_gt: false overlap_threshold: 0.3",
                               {"difficult": False, "threshold": 0.3}),
    "no mining": ("mining_type: NONE", {"mining": "NONE"}),
    "no mining, logistic": ("mining_type: NONE conf_loss_type: LOGISTIC", {"mining": "NONE", "score": logistic_loss}),
    "hard examples": ("mining_type: HARD_EXAMPLE sample_size: 4", {"mining": "HARD_EXAMPLE", "sample": 4}),
    "logistic": ("conf_loss_type: LOGISTIC", {"score": logistic_loss}),
    "squares": ("loc_loss_type: L2 loc_weight: 0.25", {"place": square, "weight": 0.25}),
    "by predictions": ("use_prior_for_matching: false overlap_threshold: 0.2", {"by_prior": False, "threshold": 0.2}),
    "encoded": ("encode_variance_in_target: true code_type: CORNER_SIZE", {"encoded": True, "code": "CORNER_SIZE"}),
    "inside only": ("ignore_cross_boundary_bbox: true bp_inside: true", {"inside": True, "bp_inside": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_multi_box_loss_is_its_definition(name, device):
    options, arguments = CASES[name]
    check_layer(multi_box(options), BOTTOMS, constant=["prior", "gt"], reference=reference(**arguments), device=device,
                tolerance=1e-5)


@pytest.mark.parametrize("mode", ["FULL", "BATCH_SIZE", "NONE"])
def test_multi_box_loss_when_normalised_otherwise_then_divided_so(mode):
    check_layer(multi_box(loss=f"normalization: {mode}"), BOTTOMS, constant=["prior", "gt"],
                reference=reference(divide=mode), gradient=False, tolerance=1e-5)


def test_multi_box_loss_when_only_scores_count_then_locations_cost_nothing():
    flags = " ".join(f"propagate_down: {word}" for word in ("false", "true", "false", "false"))
    check_layer(multi_box(propagate=flags), BOTTOMS, reference=reference(counts=(0, 1)), gradient=False, tolerance=1e-5)


def test_multi_box_loss_when_no_image_has_boxes_then_nothing_costs():
    net = make_net(multi_box(), BOTTOMS | {"gt": np.full((1, 1, 1, 8), -1, np.float32)})
    assert net.forward()["y"] == 0
    net.backward()
    assert not net.blobs["loc"].diff.any() and not net.blobs["conf"].diff.any()


@pytest.mark.parametrize("label", [0, CLASSES, -2])
def test_multi_box_loss_when_a_class_is_none_then_refused(label):
    truth = TRUTH.copy()
    truth[0, 0, 1, 1] = label
    with pytest.raises(DataError, match=f"got {label}"):
        make_net(multi_box(), BOTTOMS | {"gt": truth}).forward()


@pytest.mark.parametrize(("options", "bottoms", "error", "told"), [
    ("share_location: false", {}, LayerError, "share_location"), ("nms_param { }", {}, LayerError, "nms_param"),
    ("do_neg_mining: false", {}, LayerError, "do_neg_mining"), ("background_label_id: 3", {}, LayerError, "background"),
    ("", {"gt": TRUTH[..., :7]}, ShapeError, r"bottom\[3\]")])
def test_multi_box_loss_when_it_cannot_be_taken_then_refused(options, bottoms, error, told):
    with pytest.raises(error, match=told):
        make_net(multi_box(options), BOTTOMS | bottoms)
