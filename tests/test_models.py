"""Real trained models, each in each of its formats, against goldens that other programs agree on."""

from __future__ import annotations

import gzip

import cv2
import numpy as np
import pytest

from atrouscaffe import TEST, Net, Segmenter
from atrouscaffe.formats.mean import read_mean


@pytest.fixture(scope="module")
def models(shared_data):
    return shared_data / "models"


def golden(folder):
    with np.load(folder / "golden.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def run(prototxt, weights, data, *, keep=()):
    """One pass over a batch, blobs that nobody wants dropped."""
    net = Net(prototxt, TEST, weights=weights, keep=list(keep), input_shapes={"data": data.shape})
    net.forward(data=np.asarray(data, np.float32))
    assert net.reports[0].complete
    return net


def close(ours, theirs, relative=1e-4):
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    assert np.abs(ours - theirs).max() <= relative * scale


def agree(ours, theirs, share=0.999):
    assert ours.shape == theirs.shape
    assert np.mean(ours == theirs) >= share


# -- segmentation -------------------------------------------------------------------------------


def centred(path):
    return (cv2.imread(str(path)).astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5


@pytest.mark.parametrize("prototxt", ["deploy_257", "deploy_257_relu6", "deploy_257_v1"])
@pytest.mark.parametrize("photo", ["a", "b"])
def test_deeplabv3_mobilenetv2_at_257(prototxt, photo, models):
    folder = models / "deeplabv3_mnv2"
    expected = golden(folder)
    middle = ["logits_semantic", "expanded_conv_13/project", "expanded_conv_16/project", "image_pooling"]
    net = run(folder / f"{prototxt}.prototxt", folder / "deeplabv3_mnv2_dm05_voc.caffemodel",
              centred(folder / f"input_257_{photo}.png"), keep=middle)
    close(net.blobs["logits_semantic"].data[0], expected[f"logits_257_{photo}"])
    agree(net.blobs["upscore"].data[0].argmax(0), expected[f"label_257_{photo}"])
    if photo == "a":
        close(net.blobs["upscore"].data[0, :, 128], expected["upscore_257_a_row128"])
        close(net.blobs["image_pooling"].data.ravel(), expected["image_pooling_257_a"])
        for number in ("13", "16"):
            blob = net.blobs[f"expanded_conv_{number}/project"].data[0, :16]
            close(blob, expected[f"conv{number}_257_a"])


@pytest.mark.parametrize("prototxt", ["deploy_513", "deploy_513_relu6"])
@pytest.mark.parametrize("photo", ["a", "b"])
def test_deeplabv3_mobilenetv2_at_513_through_segmenter(prototxt, photo, models):
    folder = models / "deeplabv3_mnv2"
    expected = golden(folder)
    segmenter = Segmenter(folder / f"{prototxt}.prototxt", folder / "deeplabv3_mnv2_dm05_voc.caffemodel")
    result = segmenter(folder / f"photo_{photo}.png")
    height, width = result.labels.shape
    agree(result.labels, expected[f"label_513_{photo}"][:height, :width])
    grid = expected[f"logits_513_{photo}"][:, :(height + 7) // 8, :(width + 7) // 8]
    close(result.scores[:, ::8, ::8], grid)  # every 8th pixel of the enlarged scores is one of the logits


def test_deeplabv3_reshaped_from_257_equals_the_net_written_for_513(models):
    folder = models / "deeplabv3_mnv2"
    weights = folder / "deeplabv3_mnv2_dm05_voc.caffemodel"
    image = np.tile(cv2.imread(str(folder / "photo_a.png")), (2, 2, 1))[:513, :513]
    small = Segmenter(folder / "deploy_257_relu6.prototxt", weights)(image)
    large = Segmenter(folder / "deploy_513_relu6.prototxt", weights)(image)
    close(small.scores, large.scores, 1e-5)
    agree(small.labels, large.labels, 0.9999)


@pytest.fixture(scope="module")
def street(models):
    """The Cityscapes photograph, halved: each pixel the exact mean of four."""
    image = cv2.imread(str(models / "enet_cityscapes" / "munich_000000_000019_leftImg8bit.png")).astype(np.float32)
    return image.reshape(512, 2, 1024, 2, 3).mean((1, 3)).transpose(2, 0, 1)[None]


def test_enet_equals_its_authors_picture(models, street):
    folder = models / "enet_cityscapes"
    expected = golden(folder)
    net = run(folder / "enet_deploy_final.prototxt", folder / "cityscapes_weights.caffemodel", street)
    scores = net.blobs["deconv6_0_0"].data[0]
    labels = scores.argmax(0)
    agree(labels, expected["label"])
    agree(labels, cv2.imread(str(folder / "munich_label.png"), cv2.IMREAD_GRAYSCALE))
    table = cv2.imread(str(folder / "cityscapes19.png"))[0, :, ::-1]
    picture = cv2.imread(str(folder / "munich_authors_result.png"))
    agree((table[labels] == picture).all(2), np.ones(labels.shape, bool))
    # Where a max pooling has a near tie, an unpooled value moves by a pixel in float32.
    far = np.abs(scores[:, ::8, ::8] - expected["scores_s8"]) > 1e-4 * np.abs(expected["scores_s8"]).max()
    assert far.mean() < 1e-3


def test_enet_on_a_crop(models, street):
    folder = models / "enet_cityscapes"
    expected = golden(folder)
    net = run(folder / "enet_deploy_final.prototxt", folder / "cityscapes_weights.caffemodel",
              street[:, :, 192:320, 384:640], keep=["eltwise2_8_4"])
    close(net.blobs["deconv6_0_0"].data[0, :, ::2, ::2], expected["scores_crop_s2"])
    agree(net.blobs["deconv6_0_0"].data[0].argmax(0), expected["label_crop"])
    close(net.blobs["eltwise2_8_4"].data[0, :16], expected["conv_eltwise2_crop"])


def normalized(street):
    return street * np.float32(0.022) - np.float32([0.284, 0.325, 0.287])[:, None, None]


def test_espnet_equals_its_authors_labels(models, street):
    folder = models / "espnet_cityscapes"
    expected = golden(folder)
    net = run(folder / "deploy.prototxt", folder / "espnet_cityscapes.caffemodel", normalized(street),
              keep=["ConvNd_85"])
    scores = net.blobs["ConvNd_85"].data[0]
    close(scores[:, ::8, ::8], expected["scores_s8"])
    agree(scores.argmax(0), expected["label"])
    agree(scores.argmax(0), cv2.imread(str(folder / "authors_label.png"), cv2.IMREAD_GRAYSCALE))


def test_espnet_on_a_crop(models, street):
    folder = models / "espnet_cityscapes"
    expected = golden(folder)
    net = run(folder / "deploy.prototxt", folder / "espnet_cityscapes.caffemodel",
              normalized(street)[:, :, 192:320, 384:640], keep=["ConvNd_85", "BatchNorm_1"])
    close(net.blobs["ConvNd_85"].data[0, :, ::2, ::2], expected["scores_crop_s2"])
    agree(net.blobs["ConvNd_85"].data[0].argmax(0), expected["label_crop"])
    close(net.blobs["BatchNorm_1"].data[0, :, ::2, ::2], expected["batchnorm_1_crop"])


@pytest.mark.parametrize(("name", "prototxt", "weights"), [
    ("enet_cityscapes", "enet_deploy_final.prototxt", "cityscapes_weights.caffemodel"),
    ("espnet_cityscapes", "deploy.prototxt", "espnet_cityscapes.caffemodel"),
])
def test_cityscapes_models_are_known_to_segmenter(name, prototxt, weights, models, street):
    folder = models / name
    image = street[0].round().astype(np.uint8).transpose(1, 2, 0)
    segmenter = Segmenter(folder / prototxt, folder / weights)
    result = segmenter(image)
    assert segmenter.preprocessing.startswith("known model")
    assert segmenter.names[0] == "road"
    agree(result.labels, golden(folder)["label"], 0.98)  # whole numbers in place of means of four


# -- classification and detection ---------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist(shared_data):
    """The 10,000 MNIST test images and their labels."""
    folder = shared_data / "mnist"
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return (np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28),
            np.frombuffer(labels, np.uint8, offset=8))


@pytest.mark.parametrize("name", ["lenet_mnist", "lenet_mnist_v1"])
def test_lenet(name, models, mnist):
    folder = models / name
    expected = golden(folder)
    files = folder / "deploy.prototxt", folder / "lenet_iter_10000.caffemodel"
    net = run(*files, expected["input_u8"] / np.float32(256), keep=["ip2"])
    close(net.blobs["ip2"].data.reshape(64, 10), expected["ip2"])
    close(net.blobs["prob"].data.reshape(64, 10), expected["prob"])
    images, labels = mnist
    net = Net(files[0], TEST, weights=files[1], keep=[], input_shapes={"data": (500, 1, 28, 28)})
    right = 0
    for begin in range(0, len(images), 500):
        net.forward(data=images[begin:begin + 500] / np.float32(256))
        found = net.blobs["prob"].data.reshape(500, 10).argmax(1)
        right += int((found == labels[begin:begin + 500]).sum())
    assert right / len(images) == pytest.approx({"lenet_mnist": 0.9908, "lenet_mnist_v1": 0.9905}[name], abs=2e-4)


@pytest.mark.parametrize(("name", "weights", "scores"), [
    ("cifar10_full_v1", "cifar10_full_iter_70000.caffemodel", "ip1"),
    ("cifar10_quick_h5", "cifar10_quick_iter_5000.caffemodel.h5", "ip2"),
])
def test_cifar10(name, weights, scores, models):
    folder = models / name
    expected = golden(folder)
    mean = read_mean(models / "cifar10_quick_h5" / "mean.binaryproto")
    keep = [scores] + (["norm1"] if "norm1" in expected else [])
    net = run(folder / "deploy.prototxt", folder / weights, expected["input_u8_rgb"] - mean, keep=keep)
    close(net.blobs[scores].data.reshape(7, 10), expected[scores])
    close(net.blobs["prob"].data.reshape(7, 10), expected["prob"])
    if "norm1" in expected:
        close(net.blobs["norm1"].data[:2], expected["norm1"])


@pytest.mark.parametrize(("net", "outputs"), [
    ("det1", ("prob1", "conv4-2")), ("det2", ("prob1", "conv5-2")), ("det3", ("prob1", "conv6-2", "conv6-3"))])
def test_mtcnn(net, outputs, models):
    folder = models / "mtcnn"
    expected = golden(folder)
    data = expected[f"{net}_input_u8_rgb"]
    data = data.transpose(2, 0, 1)[None] if data.ndim == 3 else data
    result = run(folder / f"{net}.prototxt", folder / f"{net}.caffemodel", (data - np.float32(127.5)) * 0.0078125)
    for name in outputs:
        theirs = expected[f"{net}_{name}"]
        close(result.blobs[name].data.reshape(theirs.shape), theirs)


def test_rfb320(models):
    folder = models / "rfb320"
    expected = golden(folder)
    net = Net(folder / "RFB-320.prototxt", TEST, weights=folder / "RFB-320.caffemodel")
    data = (expected["input_u8_rgb"].transpose(2, 0, 1)[None] - np.float32(127)) / 128
    net.forward(**{net.inputs[0]: data})
    for name in ("boxes", "scores"):
        close(net.blobs[name].data.reshape(expected[name].shape), expected[name])


def test_squeezenet(models):
    folder = models / "squeezenet_v1.0_dc"
    expected = golden(folder)
    data = expected["input_u8_bgr"].transpose(2, 0, 1)[None] - np.float32([104, 117, 123])[:, None, None]
    net = run(folder / "deploy.prototxt", folder / "squeezenet_v1.0_dc.caffemodel", data,
              keep=["pool_final", "fire5/concat"])
    close(net.blobs["pool_final"].data.ravel(), expected["pool_final"])
    close(net.blobs["fire5/concat"].data[0, :32], expected["fire5_concat"])
    assert net.blobs["pool_final"].data.ravel().argsort()[::-1][:5].tolist() == [278, 277, 263, 463, 281]


# -- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prototxt", "weights"), [
    ("deeplabv3_mnv2/deploy_257_v1.prototxt", "deeplabv3_mnv2/deeplabv3_mnv2_dm05_voc.caffemodel"),
    ("lenet_mnist_v1/deploy.prototxt", "lenet_mnist_v1/lenet_iter_10000.caffemodel"),
    ("cifar10_quick_h5/deploy.prototxt", "cifar10_quick_h5/cifar10_quick_iter_5000.caffemodel.h5"),
    ("espnet_cityscapes/deploy.prototxt", "espnet_cityscapes/espnet_cityscapes.caffemodel"),
])
@pytest.mark.parametrize("suffix", [".caffemodel", ".caffemodel.h5"])
def test_written_again_in_both_formats_every_bit_comes_back(prototxt, weights, suffix, models, tmp_path):
    first = Net(models / prototxt, TEST, weights=models / weights)
    first.save(tmp_path / f"again{suffix}")
    again = Net(models / prototxt, TEST, weights=tmp_path / f"again{suffix}")
    assert list(first.params) == list(again.params)
    for name, blobs in first.params.items():
        for ours, theirs in zip(again.params[name], blobs):
            assert np.array_equal(ours.data, theirs.data)
