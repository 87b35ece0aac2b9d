"""Nearest class mean (Mensink et al., 2013): trunk features without learning, in the subspace of the class means.

z = normalize(R·Vᵀ D (φ − ḡ))

φ: trunk features, by default mean and standard deviation of every stage's map (`network.features`). ḡ: mean of the
class means m_c. D: the identity or, with `standardise`, a factor 1/σ_j for each feature, σ_j² its variance within
classes. V: an orthonormal basis of the span of D (m_c − ḡ). R: the rotation that brings the coordinates closest to
those of the previous generation (`align`).

The reference for methods that learn a metric over the same features. An embedding has at most `network.dim` dimensions,
fewer than φ. A nearest class mean classifier (here without the paper's learned metric) sees of φ only its position in
the subspace of the class means, so projecting onto that subspace changes none of its decisions, as long as there are at
most `network.dim` + 1 classes; with more, V has the axes along which the means vary most. Retrieval can gain by the
projection, since it removes what varies within classes only; the features as they are, with all their dimensions, are
the baseline without training that every comparison has.
Keeps the counts and means of the classes, and the scatter within classes.
"""

from __future__ import annotations

from scrubjay.closed_form.axes import class_mean_axes
from scrubjay.closed_form.discriminant import Projection
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.linear_embedding import LinearEmbedding, LinearEmbeddingOptions
from scrubjay.methods import Method, MethodOptions


class NCMOptions(LinearEmbeddingOptions, MethodOptions):
    """Options of the features' scale."""

    standardise: bool = False
    """Divide every feature by its standard deviation within classes."""


class NCM(LinearEmbedding, Method):
    """Trunk features in the subspace of the class means."""

    Options = NCMOptions
    options: NCMOptions

    def fit(self, total: Statistics) -> Projection:
        """The projection onto the subspace of the class means."""
        return class_mean_axes(total, self.network.options.dim, self.options.standardise)
