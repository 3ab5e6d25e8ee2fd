"""Option pricing: closed forms and their greeks, paths with the random numbers as an argument, implied volatility."""

from __future__ import annotations

import numpy as np
from scipy import special

from graphc import custom_vjp, grad
from programs import Program


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


def black_scholes(spot, strike, years, volatility, rate):
    """The price of a European call."""
    root = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility**2) * years) / root
    below = 0.5 * (1 + special.erf(d1 / 2**0.5))
    below_too = 0.5 * (1 + special.erf((d1 - root) / 2**0.5))
    return spot * below - strike * np.exp(-rate * years) * below_too


def option_prices(params, strikes, years, quotes):
    """A parabola of volatilities (a smile) fitted to quoted prices of calls."""
    moneyness = np.log(strikes / params["spot"])
    volatility = np.exp(params["level"] + params["skew"] * moneyness + params["smile"] * moneyness**2)
    prices = black_scholes(params["spot"], strikes, years, volatility, params["rate"])
    return np.mean(((prices - quotes) / quotes) ** 2)


def option_prices_data(seed, n=6):
    rng = np.random.default_rng(seed)
    params = {"spot": 10.0, "level": -1.2, "skew": -0.3, "smile": 0.4, "rate": 0.03}
    strikes, years = rng.uniform(8, 12, n), rng.uniform(0.3, 2, n)
    return (
        {k: np.array(v) for k, v in params.items()},
        strikes,
        years,
        np.maximum(10 - strikes, 0) + rng.uniform(0.5, 1, n),
    )


def hedging(params, strike, years):
    """A portfolio's squared delta, gamma and vega: greeks are gradients, gamma a gradient of a gradient."""

    def value(spot, volatility):
        return np.sum(params["holdings"] * black_scholes(spot, strike, years, volatility, 0.02))

    delta = grad(value)
    gamma = grad(delta)
    vega = grad(value, 1)
    spot, volatility = params["spot"], params["volatility"]
    return delta(spot, volatility) ** 2 + 10 * gamma(spot, volatility) ** 2 + 0.1 * vega(spot, volatility) ** 2


def hedging_data(seed, n=4):
    rng = np.random.default_rng(seed)
    params = {"holdings": normal(rng, n), "spot": np.array(10.0), "volatility": np.array(0.3)}
    return params, rng.uniform(8, 12, n), rng.uniform(0.3, 2, n)


def monte_carlo(params, samples, strike):
    """An Asian basket call under Heston-like volatility, path by path; antithetic samples are an argument."""
    steps = samples.shape[1]
    dt = 1.0 / steps
    noise = np.concatenate([samples, -samples], axis=0)
    log_spot, variance, total = np.log(params["spot"]), params["variance"], 0.0
    for step in range(steps):
        correlated = params["rho"] * noise[:, step, 0] + np.sqrt(1 - params["rho"] ** 2) * noise[:, step, 1]
        scale = np.sqrt(np.maximum(variance, 1e-4) * dt)
        log_spot = log_spot + (params["rate"] - 0.5 * variance) * dt + scale * noise[:, step, 0]
        variance = variance + params["revert"] * (0.09 - variance) * dt + params["wobble"] * scale * correlated
        total = total + np.exp(log_spot)
    payoff = np.logaddexp(0, 8 * (total / steps - strike)) / 8
    return np.exp(-params["rate"]) * np.mean(payoff)


def monte_carlo_data(seed, paths=5, steps=12):
    rng = np.random.default_rng(seed)
    params = {"spot": 1.0, "variance": 0.1, "rho": -0.4, "rate": 0.03, "revert": 1.5, "wobble": 0.3}
    return {k: np.array(v) for k, v in params.items()}, normal(rng, paths, steps, 2), np.array(1.02)


def solve_volatility(price, spot, strike, years):
    """Implied volatility by Newton's method."""
    volatility = 0.4 + 0 * price
    for _ in range(8):
        root = volatility * np.sqrt(years)
        d1 = (np.log(spot / strike) + 0.5 * volatility**2 * years) / root
        vega = spot * np.sqrt(years) * np.exp(-0.5 * d1**2) / (2 * np.pi) ** 0.5
        volatility = volatility - (black_scholes(spot, strike, years, volatility, 0.0) - price) / vega
    return volatility


implied_volatility = custom_vjp(solve_volatility)


def forward(price, spot, strike, years):
    volatility = implied_volatility(price, spot, strike, years)
    return volatility, (volatility, spot, strike, years)


def backward(residuals, ct):
    """By the implicit function theorem: price(volatility, …) = price, so ∂volatility = ∂price / vega, and so on."""
    volatility, spot, strike, years = residuals

    def total(volatility, spot):
        return np.sum(black_scholes(spot, strike, years, volatility, 0.0))

    def weighted(spot):
        return np.sum(ct / vega * black_scholes(spot, strike, years, volatility, 0.0))

    vega = grad(total)(volatility, spot)
    return ct / vega, -grad(weighted)(spot), None, None


implied_volatility.defvjp(forward, backward)


def smile(params, strike, years):
    """How curved the implied volatilities of a model's prices are: through a root find, by its own derivative rule."""
    price = black_scholes(params["spot"], strike, years, 0.2 + params["bend"] * (strike - 10.0) ** 2, 0.0)
    found = implied_volatility(price * np.exp(params["premium"]), params["spot"], strike, years)
    return np.mean((found - 0.3) ** 2)


def smile_data(seed, n=4):
    rng = np.random.default_rng(seed)
    params = {"spot": np.array(10.0), "bend": np.array(0.02), "premium": np.array(0.05)}
    return params, rng.uniform(9, 11, n), rng.uniform(0.5, 2, n)


CUSTOM = "its rule is graphc's custom_vjp"

PROGRAMS = (
    Program(option_prices, option_prices_data, {"n": 500}),
    Program(hedging, hedging_data, {"n": 200}),
    Program(monte_carlo, monte_carlo_data, {"paths": 500, "steps": 50}),
    Program(smile, smile_data, {"n": 100}, peer=CUSTOM, modes=("rev",)),
)
