"""The six nets have the geometry, sizes, counts and recipes of the paper and of its authors' release.

References: figures of the paper and of the released templates, and the recorded nets of the oracle,
which have the true geometry with fewer channels.
"""

from __future__ import annotations

import functools

import pytest

from atrouscaffe.errors import PrototxtError
from atrouscaffe.formats.prototxt import read_net, read_solver
from atrouscaffe.graph.graph import Graph
from atrouscaffe.graph.report import describe
from atrouscaffe.resources import resource
from atrouscaffe.spec import TEST, TRAIN, LayerSpec, NetSpec
from tests.conftest import ORACLE

NETS = ("deeplab", "deeplab-msc", "deeplab-4x4", "deeplab-7x7", "deeplab-largefov", "deeplab-msc-largefov")
VARIABLES = {"DATA_ROOT": "VOC2012", "EXP": "voc12", "TRAIN_SET": "train_aug", "TEST_SET": "val", "NET_ID": "net",
             "FEATURE_DIR": "features", "NUM_LABELS": "21"}
PARAMETERS = {"deeplab": 65_140_565, "deeplab-msc": 66_346_686, "deeplab-4x4": 65_140_565, "deeplab-7x7": 134_346_581,
              "deeplab-largefov": 20_505_429, "deeplab-msc-largefov": 21_711_550}


@functools.cache
def net(folder: str, mode: str) -> NetSpec:
    variables = None if mode == "deploy" else VARIABLES
    return read_net(resource("prototxt", f"{folder}/{mode}.prototxt"), variables=variables)


@functools.cache
def graph(folder: str, mode: str, side: int = 0) -> Graph:
    shapes = {"data": (1, 3, side, side)} if side else None
    return Graph(net(folder, mode), TRAIN if mode == "train" else TEST, input_shapes=shapes)


@functools.cache
def report(folder: str, mode: str, side: int = 0) -> dict:
    return describe(graph(folder, mode, side))


def side(folder: str, mode: str, *blobs: str, crop: int = 0) -> list[int]:
    """Sizes of blobs, which must be square."""
    shapes = [graph(folder, mode, crop).shape(blob) for blob in blobs]
    assert all(shape[2] == shape[3] for shape in shapes)
    return [shape[2] for shape in shapes]


POOLS = ("pool1", "pool2", "pool3", "pool4", "pool5", "fc6", "fc7")


@pytest.mark.parametrize("mode", ["train", "test", "deploy"])
@pytest.mark.parametrize("folder", NETS)
def test_parameters_are_as_many_as_published(folder: str, mode: str) -> None:
    assert graph(folder, mode).parameter_count() == PARAMETERS[folder]
    assert net(folder, mode).dialect == "v1"


@pytest.mark.parametrize("folder", NETS)
def test_training_sizes(folder: str) -> None:
    if folder == "deeplab":
        assert graph(folder, "train").shape("data") == (20, 3, 306, 306)
        assert side(folder, "train", *POOLS) == [154, 78, 40, 39, 39, 39, 39]
        assert side(folder, "train", "fc8_pascal", "label_shrink") == [39, 39]
        return
    batch = 30 if folder.endswith("largefov") else 20
    assert graph(folder, "train").shape("data") == (batch, 3, 321, 321)
    assert side(folder, "train", *POOLS) == [161, 81, 41, 41, 41, 41, 41]
    scores = "fc_fusion" if "msc" in folder else "fc8_voc12"
    assert side(folder, "train", scores, "label_shrink") == [41, 41]
    assert graph(folder, "train").shape(scores)[:2] == (batch, 21)


@pytest.mark.parametrize("mode", ["test", "deploy"])
@pytest.mark.parametrize("folder", NETS)
def test_test_sizes_end_at_the_input(folder: str, mode: str) -> None:
    if folder == "deeplab":
        assert side(folder, mode, "data", *POOLS) == [514, 258, 130, 66, 67, 67, 67, 67]
        assert side(folder, mode, "fc8_pascal", "fc8_interp", "fc8_crop") == [67, 529, 514]
        scores = "fc8_crop"
    else:
        assert side(folder, mode, "data", *POOLS) == [513, 257, 129, 65, 65, 65, 65, 65]
        assert side(folder, mode, "fc8_interp") == [513]
        scores = "fc_fusion" if "msc" in folder else "fc8_interp"
    assert graph(folder, mode).shape(scores) == (1, 21, *graph(folder, mode).shape("data")[2:])
    if mode == "deploy":
        assert graph(folder, mode).inputs == ["data"] and graph(folder, mode).outputs == [scores]


def test_sizes_at_306_of_three_by_three_pools() -> None:
    assert side("deeplab-largefov", "deploy", "pool3", "fc8_voc12", crop=306) == [40, 40]


def trunk_gmac(folder: str, mode: str, crop: int = 0) -> float:
    """Multiply-adds of conv1_1 to fc8 for one image, in 10^9."""
    rows = [row for row in report(folder, mode, crop)["layers"] if row["type"] == "Convolution"
            and not row["name"].endswith(("_conv", "_fc", "_ms"))]
    assert len(rows) == 16
    return sum(row["macs"] for row in rows) / graph(folder, mode, crop).shape("data")[0] / 1e9


@pytest.mark.parametrize(("folder", "mode", "crop", "gmac"), [
    ("deeplab-7x7", "deploy", 306, 230.0), ("deeplab-7x7", "deploy", 321, 242.3), ("deeplab-7x7", "deploy", 513, 609.5),
    ("deeplab", "train", 0, 114.7), ("deeplab", "deploy", 514, 333.6),
    ("deeplab-msc", "deploy", 321, 126.0), ("deeplab-msc", "deploy", 513, 317.1),
    ("deeplab-4x4", "deploy", 306, 119.3), ("deeplab-4x4", "deploy", 321, 126.0), ("deeplab-4x4", "deploy", 513, 317.1),
    ("deeplab-largefov", "deploy", 306, 47.85), ("deeplab-largefov", "deploy", 321, 50.93),
    ("deeplab-largefov", "deploy", 513, 128.6)])
def test_work_is_as_computed_from_the_paper(folder: str, mode: str, crop: int, gmac: float) -> None:
    last_digit = 10.0 ** -len(str(gmac).split(".")[1])
    assert trunk_gmac(folder, mode, crop) == pytest.approx(gmac, abs=0.51 * last_digit)


@pytest.mark.parametrize(("folder", "true", "padded", "convolutional"), [
    ("deeplab", 308, 128, 308), ("deeplab-msc", 323, 128, 308), ("deeplab-4x4", 419, 224, 404),
    ("deeplab-7x7", 419, 224, 404), ("deeplab-largefov", 435, 224, 404), ("deeplab-msc-largefov", 435, 224, 404)])
def test_receptive_fields_true_and_by_the_papers_rule(folder: str, true: int, padded: int, convolutional: int) -> None:
    figures = report(folder, "deploy")
    field = figures["receptive_field"]
    assert field == {"true": [true, true], "paper_padded": padded, "paper_convolutional": convolutional}
    assert figures["stride"] == [8, 8]
    assert figures["score_layer"] == ("fc8_pascal" if folder in ("deeplab", "deeplab-msc") else "fc8_voc12")


# -- against the recorded nets -------------------------------------------------------------------

MESSAGES = ("convolution_param", "pooling_param", "interp_param", "padding_param", "eltwise_param", "dropout_param")


def geometry(layer: LayerSpec) -> tuple:
    """What a layer does, without its number of channels and its fillers."""
    options = []
    for message in MESSAGES:
        fields = getattr(layer.fields, message)
        for name in ("kernel_size", "pad", "stride", "hole", "pool", "shrink_factor", "zoom_factor", "pad_beg",
                     "pad_end", "operation", "dropout_ratio"):
            if layer.fields.has(message) and hasattr(fields, name):
                options.append((message, name, getattr(fields, name)))
    return (layer.type, tuple(layer.bottoms), tuple(layer.tops), tuple(options))


def chain(spec: NetSpec, *leave: str) -> set[tuple]:
    return {geometry(layer) for layer in spec.layers if layer.type not in
            {"Input", "ImageSegData", "MatWrite", "DenseCRF", "Softmax", *leave}}


@pytest.mark.parametrize(("folder", "mode", "recorded"), [
    ("deeplab", "train", "v1_deeplab_vgg128_noup"), ("deeplab", "test", "v1_deeplab_vgg128_noup_test"),
    ("deeplab", "deploy", "v1_deeplab_vgg128_noup_test"), ("deeplab-7x7", "train", "v1_deeplab_7x7"),
    ("deeplab-largefov", "train", "v1_deeplab_largefov"), ("deeplab-largefov", "deploy", "v1_deeplab_largefov_deploy"),
    ("deeplab-4x4", "train", "v2_deeplab_4x4_hole8"), ("deeplab-msc-largefov", "train", "v1_deeplab_msc_largefov"),
    ("deeplab-msc-largefov", "test", "v1_deeplab_msc_largefov_test"),
    ("deeplab-msc-largefov", "deploy", "v1_deeplab_msc_largefov_test")])
def test_geometry_is_that_of_the_recorded_net(folder: str, mode: str, recorded: str) -> None:
    theirs = read_net(ORACLE / "nets" / recorded / "net.prototxt")
    assert chain(net(folder, mode)) == chain(theirs)


def test_msc_has_the_trunk_of_the_recorded_4x4_net_and_the_branches_of_msc_largefov() -> None:
    trunk = chain(read_net(ORACLE / "nets/v2_deeplab_4x4_hole4/net.prototxt"), "SoftmaxWithLoss", "SegAccuracy")
    branches = {g for g in chain(net("deeplab-msc-largefov", "train"))
                if g[2][0].endswith(("_conv", "_fc", "_ms")) and g[2][0].startswith(("data", "pool"))}
    mine = chain(net("deeplab-msc", "train"))
    swap = {"fc8_voc12": "fc8_pascal"}
    renamed = {(g[0], tuple(swap.get(b, b) for b in g[1]), tuple(swap.get(t, t) for t in g[2]), g[3]) for g in trunk}
    assert renamed <= mine
    assert len(branches) > 30 and branches <= mine


# -- recipes -------------------------------------------------------------------------------------

def multipliers(folder: str, layer: str) -> list[tuple[float, float]]:
    spec = next(spec for spec in net(folder, "train").layers if spec.name == layer)
    return [(spec.param(i).lr_mult, spec.param(i).decay_mult) for i in (0, 1)]


@pytest.mark.parametrize("folder", NETS)
def test_learning_rates_of_the_layers(folder: str) -> None:
    fc8 = "fc8_pascal" if folder in ("deeplab", "deeplab-msc") else "fc8_voc12"
    ordinary = [(1.0, 1.0), (2.0, 0.0)]
    trunk = {"deeplab-msc": [(0.0, 0.0), (0.0, 0.0)], "deeplab-msc-largefov": [(0.0, 1.0), (0.0, 0.0)]}
    for layer in ("conv1_1", "conv5_3", "fc6", "fc7"):
        assert multipliers(folder, layer) == trunk.get(folder, ordinary)
    classifier = {"deeplab-msc": ordinary, "deeplab-msc-largefov": [(0.0, 1.0), (0.0, 0.0)]}
    assert multipliers(folder, fc8) == classifier.get(folder, [(10.0, 1.0), (20.0, 0.0)])
    if "msc" in folder:
        for source in ("data", "pool1", "pool2", "pool3", "pool4"):
            assert [multipliers(folder, f"{source}_{part}") for part in ("conv", "fc", "ms")] == [ordinary] * 3


@pytest.mark.parametrize("folder", NETS)
@pytest.mark.parametrize("mode", ["train", "test", "deploy"])
def test_classifier_layers_take_weights_of_another_shape(folder: str, mode: str) -> None:
    loose = {spec.name for spec in net(folder, mode).layers if not spec.strict_dim}
    assert loose == {"fc6", "fc7", "fc8_pascal" if folder in ("deeplab", "deeplab-msc") else "fc8_voc12"}


def test_fillers_of_the_branches() -> None:
    layers = {spec.name: spec.fields.convolution_param for spec in net("deeplab-msc", "train").layers}
    std = {name: layers[name].weight_filler.std for name in layers if name.endswith(("_conv", "_fc", "_ms"))
           and layers[name].has("weight_filler")}
    sources = ("data", "pool1", "pool2", "pool3", "pool4")
    expected = {**{f"{s}_conv": 0.001 for s in sources}, **{f"{s}_fc": 0.001 for s in sources},
                **{f"{s}_ms": 0.01 for s in sources}, "pool4_fc": 0.005}
    del expected["pool3_ms"]
    assert std == pytest.approx(expected)


@pytest.mark.parametrize("folder", NETS)
def test_data_layer_reads_what_the_authors_read(folder: str) -> None:
    data = net(folder, "train").layers[0].fields
    assert (data.image_data_param.source, data.image_data_param.label_type) == ("voc12/list/train_aug.txt", "PIXEL")
    assert data.image_data_param.root_folder == "VOC2012" and data.image_data_param.shuffle
    assert data.transform_param.mean_value == pytest.approx((104.008, 116.669, 122.675))
    assert data.transform_param.mirror
    test = net(folder, "test").layers[0].fields
    assert (test.image_data_param.source, test.image_data_param.label_type) == ("voc12/list/val.txt", "NONE")
    assert not test.transform_param.mirror
    loss = next(spec for spec in net(folder, "train").layers if spec.name == "loss")
    assert tuple(loss.fields.softmaxloss_param.ignore_label) == (255,)


@pytest.mark.parametrize("folder", NETS)
def test_solvers_have_the_released_rates(folder: str) -> None:
    first = read_solver(resource("prototxt", f"{folder}/solver.prototxt"), variables=VARIABLES)
    second = read_solver(resource("prototxt", f"{folder}/solver2.prototxt"), variables=VARIABLES)
    for solver in (first, second):
        assert (solver.lr_policy, solver.display, solver.snapshot) == ("step", 10, 2000)
        assert (solver.gamma, solver.momentum, solver.weight_decay) == pytest.approx((0.1, 0.9, 0.0005))
        assert solver.average_loss == (10 if folder == "deeplab-msc-largefov" else 1)
    assert (first.stepsize, first.max_iter, first.base_lr) == (2000, 6000, pytest.approx(0.001))
    expected = (3000, 12000, 0.01) if folder == "deeplab" else (2000, 8000, 0.001)
    assert (second.stepsize, second.max_iter, second.base_lr) == pytest.approx(expected)
    assert first.snapshot_prefix == "voc12/model/net/train" and second.snapshot_prefix == "voc12/model/net/train2"


@pytest.mark.parametrize("folder", NETS)
def test_placeholder_when_not_filled_in_is_named(folder: str) -> None:
    given = {name: value for name, value in VARIABLES.items() if name != "EXP"}
    with pytest.raises(PrototxtError, match="EXP"):
        read_net(resource("prototxt", f"{folder}/train.prototxt"), variables=given)
    assert "${" not in resource("prototxt", f"{folder}/deploy.prototxt").read_text()
