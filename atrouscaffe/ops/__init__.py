"""Arrays in, arrays out: the numerical work of layers. Knows nothing of layers, files or nets."""
