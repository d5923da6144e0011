"""Files in, files out: prototxt, caffemodel, HDF5, mean files, and their dialects."""
