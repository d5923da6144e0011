"""Pictures: read as OpenCV reads them, and refused when they are something else."""

import contextlib
import io
import os
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atrouscaffe.data.header import read_header
from atrouscaffe.data.image import check_image, decode_image, image_header, read_bytes, read_image, resize_image
from atrouscaffe.errors import ArgumentError, AtrousCaffeError, DataError, FileAccessError, FileMissingError

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "PNM": ".ppm", "WebP": ".webp", "TIFF": ".tif", "GIF": ".gif"}


def picture(height=13, width=17):
    rng = np.random.default_rng(height)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (5, 5), 0)


def encoded(kind, image=None):
    buffer = io.BytesIO()
    Image.fromarray((picture() if image is None else image)[..., ::-1]).save(
        buffer, {"PNM": "PPM"}.get(kind, kind.upper()))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_header_gives_the_size_of_every_kind(kind, tmp_path):
    path = tmp_path / f"a{FORMATS[kind]}"
    path.write_bytes(encoded(kind))
    header = image_header(path)
    assert (header.kind, header.height, header.width, header.complete) == (kind, 13, 17, True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PNM", "WebP", "TIFF"])
def test_read_equals_opencv(kind, tmp_path):
    path = tmp_path / f"a{FORMATS[kind]}"
    path.write_bytes(encoded(kind))
    assert np.array_equal(read_image(path), cv2.imread(str(path)))
    assert np.array_equal(read_image(path, gray=True), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def test_lossless_picture_comes_back_as_bgr(tmp_path):
    image = picture()
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG", image))
    assert np.array_equal(read_image(path), image)


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    path = tmp_path / "a.jpg"
    Image.fromarray(picture()[..., ::-1]).save(path, exif=exif)
    assert read_image(path).shape == (13, 17, 3)


def test_16_bit_and_transparent_pictures_become_8_bit_bgr(tmp_path):
    deep = (picture().astype(np.uint16) << 8) + 7
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert np.array_equal(read_image(tmp_path / "deep.png"), picture())
    alpha = np.dstack([picture(), np.full((13, 17), 90, np.uint8)])
    cv2.imwrite(str(tmp_path / "alpha.png"), alpha)
    assert np.array_equal(read_image(tmp_path / "alpha.png"), picture())
    assert decode_image((tmp_path / "alpha.png").read_bytes(), gray=None).shape == (13, 17, 4)


def bomb(width=60000, height=60000):
    """A PNG that declares a huge size: 1000 bytes of compressed zeros and a correct end."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b""))


def test_huge_png_is_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb())
    begin = time.perf_counter()
    with pytest.raises(DataError, match=r"bomb\.png: PNG picture of 60000x60000 pixels"):
        read_image(path)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(("content", "word"), [
    (b"", "an empty file"), (b"just some words\n" * 40, "a text file"), (b"<!DOCTYPE html><html>", "HTML"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git-LFS pointer"), (bytes(100), "something else"),
    (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"), ("Umlaute äöü in latin text".encode("latin-1"), "something else"),
    (b"\x89PNG\r\n\x1a\n", "IHDR"), (b"\xff\xd8\xff", "header ends"), (b"P6 abc def", "damaged PPM"),
])
def test_files_that_are_no_pictures_are_named_for_what_they_are(content, word, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=word) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
def test_truncation_at_every_byte_is_an_error(kind):
    data = encoded(kind)
    for end in range(len(data)):
        with pytest.raises(DataError):
            decode_image(data[:end])
    assert decode_image(data).shape == (13, 17, 3)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bits_give_a_picture_or_an_error(data):
    good = bytearray(encoded(data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "PNM"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(DataError):
        assert decode_image(bytes(good), max_pixels=10**6).dtype == np.uint8


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"P6 ", b"GIF8", b"RIFF1234WEBP", b"II*\0"]),
       st.binary(max_size=200))
def test_random_bytes_give_an_error(magic, data):
    with pytest.raises(DataError):
        decode_image(magic + data, max_pixels=10**4)


def test_header_of_many_tiny_segments_ends_in_bounded_time():
    begin = time.perf_counter()
    with pytest.raises(DataError, match="JPEG"):
        read_header(b"\xff\xd8\xff" + b"\xe0\x00\x02\xff" * 3_000_000)
    with pytest.raises(DataError, match="scan"):
        read_header(b"\xff\xd8\xff\xe0\x00\x02" + bytes(30_000_000))
    assert time.perf_counter() - begin < 5


def test_missing_file_folder_and_pipe_are_told_apart(tmp_path):
    with pytest.raises(FileMissingError, match="no such file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(FileAccessError, match="folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileAccessError, match="no ordinary file"):
        read_image(tmp_path / "pipe")
    with pytest.raises(DataError, match="zero byte"):
        read_image("a\0b.png")


def test_resize_is_opencvs_linear_and_nearest():
    image = picture()
    assert np.array_equal(resize_image(image, 8, 10), cv2.resize(image, (10, 8)))
    labels = image[..., 0]
    assert set(np.unique(resize_image(labels, 5, 7, nearest=True))) <= set(np.unique(labels))


@pytest.mark.parametrize(("image", "word"), [
    (np.full((4, 5, 3), 7, np.float32), "from 0 to 1"), (np.zeros((4, 5, 2), np.uint8), r"\(H, W, 3\)"),
    (np.zeros((0, 5, 3), np.uint8), r"\(H, W, 3\)"), ([1, 2], "list"),
])
def test_arrays_that_are_no_pictures_are_refused(image, word):
    with pytest.raises(ArgumentError, match=word):
        check_image(image)


def test_gray_array_becomes_three_channels_and_a_path_is_read(tmp_path):
    gray = picture()[..., 0]
    assert np.array_equal(check_image(gray), np.dstack([gray] * 3))
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    assert np.array_equal(check_image(tmp_path / "a.png"), picture())
    with pytest.raises(AtrousCaffeError):
        check_image(str(tmp_path / "b.png"))


def test_a_file_above_the_limit_is_told_by_its_size(tmp_path):
    (tmp_path / "large").write_bytes(bytes(101))
    with pytest.raises(DataError, match="list of 101 bytes; at most 100"):
        read_bytes(tmp_path / "large", 100, "list")


def oriented(path, orientation, picture):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture[:, :, ::-1]).save(path, quality=100, subsampling=0, exif=exif)


UPRIGHT = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
           5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
           8: lambda a: np.rot90(a)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_when_asked_for_then_as_people_see_the_picture(orientation, tmp_path):
    from PIL import Image

    blocks = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((8, 8), np.uint8))
    picture = np.stack([blocks, 255 - blocks, blocks // 2], axis=2)
    oriented(tmp_path / "a.jpg", orientation, picture)
    stored, want = read_image(tmp_path / "a.jpg").astype(int), UPRIGHT[orientation](picture).astype(int)
    assert abs(stored - picture).max() < 12
    for upright in (read_image(tmp_path / "a.jpg", upright=True), check_image(tmp_path / "a.jpg"),
                    check_image(Image.open(tmp_path / "a.jpg"))):
        assert upright.shape == want.shape
        assert abs(upright.astype(int) - want).max() < 12


BGR = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14


@pytest.mark.parametrize(("given", "order"), [
    (BGR, "bgr"), (BGR[:, :, ::-1], "rgb"), (BGR.astype(np.uint16) * 257, "bgr"),
    ((BGR / 255).astype(np.float32), "bgr"), ((BGR / 255)[:, :, ::-1], "rgb"), ((BGR / 255).astype(np.float16), "bgr")],
    ids=["bgr", "rgb", "uint16", "float32", "float64 rgb", "float16"])
def test_arrays_of_every_kind_become_the_same_bytes(given, order):
    np.testing.assert_array_equal(check_image(given, order=order), BGR)


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "I;16"])
def test_pil_images_are_taken(mode):
    from PIL import Image

    if mode == "I;16":
        picture = Image.fromarray(BGR[:, :, 0].astype(np.uint16))
        want = None
    else:
        picture = Image.fromarray(BGR[:, :, ::-1]).convert(mode)
        want = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    got = check_image(picture)
    assert got.shape == (2, 3, 3)
    if want is not None:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("given", "words"), [
    (np.zeros((2, 3, 4), np.uint8), r"image\[\.\.\., :3\]"), (np.full((2, 3, 3), 2.0), "divide by 255"),
    (np.full((2, 3, 3), np.nan), "from 0 to 1"), (np.zeros((2, 3, 3), np.int64), "astype"),
    (np.zeros((2, 3, 3), bool), "astype"), (np.zeros((2, 3, 2), np.uint8), "expected shape"), ([[1]], "PIL image")])
def test_arrays_that_could_mean_two_things_are_refused_with_what_to_do(given, words):
    with pytest.raises(ArgumentError, match=words):
        check_image(given)


def test_order_that_is_none_is_refused():
    with pytest.raises(ArgumentError, match="order"):
        check_image(BGR, order="gbr")
