"""Derivatives inside the program: nested gradients, implicit differentiation, differential equations as losses."""

from __future__ import annotations

import numpy as np

from graphc import custom_vjp, grad, vmap
from programs import Program


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


def fourth_derivative(params, x):
    """Four gradients, one in the other: HIPS autograd's tanh.py carried on to d⁴/dx⁴."""

    def f(x):
        return np.tanh(params[0] * x + params[1])

    def total(f):
        return lambda x: np.sum(f(x))

    fourth = grad(total(grad(total(grad(total(grad(total(f))))))))
    return np.sum(fourth(x) * np.cos(x))


def fourth_derivative_data(seed, n=3):
    rng = np.random.default_rng(seed)
    return normal(rng, 2), rng.uniform(-2, 2, n)


def physics_informed(params, interior, boundary):
    """A network that solves u_t + u u_x = ν u_xx: its own derivatives by t and x are in the loss."""

    def u(t, x):
        hidden = np.tanh(t * params["w1"][0] + x * params["w1"][1] + params["b1"])
        hidden = np.tanh(hidden @ params["w2"] + params["b2"])
        return hidden @ params["w3"]

    def residual(t, x):
        u_x = grad(u, 1)
        return grad(u, 0)(t, x) + u(t, x) * u_x(t, x) - 0.05 * grad(u_x, 1)(t, x)

    inside = vmap(residual)(interior[:, 0], interior[:, 1])
    start = vmap(lambda x: u(0.0, x))(boundary)
    return np.mean(inside**2) + np.mean((start + np.sin(np.pi * boundary)) ** 2)


def physics_informed_data(seed, n=4, hidden=3):
    rng = np.random.default_rng(seed)
    params = {
        "w1": normal(rng, 2, hidden),
        "b1": normal(rng, hidden, scale=0.2),
        "w2": normal(rng, hidden, hidden, scale=0.6),
        "b2": normal(rng, hidden, scale=0.2),
        "w3": normal(rng, hidden),
    }
    return params, rng.uniform(-1, 1, (n, 2)), rng.uniform(-1, 1, n)


def oscillator_network(params, times):
    """A network that solves u'' + u = 0: derivatives of elementwise functions as gradients of sums, no vmap."""

    def u(t):
        return np.sum(params["out"] * np.sin(t[:, None] * params["in"] + params["bias"]), axis=1)

    def derivative(f):
        return grad(lambda t: np.sum(f(t)))

    velocity = derivative(u)
    equation = np.mean((derivative(velocity)(times) + u(times)) ** 2)
    start = 0.0 * times[:1]
    return equation + np.sum((u(start) - 1) ** 2) + np.sum(velocity(start) ** 2)


def oscillator_network_data(seed, n=5, hidden=4):
    rng = np.random.default_rng(seed)
    return {k: normal(rng, hidden) for k in ("in", "bias", "out")}, np.linspace(0.1, 3, n)


def hamiltonian_network(params, states, velocities):
    """A Hamiltonian network: the energy is learnt, motion is its symplectic gradient."""

    def energy(states):
        return np.sum(np.tanh(states @ params["w"] + params["b"]) @ params["out"])

    by_q = grad(lambda q, p: energy(np.concatenate([q, p], axis=1)))
    by_p = grad(lambda q, p: energy(np.concatenate([q, p], axis=1)), 1)
    half = states.shape[1] // 2
    q, p = states[:, :half], states[:, half:]
    predicted = np.concatenate([by_p(q, p), -by_q(q, p)], axis=1)
    return np.mean((predicted - velocities) ** 2)


def hamiltonian_network_data(seed, n=5, hidden=4):
    rng = np.random.default_rng(seed)
    params = {"w": normal(rng, 2, hidden), "b": normal(rng, hidden), "out": normal(rng, hidden)}
    states = normal(rng, n, 2)
    return params, states, np.stack([states[:, 1], -np.sin(states[:, 0])], axis=1)


def hyperparameters(params, x, y, x_new, y_new):
    """Learning to learn: the validation loss after eight steps of gradient descent, by start and log step sizes."""

    def training_loss(w):
        return np.mean((np.tanh(x @ w) - y) ** 2) + np.exp(params["log_ridge"]) * np.sum(w**2)

    w = params["start"]
    velocity = 0 * w
    for log_rate in params["log_rates"]:
        velocity = 0.7 * velocity - np.exp(log_rate) * grad(training_loss)(w)
        w = w + velocity
    return np.mean((np.tanh(x_new @ w) - y_new) ** 2)


def hyperparameters_data(seed, n=6, features=3, steps=8):
    rng = np.random.default_rng(seed)
    x, x_new, w = normal(rng, n, features), normal(rng, n, features), normal(rng, features)
    params = {"start": normal(rng, features, scale=0.3), "log_rates": np.full(steps, -1.5), "log_ridge": np.array(-3.0)}
    return params, x, np.tanh(x @ w), x_new, np.tanh(x_new @ w)


# ------------------------------------------------------------------------------------------------ implicit derivatives


def iterate(weights, inputs):
    """The fixed point z = tanh(W z + U x + b) by plain iteration."""
    z = 0 * (inputs @ weights["u"])
    for _ in range(40):
        z = step(weights, inputs, z)
    return z


def step(weights, inputs, z):
    return np.tanh(z @ weights["w"] + inputs @ weights["u"] + weights["b"])


fixed_point = custom_vjp(iterate)


def forward(weights, inputs):
    z = fixed_point(weights, inputs)
    return z, (weights, inputs, z)


def backward(residuals, ct):
    """The adjoint of a fixed point is a fixed point: w = ct + w ∂step/∂z; then ct ∂z = w ∂step/∂(weights, inputs)."""
    weights, inputs, z = residuals
    by_z = grad(lambda z, w: np.sum(step(weights, inputs, z) * w))
    w = ct
    for _ in range(40):
        w = ct + by_z(z, w)
    return grad(lambda weights, inputs: np.sum(step(weights, inputs, z) * w), (0, 1))(weights, inputs)


fixed_point.defvjp(forward, backward)


def equilibrium(params, inputs, targets):
    """A deep equilibrium network: infinitely many layers, their derivative by the implicit function theorem."""
    return np.mean((fixed_point(params["layer"], inputs) @ params["read"] - targets) ** 2)


def equilibrium_data(seed, n=3, features=2, hidden=3):
    rng = np.random.default_rng(seed)
    layer = {
        "w": normal(rng, hidden, hidden, scale=0.2),
        "u": normal(rng, features, hidden),
        "b": normal(rng, hidden, scale=0.3),
    }
    return {"layer": layer, "read": normal(rng, hidden)}, normal(rng, n, features), normal(rng, n)


CUSTOM = "its rule is graphc's custom_vjp"

PROGRAMS = (
    Program(fourth_derivative, fourth_derivative_data, {"n": 100}),
    Program(physics_informed, physics_informed_data, {"n": 100, "hidden": 16}, peer="has no vmap"),
    Program(oscillator_network, oscillator_network_data, {"n": 100, "hidden": 16}),
    Program(hamiltonian_network, hamiltonian_network_data, {"n": 200, "hidden": 32}),
    Program(hyperparameters, hyperparameters_data, {"n": 100, "features": 8}),
    Program(equilibrium, equilibrium_data, {"n": 20, "hidden": 8}, peer=CUSTOM, modes=("rev",)),
)
