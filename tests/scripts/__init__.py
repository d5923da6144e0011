"""Scripts as people wrote them for Caffe, run unchanged; `test_scripts` runs them."""
