"""One way to test any layer: against a reference, against central differences, for any number of threads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from atrouscaffe import TEST, TRAIN, Net
from atrouscaffe.runtime.threads import set_num_threads

STEP = 1e-5
MOST_PLACES = 40


def net_text(layers: str, bottoms: Mapping[str, np.ndarray]) -> str:
    """A net of these layers whose inputs have the shapes of these arrays."""
    inputs = " ".join(f'input: "{name}" input_shape {{ {" ".join(f"dim: {n}" for n in array.shape)} }}'
                      for name, array in bottoms.items())
    return f'name: "check" {inputs} force_backward: true {layers}'


def make_net(layers: str, bottoms: Mapping[str, np.ndarray], *, phase: str = "TEST", dialect: str = "bvlc",
             params: Mapping[str, Sequence[np.ndarray]] | None = None, dtype=np.float32, seed: int = 3,
             device: str = "cpu") -> Net:
    """A net with these inputs; parameters that are not given are drawn from a normal distribution."""
    net = Net(net_text(layers, bottoms), TRAIN if phase == "TRAIN" else TEST, dialect=dialect, dtype=dtype, seed=seed,
              device=device)
    draw = np.random.default_rng(seed)
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            given = (params or {}).get(name)
            blob.data[...] = draw.standard_normal(blob.shape) if given is None else given[i]
    for name, array in bottoms.items():
        net.blobs[name].data[...] = array
    return net


def check_layer(layers: str, bottoms: Mapping[str, np.ndarray], *, phase: str = "TEST", dialect: str = "bvlc",
                params: Mapping[str, Sequence[np.ndarray]] | None = None,
                reference: Callable | Mapping[str, np.ndarray] | None = None, gradient: bool = True,
                constant: Sequence[str] = (), exact: bool = False, tolerance: float = 2e-6, device: str = "cpu") -> Net:
    """Check forward and backward of the layers in `layers` (prototxt text).

    Parameters
    ----------
    layers : str
    bottoms : mapping of str to array
        Inputs by name.
    phase, dialect : str
    params : mapping of str to sequence of array, optional
        Parameters by layer.
    reference : callable or mapping, optional
        Outputs by name, or a function of (bottoms, parameters by layer) in float64 that returns
        them (or one array, for the only output).
    gradient : bool
        Compare gradients with central differences in float64.
    constant : sequence of str
        Inputs that get no gradient: none must be computed for them.
    exact : bool
        The outputs equal the reference in every bit.
    tolerance : float
        Of float32 outputs, relative to the largest value.
    device : str
        As the fixture of this name gives it.

    Returns
    -------
    Net
        The float32 net after forward.
    """
    options = {"phase": phase, "dialect": dialect, "params": params, "device": device}
    net = make_net(layers, bottoms, **options)
    values = {name: [blob.data.astype(np.float64) for blob in blobs] for name, blobs in net.params.items()}
    outputs = net.forward()
    if reference is not None:
        wanted = reference
        if callable(reference):
            wanted = reference({name: np.asarray(a, np.float64) for name, a in bottoms.items()}, values)
        if not isinstance(wanted, Mapping):
            wanted = {net.outputs[0]: wanted}
        assert set(wanted) == set(outputs)
        for name, array in wanted.items():
            assert outputs[name].shape == np.shape(array), f"{name}: {outputs[name].shape} != {np.shape(array)}"
            if exact:
                np.testing.assert_array_equal(outputs[name], np.asarray(array, np.float32), err_msg=name)
            else:
                scale = max(1.0, float(np.abs(array).max(initial=0)))
                np.testing.assert_allclose(outputs[name], array, rtol=0, atol=tolerance * scale, err_msg=name)
    check_threads(layers, bottoms, gradient, options)
    if gradient:
        check_gradient(layers, bottoms, constant, options)
    return net


def tops(net: Net, seed: int = 9) -> dict[str, np.ndarray]:
    """Random gradients for the outputs."""
    draw = np.random.default_rng(seed)
    return {name: draw.standard_normal(net.blobs[name].shape).astype(net.dtype) for name in net.outputs}


def learned(net: Net) -> list[tuple[str, int]]:
    """(layer, index) of the parameters that get a gradient."""
    return [(node.spec.name, i) for node in net.graph.nodes for i, wanted in enumerate(node.param_propagate) if wanted]


def check_threads(layers: str, bottoms: Mapping[str, np.ndarray], gradient: bool, options: dict) -> None:
    """Outputs and gradients are the same bits for one and three threads; on another device, at every run."""
    results = []
    try:
        for threads in (1, 3):  # another device's threads start in another order at every launch
            set_num_threads(threads)
            net = make_net(layers, bottoms, **options)
            got = [array.tobytes() for array in net.forward().values()]
            if gradient:
                net.backward(**tops(net))
                got += [net.blobs[name].diff.tobytes() for name in net.inputs]
                got += [net.params[name][i].diff.tobytes() for name, i in learned(net)]
            results.append(got)
    finally:
        set_num_threads(None)
    assert results[0] == results[1], "results differ with the number of threads, or from run to run"


def check_gradient(layers: str, bottoms: Mapping[str, np.ndarray], constant: Sequence[str], options: dict,
                   tolerance: float = 1e-6) -> None:
    """Backward equals central differences of ``sum(output * random)`` in float64."""
    net = make_net(layers, bottoms, dtype=np.float64, **options)
    streams = copy.deepcopy(net._execution.state())
    statistics = [(blob, blob.data.copy()) for blobs in net.params.values() for blob in blobs]

    def rewind() -> None:
        """Take back what forward moves: random streams, running statistics."""
        net._execution.set_state(copy.deepcopy(streams))
        for blob, values in statistics:
            if not any(blob is learnt for learnt, _ in places):
                blob.data[...] = values

    places = [(net.blobs[name], name) for name in bottoms if name not in constant]
    places += [(net.params[name][i], f"{name}[{i}]") for name, i in learned(net)]
    net.forward()
    above = tops(net)
    for name in bottoms:
        net.blobs[name].diff[...] = 77.0  # must be overwritten, or left alone where no gradient goes
    net.backward(**above)
    found = {what: blob.diff.copy() for blob, what in places}
    for name in constant:
        assert (net.blobs[name].diff == 77.0).all(), f"{name}: a gradient was written"
    net.backward(**above)
    for blob, what in places:
        times = 2 if "[" in what else 1  # parameters' gradients are added up, inputs' are overwritten
        np.testing.assert_allclose(blob.diff, times * found[what], rtol=1e-9, atol=1e-12, err_msg=what)

    def loss() -> float:
        rewind()
        return sum(float((array * above[name]).sum()) for name, array in net.forward().items())

    for blob, what in places:
        choice = np.random.default_rng(1).permutation(blob.count)[:MOST_PLACES]
        scale = max(1.0, float(np.abs(found[what]).max(initial=0)))
        for place in choice:
            middle = blob.data.reshape(-1)[place]
            blob.data.reshape(-1)[place] = middle + STEP  # `data` is taken anew after each pass
            high = loss()
            blob.data.reshape(-1)[place] = middle - STEP
            low = loss()
            blob.data.reshape(-1)[place] = middle
            slope = (high - low) / (2 * STEP)
            got = float(found[what].reshape(-1)[place])
            assert abs(slope - got) < tolerance * scale, f"{what} at {place}: backward {got}, differences {slope}"
