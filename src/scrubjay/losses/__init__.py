"""Losses: pure functions of tensors, one formula a file, the formula in its docstring."""
