"""Streams of images wait for all that they must wait for."""

from __future__ import annotations

import numpy as np
import pytest

from atrouscaffe.pipeline.stream import stream_labels
from atrouscaffe.runtime.backend import get_backend
from tests import stand_in
from tests.stand_in import streams


@pytest.mark.skipif(bool(stand_in.missing()), reason=stand_in.missing() or "-")
@pytest.mark.parametrize("late", [False, True])
def test_stream_when_work_is_done_early_or_late_then_labels_are_the_same(rng, late):
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in [(5, 7), (2, 3), (11, 6), (4, 4)] * 3]
    with stand_in.stand_in(late=late) as cupy:
        backend = get_backend("cuda")
        kept = cupy.empty((11, 7), np.uint8)  # where every image leaves its labels, as in a net

        def label(on_device, image):
            inside = kept[: image.shape[0], : image.shape[1]]
            inside[...] = on_device.max(axis=2)
            return inside.copy()

        found = list(stream_labels(backend, iter(images), lambda image: image, label))
    assert len(found) == len(images)
    for labels, image in zip(found, images):
        np.testing.assert_array_equal(labels, image.max(axis=2))


@pytest.mark.skipif(bool(stand_in.missing()), reason=stand_in.missing() or "-")
def test_stream_when_nobody_wants_more_then_waits_for_its_copies(rng):
    images = [rng.integers(0, 256, (5, 7, 3), np.uint8) for _ in range(6)]
    with stand_in.stand_in(late=True):
        labels = stream_labels(get_backend("cuda"), iter(images), lambda image: image,
                               lambda there, image: there.max(axis=2))
        next(labels)
        assert any(stream.is_non_blocking for stream in streams.waiting())
        labels.close()
        assert not any(stream.is_non_blocking for stream in streams.waiting())
