"""Where work runs: threads, compiled functions, backends, blobs."""
