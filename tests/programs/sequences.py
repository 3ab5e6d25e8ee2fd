"""Sequences: recurrent networks, attention, dynamic programming and filters, unrolled by Python loops."""

from __future__ import annotations

import numpy as np

from programs import Program


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


def logsumexp(x, axis, keepdims=False):
    largest = np.max(x, axis=axis, keepdims=True)
    total = np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True)) + largest
    return total if keepdims else np.squeeze(total, axis=axis)


def sigmoid(x):
    return 0.5 * (np.tanh(x / 2.0) + 1.0)


def concat_and_multiply(weights, *args):
    """HIPS autograd's helper: the bias is a column of ones."""
    with_ones = np.hstack(args + (np.ones((args[0].shape[0], 1)),))
    return np.dot(with_ones, weights)


def rnn(params, inputs, targets):
    """HIPS autograd's rnn.py: iterates over the time axis of a traced array, one-hot characters in and out."""

    def update(inputs, hiddens):
        return np.tanh(concat_and_multiply(params["change"], inputs, hiddens))

    def outputs_of(hiddens):
        output = concat_and_multiply(params["predict"], hiddens)
        return output - logsumexp(output, axis=1, keepdims=True)

    hiddens = np.repeat(params["init hiddens"], inputs.shape[1], axis=0)
    output = [outputs_of(hiddens)]
    for one in inputs:
        hiddens = update(one, hiddens)
        output.append(outputs_of(hiddens))
    log_likelihood = 0.0
    for logprobs, target in zip(output, targets, strict=False):
        log_likelihood = log_likelihood + np.sum(logprobs * target)
    return -log_likelihood / (targets.shape[0] * targets.shape[1])


def rnn_data(seed, steps=4, batch=3, symbols=4, hidden=3):
    rng = np.random.default_rng(seed)
    params = {
        "init hiddens": normal(rng, 1, hidden),
        "change": normal(rng, symbols + hidden + 1, hidden, scale=0.5),
        "predict": normal(rng, hidden + 1, symbols, scale=0.5),
    }
    text = np.eye(symbols)[rng.integers(0, symbols, (steps, batch))]
    return params, text, text


def lstm(params, inputs, targets):
    """HIPS autograd's lstm.py: four gates, cells and hiddens carried by a Python loop."""

    def update(one, hiddens, cells):
        change = np.tanh(concat_and_multiply(params["change"], one, hiddens))
        forget = sigmoid(concat_and_multiply(params["forget"], one, hiddens))
        ingate = sigmoid(concat_and_multiply(params["ingate"], one, hiddens))
        outgate = sigmoid(concat_and_multiply(params["outgate"], one, hiddens))
        cells = cells * forget + ingate * change
        return outgate * np.tanh(cells), cells

    def outputs_of(hiddens):
        output = concat_and_multiply(params["predict"], hiddens)
        return output - logsumexp(output, axis=1, keepdims=True)

    hiddens = np.repeat(params["init hiddens"], inputs.shape[1], axis=0)
    cells = np.repeat(params["init cells"], inputs.shape[1], axis=0)
    output = [outputs_of(hiddens)]
    for one in inputs:
        hiddens, cells = update(one, hiddens, cells)
        output.append(outputs_of(hiddens))
    return -sum(np.sum(o * t) for o, t in zip(output, targets, strict=False)) / (targets.shape[0] * targets.shape[1])


def lstm_data(seed, steps=4, batch=2, symbols=3, hidden=3):
    rng = np.random.default_rng(seed)
    params = {"init hiddens": normal(rng, 1, hidden), "init cells": normal(rng, 1, hidden)}
    for gate in ("change", "forget", "ingate", "outgate"):
        params[gate] = normal(rng, symbols + hidden + 1, hidden, scale=0.5)
    params["predict"] = normal(rng, hidden + 1, symbols, scale=0.5)
    text = np.eye(symbols)[rng.integers(0, symbols, (steps, batch))]
    return params, text, text


def transformer(params, tokens, targets):
    """A pre-norm Transformer block over token embeddings, causal by a mask of -inf, several heads."""

    def layer_norm(x, gain, bias):
        centred = x - x.mean(axis=-1, keepdims=True)
        return gain * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) + bias

    def attention(x, w_qkv, w_out, heads):
        batch, length, width = x.shape
        qkv = np.reshape(x @ w_qkv, (batch, length, 3 * heads, width // heads))
        q, k, v = np.split(np.transpose(qkv, (0, 2, 1, 3)), 3, axis=1)
        scores = q @ np.swapaxes(k, -1, -2) / (width // heads) ** 0.5
        scores = np.where(np.tril(np.ones((length, length), dtype=bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        return np.transpose(mixed, (0, 2, 1, 3)).reshape(batch, length, width) @ w_out

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))

    x = params["embedding"][tokens] + params["positions"][: tokens.shape[1]]
    x = x + attention(layer_norm(x, *params["norm1"]), params["qkv"], params["out"], heads=2)
    x = x + gelu(layer_norm(x, *params["norm2"]) @ params["up"]) @ params["down"]
    logits = x @ params["embedding"].T
    logits = logits - logits.max(axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    batch, length = targets.shape
    return -log_p[np.arange(batch)[:, None], np.arange(length), targets].mean()


def transformer_data(seed, batch=2, length=4, width=4, symbols=5):
    rng = np.random.default_rng(seed)
    params = {
        "embedding": normal(rng, symbols, width),
        "positions": normal(rng, length + 1, width, scale=0.3),
        "norm1": (1 + normal(rng, width, scale=0.1), normal(rng, width, scale=0.1)),
        "norm2": (1 + normal(rng, width, scale=0.1), normal(rng, width, scale=0.1)),
        "qkv": normal(rng, width, 3 * width, scale=width**-0.5),
        "out": normal(rng, width, width, scale=width**-0.5),
        "up": normal(rng, width, 4 * width, scale=width**-0.5),
        "down": normal(rng, 4 * width, width, scale=(4 * width) ** -0.5),
    }
    text = rng.integers(0, symbols, (batch, length + 1))
    return params, text[:, :-1], text[:, 1:]


def hidden_markov_model(params, observations):
    """Minus the log-likelihood of a discrete HMM: the forward algorithm in log space."""
    log_start = params["start"] - logsumexp(params["start"], axis=0)
    log_move = params["move"] - logsumexp(params["move"], axis=1, keepdims=True)
    log_emit = params["emit"] - logsumexp(params["emit"], axis=1, keepdims=True)
    alpha = log_start + log_emit[:, observations[0]]
    for seen in observations[1:]:
        alpha = logsumexp(alpha[:, None] + log_move, axis=0) + log_emit[:, seen]
    return -logsumexp(alpha, axis=0)


def hidden_markov_model_data(seed, steps=8, states=3, symbols=4):
    rng = np.random.default_rng(seed)
    params = {"start": normal(rng, states), "move": normal(rng, states, states), "emit": normal(rng, states, symbols)}
    return params, rng.integers(0, symbols, steps)


def kalman_filter(params, observations):
    """Minus the log-likelihood of a linear Gaussian state space model, by its innovations."""
    a, c = params["dynamics"], params["observe"]
    q = params["q"] @ params["q"].T + 0.1 * np.eye(len(a), dtype=a.dtype)
    r = params["r"] @ params["r"].T + 0.1 * np.eye(len(c), dtype=c.dtype)
    mean, cov = params["start"], q
    total = 0.0
    for y in observations:
        mean, cov = a @ mean, a @ cov @ a.T + q
        innovation, s = y - c @ mean, c @ cov @ c.T + r
        gain = np.linalg.solve(s, c @ cov).T
        total = total + 0.5 * (np.linalg.slogdet(s)[1] + innovation @ np.linalg.solve(s, innovation))
        mean = mean + gain @ innovation
        cov = cov - gain @ s @ gain.T
    return total / len(observations)


def kalman_filter_data(seed, steps=5, states=3, seen=2):
    rng = np.random.default_rng(seed)
    params = {
        "dynamics": 0.9 * np.linalg.qr(rng.normal(size=(states, states)))[0],
        "observe": normal(rng, seen, states),
        "q": normal(rng, states, states, scale=0.4),
        "r": normal(rng, seen, seen, scale=0.4),
        "start": normal(rng, states),
    }
    return params, normal(rng, steps, seen).cumsum(axis=0)


def soft_time_warping(params, target):
    """Soft dynamic time warping (Cuturi and Blondel 2017): a table filled cell by cell, in place."""
    series = np.sin(params["frequency"] * np.arange(len(target) + 1, dtype=target.dtype) + params["phase"])
    cost = (series[:, None] - target[None, :]) ** 2
    n, m = cost.shape
    table = np.zeros_like(cost, shape=(n + 1, m + 1))
    table[0, 1:] = 1e3
    table[1:, 0] = 1e3
    for i in range(n):
        for j in range(m):
            options = -np.stack([table[i, j], table[i, j + 1], table[i + 1, j]]) / 0.5
            largest = options.max()
            table[i + 1, j + 1] = cost[i, j] - 0.5 * (np.log(np.exp(options - largest).sum()) + largest)
    return table[-1, -1]


def soft_time_warping_data(seed, n=4):
    rng = np.random.default_rng(seed)
    target = np.sin(0.9 * np.arange(n)) + 0.1 * normal(rng, n)
    return {"frequency": np.array(0.7), "phase": np.array(0.2)}, target


ASSIGNS = "assigns into an array"

PROGRAMS = (
    Program(rnn, rnn_data, {"steps": 20, "batch": 16, "symbols": 32, "hidden": 32}, widens=True),
    Program(lstm, lstm_data, {"steps": 20, "batch": 16, "symbols": 32, "hidden": 32}, widens=True),
    Program(transformer, transformer_data, {"batch": 4, "length": 32, "width": 32, "symbols": 50}),
    Program(hidden_markov_model, hidden_markov_model_data, {"steps": 60, "states": 16, "symbols": 20}),
    Program(kalman_filter, kalman_filter_data, {"steps": 30, "states": 6, "seen": 3}),
    Program(soft_time_warping, soft_time_warping_data, {"n": 10}, peer=ASSIGNS),
)
