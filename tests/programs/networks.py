"""Networks and regressions: parameters as one flat vector and as nested trees, losses of every kind."""

from __future__ import annotations

import numpy as np
from scipy import special

from programs import Program


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


# ------------------------------------------------------------------------------------------------ multilayer perceptrons


def layers(flat, sizes):
    """Weights and biases of each layer, views of one flat vector."""
    start = 0
    for m, n in zip(sizes[:-1], sizes[1:], strict=True):
        yield flat[start : start + m * n].reshape(m, n), flat[start + m * n : start + (m + 1) * n]
        start += (m + 1) * n


def mlp_flat(flat, x, labels):
    """A classifier whose parameters are one vector: how SciPy's optimisers want them."""
    sizes = [x.shape[1], 8, 8, 3]
    for weights, bias in layers(flat, sizes):
        outputs = x @ weights + bias
        x = np.tanh(outputs)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    penalty = 1e-3 * np.dot(flat, flat)
    return -log_probabilities[np.arange(len(labels)), labels].mean() + penalty


def mlp_flat_data(seed, n=6, features=4):
    rng = np.random.default_rng(seed)
    count = (features + 1) * 8 + 9 * 8 + 9 * 3
    return normal(rng, count, scale=0.4), normal(rng, n, features), rng.integers(0, 3, n)


def mlp_tree(params, images, targets):
    """HIPS autograd's neural_net.py: a list of (weights, bias), one-hot targets, log-softmax by logsumexp."""
    inputs = images
    for weights, bias in params:
        outputs = np.dot(inputs, weights) + bias
        inputs = np.tanh(outputs)
    largest = np.max(outputs, axis=1, keepdims=True)
    normalised = outputs - (largest + np.log(np.sum(np.exp(outputs - largest), axis=1, keepdims=True)))
    prior = sum(np.sum(weights**2) + np.sum(bias**2) for weights, bias in params)
    return 0.1 * prior / len(images) - np.sum(normalised * targets)


def mlp_tree_data(seed, n=5, features=6, hidden=4, classes=3):
    rng = np.random.default_rng(seed)
    sizes = [features, hidden, hidden, classes]
    params = [(normal(rng, m, k, scale=0.5), normal(rng, k, scale=0.1)) for m, k in zip(sizes, sizes[1:], strict=False)]
    return params, normal(rng, n, features), np.eye(classes)[rng.integers(0, classes, n)]


def deep_set(params, sets, targets):
    """A function of sets: each element embedded, embeddings summed, the sum read out."""
    embedded = np.maximum(sets @ params["embed"]["w"] + params["embed"]["b"], 0)
    pooled = embedded.sum(axis=1) / sets.shape[1]
    hidden = np.sin(pooled @ params["read"]["w"] + params["read"]["b"])
    return np.mean((hidden @ params["out"] - targets) ** 2)


def deep_set_data(seed, batch=4, size=5, features=2, hidden=6):
    rng = np.random.default_rng(seed)
    params = {
        "embed": {"w": normal(rng, features, hidden), "b": normal(rng, hidden)},
        "read": {"w": normal(rng, hidden, hidden), "b": normal(rng, hidden)},
        "out": normal(rng, hidden),
    }
    sets = normal(rng, batch, size, features)
    return params, sets, sets.max(axis=(1, 2)) - sets.min(axis=(1, 2))


def mixture_of_experts(params, x, y):
    """Three experts and a gate that mixes their *densities*; a smooth top-1."""
    gate = x @ params["gate"]
    gate = gate - gate.max(axis=-1, keepdims=True)
    weights = np.exp(gate) / np.exp(gate).sum(axis=-1, keepdims=True)
    hidden = np.tanh(np.einsum("nd,edh->enh", x, params["w1"]) + params["b1"][:, None, :])
    predictions = np.einsum("enh,eh->ne", hidden, params["w2"])
    deviation = np.exp(params["log_scale"])
    densities = np.exp(-0.5 * ((y[:, None] - predictions) / deviation) ** 2) / deviation
    balance = np.mean(weights, axis=0)
    return -np.mean(np.log(np.sum(weights * densities, axis=1))) + 0.1 * np.sum(balance * np.log(balance))


def mixture_of_experts_data(seed, n=7, features=3, experts=3, hidden=4):
    rng = np.random.default_rng(seed)
    params = {
        "gate": normal(rng, features, experts),
        "w1": normal(rng, experts, features, hidden),
        "b1": normal(rng, experts, hidden),
        "w2": normal(rng, experts, hidden, scale=0.5),
        "log_scale": normal(rng, experts, scale=0.1) + 0.3,
    }
    x = normal(rng, n, features)
    return params, x, np.abs(x[:, 0]) + 0.1 * normal(rng, n)


# ------------------------------------------------------------------------------------------------ regressions


def logistic_regression(weights, inputs, targets):
    """HIPS autograd's tutorial: the sigmoid written with tanh, labels that are booleans."""
    predictions = 0.5 * (np.tanh(0.5 * np.dot(inputs, weights)) + 1)
    label_probabilities = predictions * targets + (1 - predictions) * (1 - targets)
    return -np.sum(np.log(label_probabilities))


def logistic_regression_data(seed, n=8, features=3):
    rng = np.random.default_rng(seed)
    inputs = normal(rng, n, features)
    return normal(rng, features), inputs, inputs @ np.arange(1, features + 1) > 0


def robust_regression(params, x, y):
    """Huber's loss around a line, the scale fitted with it (Huber's proposal 2 as one smooth objective)."""
    slope, intercept, log_scale = params
    scale = np.exp(log_scale)
    residual = np.abs((y - (x @ slope + intercept)) / scale)
    huber = np.where(residual < 1.345, 0.5 * residual**2, 1.345 * (residual - 0.5 * 1.345))
    return np.mean(huber) * scale + 0.2 * scale


def robust_regression_data(seed, n=9, features=2):
    rng = np.random.default_rng(seed)
    x = normal(rng, n, features)
    y = x @ np.linspace(1, 2, features) + 0.3 * normal(rng, n)
    y[::3] += 4
    return (normal(rng, features), np.array(0.3), np.array(-0.2)), x, y


def negative_binomial_regression(params, x, counts):
    """Over-dispersed counts: log-gammas of parameters, scipy.special used as it is."""
    mean = np.exp(x @ params["w"] + params["b"])
    shape = np.exp(params["log_shape"])
    likelihood = (
        special.gammaln(counts + shape)
        - special.gammaln(shape)
        - special.gammaln(counts + 1.0)
        + shape * np.log(shape / (shape + mean))
        + counts * np.log(mean / (shape + mean))
    )
    return -np.sum(likelihood)


def negative_binomial_regression_data(seed, n=7, features=2):
    rng = np.random.default_rng(seed)
    x = normal(rng, n, features)
    params = {"w": normal(rng, features, scale=0.3), "b": np.array(0.5), "log_shape": np.array(0.4)}
    return params, x, rng.poisson(3, n).astype(np.float64)


def matrix_factorisation(params, users, items, ratings):
    """Ratings by the inner product of gathered factors; users and items come up many times."""
    p, q = params["users"][users], params["items"][items]
    predicted = (p * q).sum(axis=1) + params["user_bias"][users] + params["item_bias"][items] + params["mean"]
    ridge = sum((factor**2).sum() for factor in (params["users"], params["items"]))
    return ((predicted - ratings) ** 2).mean() + 0.01 * ridge


def matrix_factorisation_data(seed, n=12, users=4, items=5, rank=2):
    rng = np.random.default_rng(seed)
    params = {
        "users": normal(rng, users, rank),
        "items": normal(rng, items, rank),
        "user_bias": normal(rng, users),
        "item_bias": normal(rng, items),
        "mean": np.array(3.0),
    }
    return params, rng.integers(0, users, n), rng.integers(-items, items, n), rng.uniform(1, 5, n)


def variational_autoencoder(params, images, noise):
    """HIPS autograd's variational_autoencoder.py: the reparametrised noise is an argument."""

    def network(layers, x):
        for w, b in layers:
            outputs = np.dot(x, w) + b
            x = np.tanh(outputs)
        return outputs

    encoder, decoder = params
    encoded = network(encoder, images)
    half = encoded.shape[-1] // 2
    mean, log_std = encoded[:, :half], encoded[:, half:]
    latents = mean + np.exp(log_std) * noise
    logits = network(decoder, latents)
    reconstruction = -np.sum(np.logaddexp(0, -(2 * images - 1) * logits), axis=-1)
    divergence = np.sum(0.5 * (np.exp(2 * log_std) + mean**2 - 1) - log_std, axis=-1)
    return -np.mean(reconstruction - divergence)


def variational_autoencoder_data(seed, n=4, pixels=9, hidden=5, latent=2):
    rng = np.random.default_rng(seed)

    def net(*sizes):
        return [
            (normal(rng, m, k, scale=0.4), normal(rng, k, scale=0.1)) for m, k in zip(sizes, sizes[1:], strict=False)
        ]

    params = (net(pixels, hidden, 2 * latent), net(latent, hidden, pixels))
    return params, (rng.uniform(size=(n, pixels)) > 0.5).astype(np.float64), normal(rng, n, latent)


PROGRAMS = (
    Program(mlp_flat, mlp_flat_data, {"n": 256, "features": 16}),
    Program(mlp_tree, mlp_tree_data, {"n": 128, "features": 64, "hidden": 64, "classes": 10}),
    Program(deep_set, deep_set_data, {"batch": 64, "size": 20, "hidden": 32}),
    Program(mixture_of_experts, mixture_of_experts_data, {"n": 200, "features": 8, "experts": 6, "hidden": 16}),
    Program(logistic_regression, logistic_regression_data, {"n": 500, "features": 20}, widens=True),
    Program(robust_regression, robust_regression_data, {"n": 500, "features": 10}),
    Program(negative_binomial_regression, negative_binomial_regression_data, {"n": 500, "features": 10}),
    Program(matrix_factorisation, matrix_factorisation_data, {"n": 2000, "users": 100, "items": 150, "rank": 8}),
    Program(variational_autoencoder, variational_autoencoder_data, {"n": 64, "pixels": 196, "hidden": 64, "latent": 8}),
)
