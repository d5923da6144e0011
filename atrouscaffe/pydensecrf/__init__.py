"""Names of the package pydensecrf, so that ``import atrouscaffe.pydensecrf.densecrf as dcrf`` runs its scripts."""
