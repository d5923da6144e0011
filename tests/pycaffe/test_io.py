"""caffe.io: messages, Transformer, pictures; numbers against scikit-image, SciPy and plain formulas."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import atrouscaffe.pycaffe as caffe
from atrouscaffe.errors import DataError
from atrouscaffe.pycaffe.proto import caffe_pb2


def test_blobproto_in_its_old_and_new_shape(rng):
    values = rng.random((2, 3)).astype(np.float32)
    blob = caffe_pb2.BlobProto()
    blob.data.extend(values.ravel().tolist())
    with pytest.raises(ValueError, match="6 are there"):
        caffe.io.blobproto_to_array(blob)
    blob.shape.dim.extend([2, 3])
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), values)
    blob.num, blob.channels, blob.height, blob.width = 1, 1, 2, 3
    assert caffe.io.blobproto_to_array(blob).shape == (1, 1, 2, 3)
    number = caffe_pb2.BlobProto()
    number.data.append(123)
    assert caffe.io.blobproto_to_array(number) == 123


def test_array_to_blobproto_and_back_with_gradient(rng):
    array, diff = rng.random((2, 3, 5)).astype(np.float32), rng.random((2, 3, 5)).astype(np.float32)
    blob = caffe.io.array_to_blobproto(array, diff)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), array)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), diff)


def test_vectors_of_blobs_as_strings(rng):
    arrays = [rng.random((2, 3)).astype(np.float32), rng.random(7).astype(np.float32)]
    text = caffe.io.arraylist_to_blobprotovector_str(arrays)
    assert isinstance(text, bytes) and text == caffe.io.arraylist_to_blobprotovecor_str(arrays)
    for one, other in zip(arrays, caffe.io.blobprotovector_str_to_arraylist(text)):
        np.testing.assert_array_equal(one, other)


def test_datum_keeps_bytes_floats_and_labels(rng):
    pixels = rng.integers(0, 256, (3, 4, 5)).astype(np.uint8)
    datum = caffe.io.array_to_datum(pixels, 7)
    again = caffe_pb2.Datum()
    again.ParseFromString(datum.SerializeToString())
    back = caffe.io.datum_to_array(again)
    np.testing.assert_array_equal(back, pixels)
    assert back.dtype == np.uint8 and back.flags.writeable and again.label == 7
    floats = caffe.io.array_to_datum(pixels / 7)
    np.testing.assert_allclose(caffe.io.datum_to_array(floats), pixels / 7, rtol=1e-6)
    assert caffe.io.datum_to_array(floats).dtype == np.float64 and not floats.HasField("label")
    assert len(caffe.io.array_to_datum(pixels).SerializeToString()) < len(datum.SerializeToString())
    with pytest.raises(ValueError, match="Incorrect array shape"):
        caffe.io.array_to_datum(pixels[0])


@pytest.mark.parametrize("shape", [(11, 13), (4, 3), (7, 5), (14, 2)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resize_is_that_of_scikit_image_or_scipy(rng, shape, channels, order):
    image = (rng.random((7, 5, channels)) * 200 - 50).astype(np.float32)
    if channels == 4:
        ndimage = pytest.importorskip("scipy.ndimage")
        expected = ndimage.zoom(image.astype(float), (shape[0] / 7, shape[1] / 5, 1), order=order)
    else:
        transform = pytest.importorskip("skimage.transform")
        low, span = image.min(), image.max() - image.min()
        expected = transform.resize((image - low) / span, shape, order=order, mode="constant",
                                    anti_aliasing=False) * span + low
    result = caffe.io.resize_image(image, shape, order)
    assert result.shape == (*shape, channels) and result.dtype == np.float32
    if order == 0 and channels == 4:  # where two pixels are equally near, SciPy's choice is its own
        assert (np.abs(result - expected) < 1e-4).mean() > 0.6
    else:
        np.testing.assert_allclose(result, expected, atol=1e-3)


def test_resize_of_a_constant_and_of_the_same_size(rng):
    np.testing.assert_array_equal(caffe.io.resize_image(np.full((2, 3, 3), 4.5), (5, 7)), np.full((5, 7, 3), 4.5))
    image = rng.random((5, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(caffe.io.resize_image(image, (5, 7)), image, atol=1e-6)
    with pytest.raises(ValueError, match="interp_order"):
        caffe.io.resize_image(image, (2, 2), 6)
    with pytest.raises(ValueError, match="sizes"):
        caffe.io.resize_image(image, (0, 2))


def test_oversample_cuts_corners_centre_and_mirrors(rng):
    images = rng.random((2, 7, 9, 3)).astype(np.float32)
    crops = caffe.io.oversample(images, (4, 5))
    assert crops.shape == (20, 4, 5, 3) and crops.dtype == np.float32
    for i, (y, x) in enumerate([(0, 0), (0, 4), (3, 0), (3, 4), (1, 2)]):
        np.testing.assert_array_equal(crops[10 + i], images[1, y:y + 4, x:x + 5])
        np.testing.assert_array_equal(crops[15 + i], images[1, y:y + 4, x:x + 5][:, ::-1])
    with pytest.raises(ValueError, match="7x9"):
        caffe.io.oversample(images, (8, 5))


@pytest.fixture
def transformer():
    transformer = caffe.io.Transformer({"data": (10, 3, 4, 5)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([104.0, 117.0, 123.0]))
    transformer.set_input_scale("data", 0.5)
    return transformer


def test_transformer_there_and_back(transformer, rng):
    image = rng.random((4, 5, 3)).astype(np.float32)
    copy = image.copy()
    result = transformer.preprocess("data", image)
    expected = (image.transpose(2, 0, 1)[::-1] * 255.0 - np.array([104, 117, 123.0])[:, None, None]) * 0.5
    assert result.shape == (3, 4, 5) and result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-4)
    np.testing.assert_array_equal(image, copy)
    np.testing.assert_allclose(transformer.deprocess("data", result[None]), image, atol=1e-5)


def test_transformer_resizes_to_the_input(transformer, rng):
    image = rng.random((9, 8, 3)).astype(np.float32)
    first = transformer.preprocess("data", caffe.io.resize_image(image, (4, 5)))
    np.testing.assert_array_equal(transformer.preprocess("data", image), first)


def test_transformer_takes_means_of_three_kinds(transformer, rng):
    image = np.zeros((4, 5, 3))
    full = rng.random((3, 4, 5))
    for mean in (full, full[0]):
        transformer.set_mean("data", mean)
        np.testing.assert_allclose(transformer.preprocess("data", image), -0.5 * np.broadcast_to(mean, (3, 4, 5)),
                                   rtol=1e-6)
    big = rng.random((3, 8, 10))
    transformer.set_mean("data", big)
    expected = caffe.io.resize_image(big.transpose(1, 2, 0), (4, 5)).transpose(2, 0, 1)
    np.testing.assert_allclose(transformer.preprocess("data", image), -0.5 * expected, rtol=1e-5)


def test_transformer_refuses_what_does_not_fit(transformer):
    with pytest.raises(Exception, match="not one of the net inputs"):
        transformer.preprocess("label", np.zeros((4, 5, 3)))
    with pytest.raises(Exception, match="Transpose order"):
        transformer.set_transpose("data", (1, 0))
    with pytest.raises(Exception, match="Channel swap"):
        transformer.set_channel_swap("data", (1, 0))
    with pytest.raises(ValueError, match="Mean channels incompatible"):
        transformer.set_mean("data", np.zeros(4))
    with pytest.raises(ValueError, match="Mean shape invalid"):
        transformer.set_mean("data", np.zeros((1, 3, 4, 5)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("color", [True, False])
def test_load_image_of_every_kind(tmp_path, rng, mode, color):
    from PIL import Image

    pixels = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert(mode)
    path = tmp_path / "image.png"
    image.save(path)
    loaded = caffe.io.load_image(str(path), color)
    assert loaded.shape == (5, 7, 3 if color else 1) and loaded.dtype == np.float32
    if mode in ("RGB", "RGBA"):
        expected = pixels / 255 if color else (pixels / 255 @ [0.2125, 0.7154, 0.0721])[..., None]
        np.testing.assert_allclose(loaded, expected, atol=1e-6)
    elif mode == "I;16":
        np.testing.assert_allclose(loaded[..., 0], pixels[:, :, 0] / 255, atol=1e-6)
    elif mode != "P":
        grey = np.asarray(Image.open(path).convert("L")) / 255
        np.testing.assert_allclose(loaded[..., 0], grey, atol=1e-6)


def test_load_image_of_a_missing_or_damaged_file(tmp_path):
    with pytest.raises(RuntimeError, match="no such file") as caught:
        caffe.io.load_image(str(tmp_path / "missing.jpg"))
    assert isinstance(caught.value, FileNotFoundError)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be decoded"):
        caffe.io.load_image(str(tmp_path / "bad.jpg"))


def test_load_image_reads_file_objects(rng):
    pixels = rng.integers(0, 256, (3, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    np.testing.assert_array_equal(caffe.io.load_image(file), pixels.astype(np.float32) / np.float32(255))
    with pytest.raises(DataError, match="reads bytes, got str; open it with mode 'rb'"):
        caffe.io.load_image(io.StringIO("text"))
