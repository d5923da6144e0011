"""Layers: one file a Caffe type."""
