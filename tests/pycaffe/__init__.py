"""Tests of pycaffe's names, in the style of the original's own."""
