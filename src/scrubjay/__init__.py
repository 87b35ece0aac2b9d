"""Image retrieval that keeps learning: new classes in, none forgotten, the index still valid."""

__version__ = "0.1.0"
