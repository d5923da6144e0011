import numpy as np
import pytest

from atrouscaffe.errors import DataError, LayerError
from tests.check import check_layer, make_net

X = np.array([[5, 0, 2], [2, 2, 4]], np.float32)


def embed(options):
    return f'layer {{ name: "e" type: "Embed" bottom: "x" top: "y" embed_param {{ {options} }} }}'


@pytest.mark.parametrize("bias", [False, True])
def test_embed_when_rows_repeat_then_their_gradients_are_summed(bias):
    def reference(bottoms, params):
        y = params["e"][0][bottoms["x"].astype(int)]
        return y + params["e"][1] if bias else y

    check_layer(embed(f"num_output: 4 input_dim: 6 bias_term: {str(bias).lower()}"), {"x": X}, reference=reference,
                constant=["x"])


@pytest.mark.parametrize("value", [-1, 6, np.nan])
def test_embed_when_an_index_is_outside_then_error(value):
    with pytest.raises(DataError, match="0 to 5"):
        make_net(embed("num_output: 4 input_dim: 6"), {"x": np.full((2, 3), value, np.float32)}).forward()


def test_embed_when_sizes_are_missing_then_refused():
    with pytest.raises(LayerError, match="input_dim"):
        make_net(embed("num_output: 4"), {"x": X})
