"""Tests of prototxt/."""
