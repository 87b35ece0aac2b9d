"""Losses: pure functions of tensors, one per file, with the formula in its docstring."""
