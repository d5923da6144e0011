"""Overlays with legends, and videos."""

import cv2
import numpy as np
import pytest

from atrouscaffe.data.overlay import encode_picture, overlay
from atrouscaffe.data.palette import color_map
from atrouscaffe.data.video import VideoFile, VideoFrames
from atrouscaffe.data.voc import VOC_CLASSES
from atrouscaffe.errors import ArgumentError, DataError, FileMissingError


def scene(height=40, width=90):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    labels = np.zeros((height, width), np.uint8)
    labels[5:15, 10:30] = 15
    labels[20:30, 40:60] = 8
    labels[0, 0] = 255
    return image, labels


def test_background_stays_and_classes_get_their_colour():
    image, labels = scene()
    shown = overlay(image, labels, VOC_CLASSES, alpha=0.25, legend=False)
    assert np.array_equal(shown[labels == 0], image[labels == 0])
    person = color_map()[15][::-1]
    expected = np.round(0.75 * image[labels == 15] + 0.25 * person)
    assert np.abs(shown[labels == 15] - expected).max() <= 1


def test_legend_stands_below_with_a_swatch_for_each_class_that_occurs():
    image, labels = scene()
    shown = overlay(image, labels, VOC_CLASSES)
    strip = shown[40:]
    assert shown.shape[1] == 90
    assert len(strip) % 20 == 0
    assert len(strip) >= 40  # three names do not fit into 90 pixels side by side
    colors = {tuple(int(v) for v in pixel) for pixel in strip.reshape(-1, 3)}
    for index in (8, 15, 255):
        assert tuple(int(v) for v in color_map()[index][::-1]) in colors
    assert tuple(int(v) for v in color_map()[3][::-1]) not in colors
    assert overlay(image, np.zeros_like(labels), VOC_CLASSES).shape == image.shape


def test_wrong_arguments_are_refused():
    image, labels = scene()
    with pytest.raises(ArgumentError, match="shape"):
        overlay(image, labels[1:], VOC_CLASSES)
    with pytest.raises(ArgumentError, match="alpha"):
        overlay(image, labels, VOC_CLASSES, alpha=2)


def test_pictures_are_encoded_without_loss():
    image, _ = scene()
    assert np.array_equal(cv2.imdecode(np.frombuffer(encode_picture(image), np.uint8), cv2.IMREAD_COLOR), image)


def frames(count=5):
    base = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 5)
    return [np.roll(base, 4 * i, 1) for i in range(count)]


def test_a_video_comes_back_with_its_frames(tmp_path):
    video = VideoFile(tmp_path / "a.mp4", 12)
    for frame in frames():
        video.write(frame)
    assert not (tmp_path / "a.mp4").exists()  # it has its name only when it is whole
    video.close(keep=True)
    read = VideoFrames(tmp_path / "a.mp4")
    assert read.rate == pytest.approx(12)
    found = list(read)
    assert len(found) == 5
    assert all(np.abs(a.astype(int) - b).mean() < 12 for a, b in zip(found, frames()))
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_of_another_size_are_fitted_and_a_broken_run_leaves_nothing(tmp_path):
    video = VideoFile(tmp_path / "a.mp4", 25)
    video.write(frames()[0])
    video.write(frames()[0][:30, :40])
    video.write(np.zeros((60, 70, 3), np.uint8))
    video.close(keep=True)
    assert [frame.shape for frame in VideoFrames(tmp_path / "a.mp4")] == [(48, 64, 3)] * 3
    broken = VideoFile(tmp_path / "b.mp4", 25)
    broken.write(frames()[0])
    broken.close(keep=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_files_that_are_no_videos_are_errors(tmp_path):
    (tmp_path / "a.mp4").write_text("text " * 100)
    with pytest.raises(DataError, match="not a video"):
        VideoFrames(tmp_path / "a.mp4")
    with pytest.raises(FileMissingError):
        VideoFrames(tmp_path / "b.mp4")
