"""Where net, CRF, data and metrics meet."""
