"""transform_param against a slow model of the original's order of work."""

import numpy as np
import pytest

from atrouscaffe.data.transform import Transform
from atrouscaffe.errors import DataError, LayerError
from atrouscaffe.formats.fields import default_fields


class Draws:
    """A generator that hands out what it is told and notes what it was asked."""

    def __init__(self, *values):
        self.values, self.asked = list(values), []

    def integers(self, high):
        self.asked.append(int(high))
        return self.values.pop(0)


def pair(height, width):
    rng = np.random.default_rng(height * width)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 21, (height, width)).astype(np.uint8)


MEAN = (104.008, 116.669, 122.675)


def padded_model(image, label, crop, offset, flip, scale=1.0):
    """Pad with the mean to the crop, cut, flip, subtract: the original's steps one by one, in float64."""
    height, width = label.shape
    full_h, full_w = max(height, crop[0]), max(width, crop[1])
    values = np.empty((full_h, full_w, 3))
    values[:] = MEAN
    values[:height, :width] = image
    labels = np.full((full_h, full_w), 255.0)
    labels[:height, :width] = label
    part = np.s_[offset[0]:offset[0] + crop[0], offset[1]:offset[1] + crop[1]]
    values, labels = (values[part] - MEAN) * scale, labels[part]
    if flip:
        values, labels = values[:, ::-1], labels[:, ::-1]
    return values.transpose(2, 0, 1), labels[None]


@pytest.mark.parametrize(("size", "asked", "draws"), [
    ((15, 17), [2, 5, 5], (1, 3, 2)), ((9, 11), [2, 1, 1], (0, 0, 0)), ((9, 20), [2, 1, 8], (1, 0, 6)),
])
def test_training_crop_draws_mirror_row_column_and_pads_bottom_and_right(size, asked, draws):
    image, label = pair(*size)
    transform = Transform(11, 13, mirror=True, scale=0.5, mean_values=MEAN, train=True)
    rng = Draws(*draws)
    data, labels = transform.image_and_label(image, label, 255, rng)
    want_data, want_labels = padded_model(image, label, (11, 13), draws[1:], draws[0], 0.5)
    assert rng.asked == asked
    assert np.abs(data - want_data).max() < 1e-4
    assert np.array_equal(labels, want_labels)
    assert data.dtype == labels.dtype == np.float32


def test_padding_is_exactly_zero_and_ignore_label():
    image, label = pair(5, 7)
    data, labels = Transform(9, 9, mean_values=MEAN).image_and_label(image, label, 254, Draws())
    assert not data[:, 5:].any()
    assert not data[:, :, 7:].any()
    assert (labels[0, 5:] == 254).all()
    assert (labels[0, :5, 7:] == 254).all()


def test_scale_factor_is_drawn_after_mirror_and_sizes_are_cut_off():
    image, label = pair(15, 17)
    transform = Transform(8, 8, mirror=True, mean_values=MEAN, scale_factors=(0.5, 1.5), train=True)
    rng = Draws(0, 1, 3, 4)
    data, labels = transform.image_and_label(image, label, 255, rng)
    assert rng.asked == [2, 2, int(22.5) - 8 + 1, int(25.5) - 8 + 1]
    assert data.shape == (3, 8, 8)
    assert set(np.unique(labels)) <= set(np.unique(label))  # nearest pixel: no mixed classes


def test_centre_crop_rounds_down_in_test_phase():
    image, label = pair(14, 16)
    data, labels = Transform(9, 9).image_and_label(image, label, 255, Draws())
    assert np.array_equal(data, image[2:11, 3:12].transpose(2, 0, 1))
    assert np.array_equal(labels[0], label[2:11, 3:12])


def test_mean_picture_moves_with_the_crop_and_is_flipped_with_the_image():
    image, _ = pair(10, 12)
    mean = np.random.default_rng(0).random((3, 10, 12)).astype(np.float32)
    data = Transform(6, 5, mirror=True, mean_image=mean, train=True).image(image, Draws(1, 4, 2))
    want = (image.transpose(2, 0, 1) - mean)[:, 4:10, 2:7][:, :, ::-1]
    assert np.array_equal(data, want.astype(np.float32))


def test_one_mean_value_serves_all_channels_and_two_are_refused():
    image, _ = pair(4, 5)
    assert np.array_equal(Transform(mean_values=(7.0,)).image(image, Draws()), image.transpose(2, 0, 1) - np.float32(7))
    with pytest.raises(LayerError, match="one mean_value or 3"):
        Transform(mean_values=(1.0, 2.0)).image(image, Draws())


def test_gray_pictures_have_one_channel():
    image, _ = pair(4, 5)
    assert Transform(scale=2.0).image(image[..., 0], Draws()).shape == (1, 4, 5)


def test_wrong_sizes_are_data_errors():
    image, label = pair(6, 7)
    with pytest.raises(DataError, match="label map has 6x6"):
        Transform().image_and_label(image, label[:, :6], 255, Draws())
    with pytest.raises(DataError, match="smaller than the crop"):
        Transform(8, 8).image(image, Draws())
    with pytest.raises(DataError, match="mean_file"):
        Transform(mean_image=np.zeros((3, 5, 5), np.float32)).image(image, Draws())


def fields(**given):
    return default_fields("TransformationParameter").replace(**given)


@pytest.mark.parametrize("given", [
    {"crop_height": 5}, {"crop_size": 5, "crop_height": 4, "crop_width": 4}, {"mean_file": "m", "mean_value": (1.0,)},
    {"scale_factors": (1.0, 0.0)}, {"scale": float("nan")}, {"mean_value": (float("inf"),)},
])
def test_contradictory_options_are_refused(given):
    with pytest.raises(LayerError):
        Transform.from_fields(fields(**given), train=True)


def test_options_are_taken_over():
    given = fields(crop_size=5, mirror=True, scale=0.25, mean_value=(1.0, 2.0, 3.0))
    transform = Transform.from_fields(given, train=True)
    assert transform == Transform(5, 5, True, 0.25, (1.0, 2.0, 3.0), None, (), True)
    assert transform.out_shape(3, 9, 9) == (3, 5, 5)
    assert Transform().out_shape(3, 8, 9) == (3, 8, 9)
