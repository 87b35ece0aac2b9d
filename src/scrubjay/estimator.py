"""The learner in closed form as an estimator of scikit-learn, over any features. It needs the extra `sklearn`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection, Target, Weighting, aligned
from scrubjay.closed_form.selection import DEFAULTS, Settings
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import ConfigError

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ConfigError(
        f"the estimator needs scikit-learn ({error.name} is missing): pip install 'scrubjay[sklearn]'"
    ) from None

WIDTH = 512
"""Largest number of components where none is given."""


class ClosedFormEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds feature vectors so that the cosine is high within classes; learns classes one batch after another.

    After any sequence of `partial_fit`, in any order and split, the metric is that of one `fit` on all vectors at once.
    Each `partial_fit` rotates the new coordinates to the previous ones, so that embeddings that are stored stay
    comparable; a rotation changes no cosine. See `scrubjay.closed_form.discriminant` for the formulas.

    Args:
        n_components: width of the embedding; None: that of the features, at most 512. What has no axis is zero.
        prior: κ, number of vectors that the target counts as in the covariance within classes.
        target: what this covariance is shrunk towards: "diagonal" or "identity", a multiple of the identity matrix.
        residual: ρ, weight of axes beyond the discriminants, which tell classes apart that were never learned.
        weighting: "equal", or "plda" for the reliability of a class mean along each axis.

    Attributes:
        classes_: labels of the learned classes, in the order in which they were learned.
        statistics_: counts and means of the classes, and the scatter within them.
        projection_: the linear map before normalisation.
        n_features_in_: number of features p.

    >>> import numpy as np
    >>> X, y = np.eye(4)[[0, 0, 1, 1]] + np.linspace(0, 0.1, 16).reshape(4, 4) ** 2, ["ash", "ash", "oak", "oak"]
    >>> Z = ClosedFormEmbedding().fit(X, y).transform(X)
    >>> bool(Z[0] @ Z[1] > 0.9 > Z[0] @ Z[2])
    True
    """

    classes_: NDArray[Any]
    statistics_: Statistics
    projection_: Projection

    def __init__(
        self,
        n_components: int | None = None,
        *,
        prior: float = DEFAULTS.prior,
        target: Target = DEFAULTS.target,
        residual: float = DEFAULTS.residual,
        weighting: Weighting = "equal",
    ) -> None:
        self.n_components = n_components
        self.prior = prior
        self.target = target
        self.residual = residual
        self.weighting = weighting

    def fit(self, X: ArrayLike, y: ArrayLike) -> ClosedFormEmbedding:
        """Learn from these vectors alone.

        Args:
            X: (N, p), finite numbers.
            y: (N,), class labels: integers or text.

        Raises:
            ValueError: the vectors are not finite, or the labels are no classes.
        """
        for name in ("classes_", "statistics_", "projection_"):
            if hasattr(self, name):
                delattr(self, name)
        return self._learn(X, y, reset=True)

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> ClosedFormEmbedding:
        """Learn more vectors, of new classes or of known ones; see `fit`."""
        return self._learn(X, y, reset=not hasattr(self, "statistics_"))

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Embed vectors (N, p) as unit rows (N, d).

        Raises:
            sklearn.exceptions.NotFittedError: nothing was learned yet.
            ValueError: the vectors are not finite, or have another number of features.
        """
        check_is_fitted(self, "projection_")
        features = _tensor(validate_data(self, X, reset=False, dtype=np.float64))
        embedded: NDArray[np.float64] = F.normalize(self.projection_(features), dim=1).numpy()
        return embedded

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn has to know: labels are needed, and the output is float64."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.projection_.bias)

    def _learn(self, X: ArrayLike, y: ArrayLike, reset: bool) -> ClosedFormEmbedding:
        features, names = validate_data(self, X, y, reset=reset, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(names)
        known = [] if reset else self.classes_.tolist()
        number = {name: index for index, name in enumerate(known)}
        for name in names.tolist():
            number.setdefault(name, len(number))
        labels = torch.tensor([number[name] for name in names.tolist()])
        learned = Statistics.of("estimator", _tensor(features), labels)
        self.statistics_ = learned if reset else self.statistics_ + learned
        self.classes_ = np.array(list(number))
        self.projection_ = self._solved(None if reset else self.projection_)
        return self

    def _solved(self, previous: Projection | None) -> Projection:
        p = self.statistics_.dim
        width = min(p, WIDTH) if self.n_components is None else self.n_components
        if width < 1:
            raise ValueError(f"n_components = {width}; give at least 1.")
        solved = Settings(self.prior, self.residual, self.target).solve(self.statistics_, width)
        projection = _padded(solved.projection(self.residual, width, self.weighting), width)
        return projection if previous is None else aligned(projection, previous, self.statistics_)


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.array(values))  # a copy, since a caller's array may be read-only


def _padded(projection: Projection, width: int) -> Projection:
    unused: int = width - len(projection.bias)
    weight: Tensor = F.pad(projection.weight, (0, 0, 0, unused))
    return Projection(weight, F.pad(projection.bias, (0, unused)))
