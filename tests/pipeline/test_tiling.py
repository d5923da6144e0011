"""Tiles of one axis: they cover, they overlap enough, they begin on the grid."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrouscaffe.graph.report import Field
from atrouscaffe.pipeline.tiling import Axis


def test_sizes_differ_from_the_nets_by_whole_steps():
    axis = Axis(513, 8, Field())
    assert [axis.fit(n) for n in (1, 513, 514, 521, 522, 2048)] == [513, 513, 521, 521, 529, 2049]
    assert Axis(514, 8, Field()).fit(600) == 602


@given(st.integers(1, 6), st.integers(0, 40), st.integers(0, 60), st.integers(0, 200), st.integers(0, 30),
       st.booleans())
def test_tiles_cover_an_axis_and_each_score_sees_its_field(power, before, behind, more, extra, coarse):
    step = 2**power
    field = Field(Fraction(-before), Fraction(behind + 1), Fraction(step if coarse else 1))
    axis = Axis(3 * step + 1, step, field)
    tile = axis.smallest() + extra * step
    whole = tile + more * step
    scores = (whole - 1) // step + 1 if coarse else whole
    tiles = axis.tiles(whole, tile, scores)
    assert tiles[0].first == 0
    assert tiles[-1].last == scores
    for part, following in zip(tiles, tiles[1:] + [None]):
        assert part.start % step == 0
        assert 0 <= part.start <= whole - tile
        assert part.first < part.last
        if following is not None:
            assert following.first == part.last
        for score in (part.first, part.last - 1):
            begin, end = field.begin + score * field.step, field.end + score * field.step
            assert begin >= part.start or part.start == 0
            assert end <= part.start + tile or part.start + tile == whole
            assert part.offset + score - part.first == score - Fraction(part.start) / field.step


@pytest.mark.parametrize("tile", [40, 50])
def test_a_tile_as_large_as_the_axis_is_one(tile):
    parts = Axis(33, 4, Field()).tiles(40, tile, 40)
    assert [(p.start, p.first, p.last, p.offset) for p in parts] == [(0, 0, 40, 0)]
