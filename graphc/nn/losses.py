"""Losses: the mean over the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.nn.activations import log_softmax


def cross_entropy(logits: Any, labels: Any, axis: int = -1) -> Any:
    """The mean of ``−log softmax(logits)`` at the labels: integers (…), or probabilities of the shape of the logits.

    An integer outside the range raises IndexError; negative ones count from the end, as everywhere in NumPy.
    """
    log_p = log_softmax(logits, axis=axis)
    if np.shape(labels) == np.shape(logits) and np.result_type(labels).kind not in "biu":
        return -np.mean(np.sum(labels * log_p, axis=axis))
    return -np.mean(np.take_along_axis(log_p, np.expand_dims(labels, axis), axis=axis))


def mse(prediction: Any, target: Any) -> Any:
    """The mean of the squared differences.

    >>> float(mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    difference = prediction - target
    return np.mean(difference * difference)
