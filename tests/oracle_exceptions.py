"""Recorded cases whose defect is not kept; docs/defects.md has the whole table."""

from __future__ import annotations

NOT_KEPT: dict[str, str] = {
    "v1_densecrf_batch2": "the original refines every image of a batch with the colours of the first",
    "v2_densecrf_batch2": "the original refines every image of a batch with the colours of the first",
    "v1_histogram_batch": "the original adds the counts of all images into the first image's row",
    "v1_mvn_meanonly": "the original passes the gradient unchanged, though the forward pass subtracts the mean",
    "v1_softmaxloss_all_ignored_v1": "the original divides 0 by 0 where no pixel counts; here loss and gradient are 0",
    "v2_biaschannel_bglabel_image": "the original ignores background_label with label_type IMAGE; here it counts",
}

NOT_KEPT_SOLVERS: dict[str, str] = {
    "v1_sgd_ignore": "the original never clears the loss's gradient at ignored labels: what an earlier iteration left "
                     "there is propagated again; here it is 0, as in the second fork",
}
