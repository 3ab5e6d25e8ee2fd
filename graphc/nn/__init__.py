"""Layers, activations and losses as plain functions of arrays: written in NumPy, usable inside traces and on NumPy arrays.

Parameters are ordinary arguments; nothing is kept anywhere. Convolution and pooling have PyTorch's arguments.

>>> import math
>>> import numpy as np
>>> softmax(np.array([0.0, np.log(3.0)]))
array([0.25, 0.75])
>>> round(float(cross_entropy(np.array([[0.0, np.log(3.0)]]), np.array([1]))), 4) == round(math.log(4 / 3), 4)
True
"""

from __future__ import annotations

from graphc.nn.activations import gelu, log_softmax, logsumexp, relu, sigmoid, silu, softmax, softplus
from graphc.nn.layers import (
    attention,
    batch_norm,
    batch_norm_state,
    dropout,
    embedding,
    layer_norm,
    linear,
    one_hot,
    rms_norm,
)
from graphc.nn.losses import cross_entropy, mse
from graphc.nn.windows import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)

__all__ = [
    "attention", "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "batch_norm_state", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cross_entropy", "dropout", "embedding", "gelu", "layer_norm",
    "linear", "log_softmax", "logsumexp", "max_pool1d", "max_pool2d", "max_pool3d", "mse", "one_hot", "relu", "rms_norm",
    "sigmoid", "silu", "softmax", "softplus",
]  # fmt: skip
