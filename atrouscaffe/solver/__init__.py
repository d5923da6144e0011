"""Solvers: learning-rate policies, update rules, snapshots."""
