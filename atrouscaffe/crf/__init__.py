"""The fully connected CRF: permutohedral lattice, mean field, unaries, search and learning."""
