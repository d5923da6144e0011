"""Data layers beyond the recorded cases: training order, resuming, errors with file and line."""

import json

import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.data.palette import encode_labels
from atrouscaffe.errors import (
    ArgumentError,
    AtrousCaffeError,
    DataError,
    FileMissingError,
    LayerError,
)
from atrouscaffe.runtime.threads import set_num_threads

SIZES = [(9, 11), (13, 8), (15, 17), (7, 7), (12, 14)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five pictures of different sizes with label maps, their list, as the working folder."""
    rng = np.random.default_rng(0)
    lines = []
    for i, (height, width) in enumerate(SIZES):
        cv2.imwrite(str(tmp_path / f"i{i}.png"), rng.integers(0, 256, (height, width, 3), np.uint8))
        (tmp_path / f"l{i}.png").write_bytes(encode_labels(np.full((height, width), i)))
        lines.append(f"/i{i}.png /l{i}.png")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seg_net(phase=TRAIN, *, transform="crop_size: 6 mirror: true mean_value: 100", source="list.txt", seed=5,
            batch=2, extra="shuffle: true label_type: PIXEL", root=".", **options):
    return Net(f'''layer {{ name: "data" type: "ImageSegData" top: "data" top: "label" top: "dim"
        transform_param {{ {transform} }}
        image_data_param {{ source: "{source}" root_folder: "{root}" batch_size: {batch} {extra} }} }}''',
               phase, seed=seed, **options)


def take(net, n):
    """The next n passes, as copies."""
    return [{k: v.copy() for k, v in net.forward().items()} for _ in range(n)]


def same(first, second):
    return all(np.array_equal(a[k], b[k]) for a, b in zip(first, second) for k in a)


def test_training_batches_do_not_depend_on_the_number_of_threads(folder):
    runs = []
    for threads in (1, 2, 5):
        set_num_threads(threads)
        try:
            runs.append(take(seg_net(), 8))
        finally:
            set_num_threads(None)
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
    assert not same(runs[0][:4], runs[0][4:])


def test_every_round_has_each_row_once_in_a_new_order(folder):
    labels = np.concatenate([b["label"][:, 0, 0, 0] for b in take(seg_net(batch=5), 6)])
    rounds = labels.reshape(6, 5).astype(int).tolist()
    assert all(sorted(r) == [0, 1, 2, 3, 4] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 2


@pytest.mark.parametrize("done", [0, 1, 4])
def test_a_run_that_takes_its_state_back_goes_on_with_the_same_bits(folder, done, device):
    whole = seg_net(device=device)
    expected = take(whole, 9)
    first = seg_net(device=device)
    take(first, done)
    state = json.loads(json.dumps(first.state()))
    second = seg_net(seed=99, device=device)
    take(second, 3)
    second.set_state(state)
    assert same(take(second, 9 - done), expected[done:])


def test_other_seeds_give_other_orders(folder):
    assert not same(take(seg_net(seed=1), 4), take(seg_net(seed=2), 4))


def test_mirror_and_crops_really_vary_and_come_from_the_picture(folder):
    (folder / "one.txt").write_text("/i2.png /l2.png\n")
    net = seg_net(source="one.txt", batch=1, transform="crop_size: 6 mirror: true")
    image = cv2.imread(str(folder / "i2.png")).transpose(2, 0, 1).astype(np.float32)
    windows = {}
    for row in range(15 - 6 + 1):
        for column in range(17 - 6 + 1):
            part = image[:, row:row + 6, column:column + 6]
            windows[part.tobytes()] = (row, column, 0)
            windows[np.ascontiguousarray(part[:, :, ::-1]).tobytes()] = (row, column, 1)
    seen = [windows[b["data"][0].tobytes()] for b in take(net, 60)]
    assert len(set(seen)) > 30
    assert {flip for _, _, flip in seen} == {0, 1}
    assert max(row for row, _, _ in seen) >= 8


def test_pictures_without_crop_reshape_what_follows(folder, device):
    net = Net('''layer { name: "data" type: "ImageSegData" top: "data"
        image_data_param { source: "list.txt" root_folder: "." label_type: PIXEL } }
        layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }''', TEST, device=device)
    for height, width in SIZES + SIZES[:2]:
        net.forward()
        assert net.blobs["data"].shape == (1, 3, height, width)
        assert net.blobs["pool"].shape == (1, 3, -(-height // 2), -(-width // 2))
        assert net.blobs["pool"].data.max() == net.blobs["data"].data.max()


def test_scale_factors_of_the_second_fork(folder):
    net = seg_net(transform="crop_size: 20 scale_factors: 0.5 scale_factors: 1.5", batch=1, extra="label_type: PIXEL")
    heights = set()
    for i, batch in enumerate(take(net, 40)):
        kept = batch["label"][0, 0] != 255
        heights.add((i % 5, int(kept.any(1).sum())))
        assert set(np.unique(batch["label"])) <= {i % 5, 255}
    assert {h for i, h in heights if i == 0} == {4, 13}  # int(9 * 0.5), int(9 * 1.5)


def test_new_size_takes_labels_by_the_nearest_pixel(folder):
    label = np.zeros((9, 11), int)
    label[:, 5:] = 20
    (folder / "l0.png").write_bytes(encode_labels(label))
    net = seg_net(TEST, transform="", batch=1, extra="label_type: PIXEL new_height: 21 new_width: 30")
    assert set(np.unique(net.forward()["label"])) == {0, 20}


@pytest.mark.parametrize(("damage", "word"), [
    ("missing", "no such file"), ("text", "a text file"), ("size", "label map has 3x3"), ("nolabel", "PIXEL: expected"),
    ("rgb", "VOC's colours"),
])
def test_a_bad_picture_is_named_with_list_line_and_layer(folder, damage, word):
    if damage == "missing":
        (folder / "i1.png").unlink()
    if damage == "text":
        (folder / "i1.png").write_text("words")
    if damage == "size":
        (folder / "l1.png").write_bytes(encode_labels(np.zeros((3, 3), int)))
    if damage == "nolabel":
        (folder / "list.txt").write_text("/i0.png /l0.png\n/i1.png\n")
    if damage == "rgb":
        cv2.imwrite(str(folder / "l1.png"), np.full((13, 8, 3), (0, 0, 128), np.uint8))
    net = seg_net(TEST, batch=1, extra="label_type: PIXEL")
    net.forward()
    with pytest.raises((DataError, FileMissingError), match=word) as caught:
        net.forward()
    assert str(caught.value).startswith("list.txt:2: layer 'data' (ImageSegData)")


def test_files_outside_are_refused_unless_allowed(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (folder / "i0.png").rename(other / "i0.png")
    (folder / "l0.png").rename(other / "l0.png")
    net = seg_net(TEST, batch=1, root=str(other), extra="label_type: PIXEL")
    with pytest.raises(DataError, match="allow"):
        net.forward()
    net = seg_net(TEST, batch=1, root=str(other), extra="label_type: PIXEL", allow_paths=[other])
    assert net.forward()["data"].shape == (1, 3, 6, 6)


@pytest.mark.parametrize(("kind", "body", "word"), [
    ("ImageSegData", 'image_data_param { batch_size: 1 }', "source"),
    ("ImageSegData", 'transform_param { mean_file: "m" } image_data_param { source: "list.txt" }', "mean_file"),
    ("ImageData", 'image_data_param { source: "list.txt" new_height: 5 }', "new_height and new_width"),
    ("ImageData", 'transform_param { scale_factors: 2 } image_data_param { source: "list.txt" }', "scale_factors"),
    ("ImageData", 'image_data_param { source: "list.txt" batch_size: 0 }', "batch_size"),
    ("Data", 'data_param { source: "db" backend: LMDB batch_size: 1 } transform_param { force_color: true '
             'force_gray: true }', "force_color or force_gray"),
    ("ImageData", 'image_data_param { source: "l" new_height: 9 new_width: 4294967295 }', "pixels"),
    ("WindowData", 'window_data_param { source: "w" }', "crop_size"),
    ("HDF5Data", 'hdf5_data_param { batch_size: 1 }', "source"),
    ("MemoryData", 'memory_data_param { batch_size: 1 channels: 3 }', "channels, height and width"),
])
def test_options_that_cannot_work_are_refused_when_the_net_is_made(folder, kind, body, word):
    with pytest.raises(LayerError, match=word):
        Net(f'layer {{ name: "d" type: "{kind}" top: "data" top: "label" {body} }}', TEST)


def test_image_data_reads_names_with_spaces_and_a_mean_picture(folder, device):
    from atrouscaffe.formats.mean import write_mean

    (folder / "i0.png").rename(folder / "my photo.png")
    (folder / "images.txt").write_text("my photo.png 3\n")
    mean = np.random.default_rng(1).random((3, 9, 11)).astype(np.float32)
    write_mean(folder / "mean.binaryproto", mean)
    net = Net('''layer { name: "d" type: "ImageData" top: "data" top: "label"
        transform_param { mean_file: "mean.binaryproto" scale: 0.5 }
        image_data_param { source: "images.txt" } }''', TEST, device=device)
    out = net.forward()
    image = cv2.imread(str(folder / "my photo.png")).transpose(2, 0, 1)
    assert np.allclose(out["data"][0], (image - mean) * 0.5, atol=1e-5)
    assert out["label"].tolist() == [3]


def test_pictures_of_different_size_in_one_batch_are_refused(folder):
    net = Net('layer { name: "d" type: "ImageData" top: "data" image_data_param { source: "list.txt" batch_size: 2 '
              'root_folder: "." } }', TEST)
    with pytest.raises(DataError, match="batch_size 1"):
        net.forward()


def test_data_layer_reads_encoded_pictures_as_told(folder, device):
    lmdb = pytest.importorskip("lmdb", reason="needs the package lmdb to write a database")
    from atrouscaffe.formats.datum import serialize_datum

    image = cv2.imread("i2.png")
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    with lmdb.open("db", map_size=1 << 22) as env, env.begin(write=True) as transaction:
        for i, picture in enumerate((image, gray)):
            data = cv2.imencode(".png", picture)[1].tobytes()
            transaction.put(b"%d" % i, serialize_datum(None, 4 + i, encoded=data))

    def net(option):
        return Net(f'''layer {{ name: "d" type: "Data" top: "data" top: "label" transform_param {{ {option} }}
            data_param {{ source: "db" backend: LMDB batch_size: 1 }} }}''', TEST, device=device)

    outs = take(net("force_color: true"), 2)
    assert np.array_equal(outs[0]["data"][0], image.transpose(2, 0, 1))
    assert np.array_equal(outs[1]["data"][0], np.stack([gray] * 3))
    assert [float(out["label"][0]) for out in outs] == [4, 5]
    assert take(net("force_gray: true"), 1)[0]["data"].shape == (1, 1, 15, 17)
    assert [out["data"].shape[1] for out in take(net(""), 2)] == [3, 1]


def test_rand_skip_starts_later_in_the_list(folder):
    starts = {int(seg_net(TEST, seed=s, batch=1, extra="label_type: PIXEL rand_skip: 4").forward()["label"][0, 0, 0, 0])
              for s in range(20)}
    assert len(starts) > 2
    assert starts <= {0, 1, 2, 3}


# -- HDF5 ---------------------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Two HDF5 files of 5 and 3 rows, numbered through."""
    monkeypatch.chdir(tmp_path)
    begin = 0
    for name, count in (("a.h5", 5), ("b.h5", 3)):
        with h5py.File(tmp_path / name, "w") as file:
            numbers = np.arange(begin, begin + count)
            file["x"] = np.repeat(numbers, 6).reshape(count, 2, 3).astype(np.float64)
            file["y"] = numbers.astype(np.int32)
        begin += count
    (tmp_path / "list.txt").write_text("a.h5\nb.h5\n")
    return tmp_path


def hdf5_net(extra="", batch=3, tops='top: "x" top: "y"', seed=5):
    return Net(f'''layer {{ name: "d" type: "HDF5Data" {tops}
        hdf5_data_param {{ source: "list.txt" batch_size: {batch} {extra} }} }}''', TRAIN, seed=seed)


def test_hdf5_rows_come_in_order_through_files_and_around(rows):
    outs = take(hdf5_net(), 4)
    assert np.concatenate([out["y"] for out in outs]).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]
    assert outs[1]["x"].shape == (3, 2, 3)
    assert (outs[1]["x"] == outs[1]["y"][:, None, None]).all()


def test_hdf5_shuffle_goes_file_by_file_and_can_be_resumed(rows):
    net = hdf5_net("shuffle: true", batch=8)
    rounds = [out["y"].astype(int).tolist() for out in take(net, 12)]
    assert all(sorted(r) == list(range(8)) for r in rounds)
    assert len({tuple(r) for r in rounds}) > 3
    assert all(set(r[:5]) == set(range(5)) or set(r[3:]) == set(range(5)) for r in rounds)
    fresh = hdf5_net("shuffle: true", batch=8, seed=1)
    state = net.state()
    expected = take(net, 2)
    fresh.set_state(state)
    assert same(take(fresh, 2), expected)


def test_hdf5_files_that_do_not_fit_are_named(rows):
    with pytest.raises(DataError, match="no data set 'z'"):
        hdf5_net(tops='top: "z"')
    with h5py.File("b.h5", "a") as file:
        del file["x"]
        file["x"] = np.zeros((3, 9))
    with pytest.raises(DataError, match=r"list\.txt:2.*rows of shape \(2, 3\)"):
        hdf5_net()
    (rows / "b.h5").write_bytes((rows / "a.h5").read_bytes()[:900])
    with pytest.raises(DataError, match=r"list\.txt:2.*HDF5"):
        hdf5_net()
    (rows / "b.h5").unlink()
    with pytest.raises(FileMissingError, match=r"list\.txt:2"):
        hdf5_net()


def test_hdf5_links_and_impossible_sizes_are_refused(rows):
    with h5py.File("b.h5", "w") as file:
        file["x"] = h5py.ExternalLink("a.h5", "x")
        file["y"] = np.arange(3)
    with pytest.raises(DataError, match="link"):
        hdf5_net()
    with h5py.File("b.h5", "w") as file:
        file["real"] = np.zeros((3, 2, 3))
        file["x"] = h5py.SoftLink("/real")
        file["y"] = np.arange(3)
    with pytest.raises(DataError, match="link"):
        hdf5_net()
    with h5py.File("b.h5", "w") as file:
        file.create_dataset("x", (10**9, 2, 3), "f4", chunks=(1000, 2, 3))
        file.create_dataset("y", (10**9,), "f4", chunks=(1000,))
    with pytest.raises(DataError, match="more than a file of"):
        hdf5_net()


def test_hdf5_output_keeps_all_passes(rows, device):
    net = Net('''input: "a" input_dim: 2 input_dim: 3 input_dim: 1 input_dim: 2
        input: "b" input_dim: 2 input_dim: 1 input_dim: 1 input_dim: 1
        layer { name: "o" type: "HDF5Output" bottom: "a" bottom: "b"
        hdf5_output_param { file_name: "out.h5" } }''', TEST, device=device)
    (rows / "out.h5").write_text("an old file")
    written = []
    for value in (1, 2, 3):
        net.blobs["a"].data[...] = np.arange(12).reshape(2, 3, 1, 2) * value
        net.blobs["b"].data[...] = value
        written.append(net.blobs["a"].data.copy())
        net.forward()
    with h5py.File("out.h5") as file:
        assert np.array_equal(file["data"][()], np.concatenate(written))
        assert file["label"][()].ravel().tolist() == [1, 1, 2, 2, 3, 3]
    assert [p.name for p in rows.iterdir() if "tmp" in p.name] == []


# -- memory, dummy, parameter -------------------------------------------------------------------


def test_memory_data_hands_out_what_it_was_given(device):
    net = Net('''layer { name: "d" type: "MemoryData" top: "data" top: "label" transform_param { scale: 2 }
        memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }''', TEST, device=device)
    layer = net.layers[0].layer
    with pytest.raises(LayerError, match="set_arrays"):
        net.forward()
    data = np.random.default_rng(0).random((6, 3, 4, 5)).astype(np.float32)
    layer.set_arrays(data, np.arange(6))
    outs = take(net, 4)
    assert np.array_equal(np.concatenate([out["data"] for out in outs[:3]]), data * 2)
    assert [out["label"].tolist() for out in outs] == [[0, 1], [2, 3], [4, 5], [0, 1]]
    layer.set_arrays(data[:2] + 1, [7, 8])
    assert np.array_equal(net.forward()["data"], (data[:2] + 1) * 2)
    for bad in (data[:3], data[:, :2], data[0]):
        with pytest.raises(ArgumentError):
            layer.set_arrays(bad, np.zeros(len(bad)))


def test_memory_data_of_a_patched_fork_says_how_large_its_pictures_are():
    net = Net('''layer { name: "d" type: "MemoryData" top: "data" top: "label" top: "data_dim"
        transform_param { crop_size: 3 } memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }''', TEST)
    layer = net.layers[0].layer
    data = np.zeros((2, 3, 4, 5), np.float32)
    layer.set_arrays(data, [0, 1])
    assert net.forward()["data_dim"].tolist() == [[[[3, 3]]]] * 2
    layer.set_arrays(data, [0, 1], [(4, 2), (1, 5)])
    assert net.forward()["data_dim"].tolist() == [[[[4, 2]]], [[[1, 5]]]]
    with pytest.raises(ArgumentError, match=r"height and width of each row, shape \(2, 2\)"):
        layer.set_arrays(data, [0, 1], [4, 5])


@pytest.mark.parametrize("option", ["resize_param { prob: 1 }", "distort_param { }", "crop_h: 3"])
def test_augmentation_of_ssd_is_refused_where_it_is_used(option):
    text = f'''layer {{ name: "d" type: "MemoryData" top: "data" top: "label" transform_param {{ {option} }}
        memory_data_param {{ batch_size: 2 channels: 3 height: 4 width: 5 }} }}'''
    with pytest.raises(LayerError, match="SSD's augmentation"):
        Net(text, TEST)


def test_dummy_data_draws_anew_but_leaves_constants_to_the_caller(device):
    net = Net('''layer { name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 40 dim: 50 }
        data_filler { type: "gaussian" std: 3 mean: 1 } data_filler { type: "constant" value: 2 } } }''', TEST, seed=1,
              device=device)
    first = net.forward()["a"].copy()
    assert abs(first.mean() - 1) < 0.3
    assert abs(first.std() - 3) < 0.3
    net.blobs["b"].data[...] = 7
    out = net.forward()
    assert not np.array_equal(out["a"], first)
    assert (out["b"] == 7).all()


def test_what_was_written_to_dummy_data_before_the_first_pass_stays(device):
    net = Net('layer { name: "d" type: "DummyData" top: "a" dummy_data_param { shape { dim: 3 } '
              'data_filler { value: 2 } } }', TEST, device=device)
    net.blobs["a"].data[...] = [0, 5, 6]
    assert net.forward()["a"].tolist() == [0, 5, 6]


def test_constants_of_dummy_data_outlive_a_net_that_drops_blobs(device):
    net = Net('''layer { name: "d" type: "DummyData" top: "a" dummy_data_param { shape { dim: 4 dim: 3 }
        data_filler { value: 2 } } }
        layer { name: "x" type: "Power" bottom: "a" top: "x" power_param { shift: 1 } }
        layer { name: "y" type: "Power" bottom: "x" top: "y" power_param { shift: 1 } }
        layer { name: "z" type: "Power" bottom: "y" top: "z" power_param { shift: 1 } }''', TEST, keep=[],
              device=device)
    for _ in range(3):
        assert (net.forward()["z"] == 5).all()


@pytest.mark.parametrize("body", ["shape { dim: 1 } shape { dim: 2 } shape { dim: 3 }", "shape { dim: 2 } num: 1",
                                  "num: 1 channels: 1 height: 1", "shape { dim: 70000 dim: 70000 }",
                                  "shape { dim: -1 }"])
def test_dummy_data_of_wrong_shape_is_refused(body):
    with pytest.raises(ValueError, match="layer 'd'"):
        Net(f'layer {{ name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param {{ {body} }} }}', TEST)


def test_parameter_layer_learns(device):
    net = Net('''force_backward: true
        layer { name: "p" type: "Parameter" top: "w" parameter_param { shape { dim: 2 dim: 3 } } }
        layer { name: "s" type: "Power" bottom: "w" top: "y" power_param { scale: 3 } }''', TRAIN, device=device)
    net.params["p"][0].data[...] = np.arange(6).reshape(2, 3)
    assert np.array_equal(net.forward()["y"], np.arange(6).reshape(2, 3) * 3)
    net.blobs["y"].diff[...] = 1
    net.backward()
    net.backward()
    assert (net.params["p"][0].diff == 6).all()  # gradients of parameters add up


# -- MAT ----------------------------------------------------------------------------------------


def test_mat_write_names_files_as_the_original_and_mat_read_takes_them_back(tmp_path, monkeypatch, oracle, device):
    arrays = np.load(oracle / "files" / "mat_arrays.npz")
    (tmp_path / "list.txt").write_text((oracle / "files" / "matlist.txt").read_text())
    monkeypatch.chdir(tmp_path)
    net = Net('''input: "data" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5
        layer { name: "w" type: "MatWrite" bottom: "data"
        mat_write_param { prefix: "new/folder/mat_" source: "list.txt" strip: 4 } }''', TEST, device=device)
    for name in ("img_a", "img_b"):
        net.forward(data=arrays[name])
        written = tmp_path / "new" / "folder" / f"mat_{name}_blob_0.mat"
        theirs = (oracle / "files" / f"mat_{name}_blob_0.mat").read_bytes()
        assert written.read_bytes()[128:] == theirs[128:]
        assert scipy.io.loadmat(written)["data"].shape == (5, 4, 3, 1)
    with pytest.raises(DataError, match="has 2 lines"):
        net.forward(data=arrays["img_a"])

    net = Net('''layer { name: "r" type: "MatRead" top: "x"
        mat_read_param { prefix: "new/folder/mat_" source: "list.txt" strip: 4 batch_size: 1 } }''', TEST,
              device=device)
    for name in ("img_a", "img_b", "img_a"):
        assert np.array_equal(net.forward()["x"], arrays[name])


def test_mat_write_counts_passes_without_a_list_and_skips_by_period(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = Net('''input: "a" input_dim: 1 input_dim: 1 input_dim: 2 input_dim: 3
        layer { name: "w" type: "MatWrite" bottom: "a" bottom: "a"
        mat_write_param { prefix: "o_" period: 2 } }''', TEST)
    for value in range(4):
        net.forward(a=np.full((1, 1, 2, 3), value))
    names = ["o_iter_0_blob_0.mat", "o_iter_0_blob_1.mat", "o_iter_2_blob_0.mat", "o_iter_2_blob_1.mat"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert (scipy.io.loadmat("o_iter_2_blob_1.mat")["data"] == 2).all()


def test_mat_write_stays_inside(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    net = Net('''input: "a" input_dim: 1 input_dim: 1 input_dim: 2 input_dim: 3
        layer { name: "w" type: "MatWrite" bottom: "a" mat_write_param { prefix: "../out_" } }''', TEST)
    with pytest.raises(DataError, match="prefix"):
        net.forward()
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]


@pytest.mark.parametrize("bad", ["image", "label"])
def test_bad_images_are_passed_over_only_when_asked(bad, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((5, 7, 3), 10 * i + 10, np.uint8))
        cv2.imwrite(str(tmp_path / f"{i}_label.png"), np.full((5, 7), i, np.uint8))
    (tmp_path / ("1.png" if bad == "image" else "1_label.png")).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "list.txt").write_text("".join(f"/{i}.png /{i}_label.png\n" for i in range(3)))
    text = f"""layer {{ name: "d" type: "ImageSegData" top: "data" top: "label" image_data_param {{
        source: "list.txt" root_folder: "{tmp_path}" label_type: PIXEL batch_size: 3 }} }}"""
    with pytest.raises(AtrousCaffeError, match=r"list.txt:2.*layer 'd'"):
        Net(text, TRAIN).forward()
    net = Net(text, TRAIN, skip_bad_images=True)
    for _ in range(2):
        net.forward()
        assert [int(v) for v in net.blobs["data"].data[:, 0, 0, 0]] == [10, 30, 30]
        assert [int(v) for v in net.blobs["label"].data[:, 0, 0, 0]] == [0, 2, 2]
    said = capsys.readouterr().err
    assert said.count("passed over") == 1 and "list.txt:2" in said
    (tmp_path / "list.txt").write_text("/1.png /1_label.png\n")
    with pytest.raises(DataError, match="none of 1 lines"):
        Net(text.replace("PIXEL batch_size: 3 }", "PIXEL batch_size: 3 } transform_param { crop_size: 5 }"), TRAIN,
            skip_bad_images=True).forward()


@pytest.mark.parametrize("backend", ["", "backend: LEVELDB"])
def test_data_layer_reads_leveldb_where_no_backend_is_named(folder, backend, device):
    plyvel = pytest.importorskip("plyvel", reason="needs the package plyvel (Python 3.11 or 3.12) to write a database")
    from atrouscaffe.formats.datum import serialize_datum

    pictures = np.random.default_rng(2).integers(0, 256, (3, 3, 4, 5), np.uint8)
    db = plyvel.DB("db", create_if_missing=True)
    for i, picture in enumerate(pictures):
        db.put(b"%08d" % i, serialize_datum(picture, 4 + i))
    db.close()
    net = Net(f'''layer {{ name: "d" type: "Data" top: "data" top: "label" transform_param {{ mean_value: 7 }}
        data_param {{ source: "db" batch_size: 2 {backend} }} }}''', TEST, device=device)
    for rows in ((0, 1), (2, 0)):
        out = net.forward()
        assert np.array_equal(out["data"], pictures[list(rows)] - np.float32(7))
        assert out["label"].tolist() == [4 + i for i in rows]


def test_databases_of_the_other_backend_are_told(folder):
    (folder / "db").mkdir()
    (folder / "db" / "CURRENT").write_text("MANIFEST-000001\n")
    text = 'layer {{ name: "d" type: "Data" top: "data" data_param {{ source: "db" batch_size: 1 {} }} }}'
    with pytest.raises(FileMissingError, match="LEVELDB"):
        Net(text.format("backend: LMDB"), TEST).forward()
    (folder / "db" / "CURRENT").rename(folder / "db" / "data.mdb")
    with pytest.raises(FileMissingError, match="backend: LMDB"):
        Net(text.format(""), TEST).forward()
