"""Likelihoods: mixtures, Gaussian processes, variational inference, splines."""

from __future__ import annotations

import numpy as np

from programs import Program


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


def logsumexp(x, axis):
    largest = np.max(x, axis=axis, keepdims=True)
    return np.log(np.sum(np.exp(x - largest), axis=axis)) + np.squeeze(largest, axis=axis)


def gaussian_mixture(params, data):
    """HIPS autograd's gmm.py: a mixture with full covariances given by their square roots."""
    log_weights = params["log weights"] - logsumexp(params["log weights"], axis=0)
    scores = []
    for log_weight, mean, root in zip(log_weights, params["means"], params["roots"], strict=True):
        cov = root.T @ root + 0.1 * np.eye(len(mean), dtype=mean.dtype)
        apart = data - mean
        distance = np.sum(apart * np.linalg.solve(cov, apart.T).T, axis=1)
        log_det = np.linalg.slogdet(cov)[1]
        scores.append(log_weight - 0.5 * (distance + log_det + len(mean) * np.log(2 * np.pi).item()))
    return -np.sum(logsumexp(np.vstack(scores), axis=0))


def gaussian_mixture_data(seed, n=7, components=3, dims=2):
    rng = np.random.default_rng(seed)
    params = {
        "log weights": normal(rng, components),
        "means": normal(rng, components, dims),
        "roots": np.eye(dims) + normal(rng, components, dims, dims, scale=0.3),
    }
    return params, normal(rng, n, dims, scale=2.0)


def mixture_em_bound(params, x):
    """The expected complete log-likelihood of EM, responsibilities from the same parameters, one-dimensional data."""
    log_weights = params["logits"] - logsumexp(params["logits"], axis=0)
    precision = np.exp(-2 * params["log_scale"])
    joint = log_weights - 0.5 * precision * (x[:, None] - params["mean"]) ** 2 - params["log_scale"]
    responsibility = np.exp(joint - logsumexp(joint, axis=1)[:, None])
    entropy = -np.sum(responsibility * np.log(responsibility + 1e-12))
    return -(np.sum(responsibility * joint) + entropy) / len(x)


def mixture_em_bound_data(seed, n=8, components=3):
    rng = np.random.default_rng(seed)
    params = {k: normal(rng, components, scale=s) for k, s in (("logits", 1.0), ("mean", 2.0), ("log_scale", 0.3))}
    return params, normal(rng, n, scale=2.0)


def gaussian_process(params, x, y):
    """HIPS autograd's gaussian_process.py: minus the log marginal likelihood, by solve and slogdet."""
    mean, noise, scale, lengths = params[0], np.exp(params[1]) + 1e-3, np.exp(params[2]), np.exp(params[3:])
    scaled = x / lengths
    apart = np.expand_dims(scaled, 1) - np.expand_dims(scaled, 0)
    covariance = scale * np.exp(-0.5 * np.sum(apart**2, axis=2)) + noise * np.eye(len(y), dtype=y.dtype)
    residual = y - mean
    _, log_determinant = np.linalg.slogdet(covariance)
    return 0.5 * (
        residual @ np.linalg.solve(covariance, residual) + log_determinant + len(y) * np.log(2 * np.pi).item()
    )


def gaussian_process_data(seed, n=6, dims=2):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, dims))
    return 0.3 * normal(rng, 3 + dims), x, np.sin(x.sum(axis=1)) + 0.1 * normal(rng, n)


def cholesky_likelihood(params, samples):
    """A multivariate normal with a structured covariance, its log-density by a Cholesky factor."""
    n = samples.shape[1]
    factors = params["factors"]
    covariance = factors @ factors.T + np.exp(params["log_noise"]) * np.eye(n, dtype=samples.dtype)
    lower = np.linalg.cholesky(covariance)
    white = np.linalg.solve(lower, (samples - params["mean"]).T)
    half_log_det = np.sum(np.log(np.diag(lower)))
    return 0.5 * np.sum(white**2) / len(samples) + half_log_det


def cholesky_likelihood_data(seed, n=4, dims=4, rank=2):
    rng = np.random.default_rng(seed)
    params = {"factors": normal(rng, dims, rank), "mean": normal(rng, dims), "log_noise": np.array(-0.5)}
    return params, normal(rng, n, dims, scale=1.5)


def black_box_inference(params, noise):
    """HIPS autograd's black_box_svi.py: the evidence lower bound of a skewed two-dimensional density."""
    mean, log_std = params[:2], params[2:]
    samples = noise * np.exp(log_std) + mean
    mu, log_sigma = samples[:, 0], samples[:, 1]
    sigma_density = -0.5 * (log_sigma / 1.35) ** 2
    mu_density = -0.5 * (mu / np.exp(log_sigma)) ** 2 - log_sigma
    entropy = 0.5 * 2 * (1.0 + np.log(2 * np.pi).item()) + np.sum(log_std)
    return -(entropy + np.mean(sigma_density + mu_density))


def black_box_inference_data(seed, samples=6):
    rng = np.random.default_rng(seed)
    return np.array([-0.5, -0.3, -0.4, -0.6]) + 0.1 * normal(rng, 4), normal(rng, samples, 2)


def bayesian_network(params, noise, x, y):
    """HIPS autograd's bayesian_neural_net.py: weights sampled from a diagonal Gaussian, batched matrix products."""
    hidden = 3
    count = params.shape[0] // 2
    mean, log_std = params[:count], params[count:]
    weights = noise * np.exp(log_std) + mean
    samples, inputs, start = len(noise), x[None, :, :], 0
    for m, n in ((1, hidden), (hidden, hidden), (hidden, 1)):
        w = weights[:, start : start + m * n].reshape((samples, m, n))
        b = weights[:, start + m * n : start + (m + 1) * n].reshape((samples, 1, n))
        start += (m + 1) * n
        outputs = np.einsum("mnd,mdo->mno", inputs + np.zeros((samples, 1, 1), x.dtype), w) + b
        inputs = np.exp(-(outputs**2))
    prior = np.mean(np.sum(-0.5 * weights**2, axis=1))
    likelihood = np.mean(-np.sum((outputs[:, :, 0] - y) ** 2, axis=1) / 0.02)
    return -(np.sum(log_std) + prior + 0.01 * likelihood)


def bayesian_network_data(seed, n=5, samples=3):
    rng = np.random.default_rng(seed)
    count = 2 * 3 + 4 * 3 + 4
    x = np.linspace(-2, 2, n)[:, None]
    params = np.concatenate([normal(rng, count), -1 + 0.1 * normal(rng, count)])
    return params, normal(rng, samples, count), x, np.cos(x[:, 0]) + 0.1 * normal(rng, n)


def cubic_spline(heights, knots, x, y):
    """A natural cubic spline through knots whose heights are fitted: second derivatives by a tridiagonal solve."""
    h = knots[1:] - knots[:-1]
    slope = (heights[1:] - heights[:-1]) / h
    inner = 2 * np.diag(h[:-1] + h[1:]) + np.diag(h[1:-1], 1) + np.diag(h[1:-1], -1)
    bend = np.linalg.solve(inner, 6 * (slope[1:] - slope[:-1]))
    zero = np.zeros(1, heights.dtype)
    bend = np.concatenate([zero, bend, zero])
    k = np.clip(np.searchsorted(knots, x) - 1, 0, len(knots) - 2)
    left, right = x - knots[k], knots[k + 1] - x
    cubic = (bend[k] * right**3 + bend[k + 1] * left**3) / (6 * h[k])
    line = (heights[k] / h[k] - bend[k] * h[k] / 6) * right + (heights[k + 1] / h[k] - bend[k + 1] * h[k] / 6) * left
    return np.mean((cubic + line - y) ** 2) + 1e-3 * np.sum(bend**2)


def cubic_spline_data(seed, knots=6, n=9):
    rng = np.random.default_rng(seed)
    places = np.linspace(0, 3, knots) + rng.uniform(-0.1, 0.1, knots)
    x = np.sort(rng.uniform(0.2, 2.8, n))
    return normal(rng, knots), places, x, np.sin(2 * x)


def calibration_curve(params, measured, truth):
    """A monotone curve fitted by np.interp: increasing heights as a cumulative sum of exponentials."""
    heights = np.cumsum(np.exp(params["steps"]))
    grid = np.linspace(-2, 2, len(params["steps"]), dtype=measured.dtype)
    return np.sum((np.interp(measured, grid, params["offset"] + heights) - truth) ** 2)


def calibration_curve_data(seed, knots=5, n=8):
    rng = np.random.default_rng(seed)
    measured = rng.uniform(-1.9, 1.9, n)
    return {"steps": 0.3 * normal(rng, knots), "offset": np.array(-2.0)}, measured, 2 * np.tanh(measured)


def independent_components(unmixing, signals):
    """ICA as maximum likelihood: the log-determinant of the unmixing matrix and a heavy-tailed density."""
    sources = signals @ unmixing.T
    log_density = -np.sum(np.logaddexp(sources, -sources), axis=1)
    return -np.mean(log_density) - np.linalg.slogdet(unmixing)[1]


def independent_components_data(seed, n=6, sources=3):
    rng = np.random.default_rng(seed)
    return np.eye(sources) + normal(rng, sources, sources, scale=0.3), rng.laplace(size=(n, sources))


INTERP = "has no np.interp"  # which gives float64 whatever it is given

PROGRAMS = (
    Program(gaussian_mixture, gaussian_mixture_data, {"n": 500, "components": 6, "dims": 4}),
    Program(mixture_em_bound, mixture_em_bound_data, {"n": 1000, "components": 8}),
    Program(gaussian_process, gaussian_process_data, {"n": 60, "dims": 3}),
    Program(cholesky_likelihood, cholesky_likelihood_data, {"n": 100, "dims": 20, "rank": 5}),
    Program(black_box_inference, black_box_inference_data, {"samples": 2000}),
    Program(bayesian_network, bayesian_network_data, {"n": 40, "samples": 20}),
    Program(cubic_spline, cubic_spline_data, {"knots": 20, "n": 200}, peer="has no np.diag with an offset"),
    Program(calibration_curve, calibration_curve_data, {"knots": 20, "n": 200}, peer=INTERP, widens=True),
    Program(independent_components, independent_components_data, {"n": 500, "sources": 6}),
)
