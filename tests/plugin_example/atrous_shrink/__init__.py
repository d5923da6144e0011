"""An example of a package that adds layers to atrouscaffe."""
