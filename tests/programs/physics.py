"""Simulations that are differentiated through: stencils and time steppers of a hundred steps and more, unrolled."""

from __future__ import annotations

import numpy as np

from programs import Program

ASSIGNS = "assigns into slices"


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


def heat_equation(params, target):
    """120 explicit steps of heat along a rod, written into slices; conductivity and initial heat are fitted."""
    conductivity = 0.2 + 0.2 / (1 + np.exp(-params["conductivity"]))
    u = params["initial"].copy()
    for _ in range(120):
        flux = conductivity * (u[1:] - u[:-1])
        u[1:-1] += flux[1:] - flux[:-1]
        u[0] = u[1]
        u[-1] *= 0.99
    return ((u - target) ** 2).sum()


def heat_equation_data(seed, n=6):
    rng = np.random.default_rng(seed)
    return {"conductivity": normal(rng, n - 1), "initial": normal(rng, n)}, normal(rng, n)


def wave_equation(speed, initial, trace):
    """Full waveform inversion: a string's wave speed from what one receiver hears in 110 leapfrog steps."""
    before, now = initial, initial
    misfit = 0.0
    for step in range(110):
        laplacian = np.roll(now, 1) - 2 * now + np.roll(now, -1)
        before, now = now, 2 * now - before + (0.3 * speed) ** 2 * laplacian
        misfit = misfit + (now[2] - trace[step]) ** 2
    return misfit


def wave_equation_data(seed, n=8):
    rng = np.random.default_rng(seed)
    initial = np.exp(-((np.arange(n) - n / 2.0) ** 2))
    return 1 + 0.3 * rng.uniform(-1, 1, n), initial, 0.3 * normal(rng, 110)


def burgers(initial, target):
    """Viscous Burgers' equation, 100 steps, the upwind side chosen by the sign of the velocity."""
    u, dx, dt = initial, 0.5, 0.02
    for _ in range(100):
        backward = (u - np.roll(u, 1)) / dx
        forward = (np.roll(u, -1) - u) / dx
        advection = np.where(u > 0, u * backward, u * forward)
        u = u - dt * advection + 0.1 * dt * (forward - backward) / dx
    return np.mean((u - target) ** 2)


def burgers_data(seed, n=7):
    rng = np.random.default_rng(seed)
    return np.sin(2 * np.pi * (np.arange(n) + 0.3) / n) + 0.2 * normal(rng, n), normal(rng, n)


def shallow_water(params, target):
    """Linear shallow water with rotation on a staggered periodic grid, forward-backward in time, 100 steps."""
    h, depth = params["height"], np.exp(params["log_depth"])
    u, v = 0 * h, 0 * h
    dt, f = 0.1, 0.3
    for _ in range(100):
        u = u + dt * (f * v - (np.roll(h, -1, axis=1) - h))
        v = v + dt * (-f * u - (np.roll(h, -1, axis=0) - h))
        h = h - dt * depth * ((u - np.roll(u, 1, axis=1)) + (v - np.roll(v, 1, axis=0)))
    return np.sum((h - target) ** 2) + 0.1 * np.sum(u**2 + v**2)


def shallow_water_data(seed, n=4):
    rng = np.random.default_rng(seed)
    return {"height": normal(rng, n, n), "log_depth": normal(rng, n, n, scale=0.1)}, normal(rng, n, n)


def n_body(params, masses, target):
    """Planets by the symplectic leapfrog, 100 steps; initial conditions that bring them to their targets."""

    def acceleration(x):
        apart = x[None, :, :] - x[:, None, :]
        squared = (apart**2).sum(axis=-1) + 0.05
        return (masses[None, :, None] * apart / squared[..., None] ** 1.5).sum(axis=1)

    x, v = params["positions"], params["velocities"]
    dt = 0.02
    a = acceleration(x)
    for _ in range(100):
        v = v + 0.5 * dt * a
        x = x + dt * v
        a = acceleration(x)
        v = v + 0.5 * dt * a
    return np.sum((x - target) ** 2)


def n_body_data(seed, bodies=3):
    rng = np.random.default_rng(seed)
    positions = np.stack([np.cos(2.1 * np.arange(bodies)), np.sin(2.1 * np.arange(bodies))], axis=1)
    velocities = 0.5 * np.stack([-positions[:, 1], positions[:, 0]], axis=1)
    params = {"positions": positions + 0.1 * normal(rng, bodies, 2), "velocities": velocities}
    return params, rng.uniform(0.5, 1.5, bodies), normal(rng, bodies, 2)


def fluid(params, smoke, target):
    """HIPS autograd's fluidsim.py: pressure by Jacobi sweeps, smoke carried by semi-Lagrangian advection.

    The cells that a step looks back to are integers computed from the velocities, wrapped around the edges.
    """

    def project(vx, vy):
        p = np.zeros(vx.shape, vx.dtype)
        h = 1.0 / vx.shape[0]
        div = (
            -0.5
            * h
            * (np.roll(vx, -1, axis=0) - np.roll(vx, 1, axis=0) + np.roll(vy, -1, axis=1) - np.roll(vy, 1, axis=1))
        )
        for _ in range(6):
            p = (
                div + np.roll(p, 1, axis=0) + np.roll(p, -1, axis=0) + np.roll(p, 1, axis=1) + np.roll(p, -1, axis=1)
            ) / 4.0
        vx = vx - 0.5 * (np.roll(p, -1, axis=0) - np.roll(p, 1, axis=0)) / h
        vy = vy - 0.5 * (np.roll(p, -1, axis=1) - np.roll(p, 1, axis=1)) / h
        return vx, vy

    def advect(f, vx, vy):
        rows, cols = f.shape
        ys, xs = np.meshgrid(np.arange(rows, dtype=f.dtype), np.arange(cols, dtype=f.dtype), indexing="ij")
        center_xs = (xs - vx).ravel()
        center_ys = (ys - vy).ravel()
        left, top = np.floor(center_xs), np.floor(center_ys)
        rw = center_xs - left
        bw = center_ys - top
        left = np.mod(left.astype(int), rows)
        right = np.mod(left + 1, rows)
        top = np.mod(top.astype(int), cols)
        bottom = np.mod(top + 1, cols)
        flat = (1 - rw) * ((1 - bw) * f[left, top] + bw * f[left, bottom]) + rw * (
            (1 - bw) * f[right, top] + bw * f[right, bottom]
        )
        return np.reshape(flat, (rows, cols))

    vx, vy = params[0], params[1]
    for _ in range(5):
        vx_updated = advect(vx, vx, vy)
        vy_updated = advect(vy, vx, vy)
        vx, vy = project(vx_updated, vy_updated)
        smoke = advect(smoke, vx, vy)
    return np.mean((target - smoke) ** 2)


def fluid_data(seed, n=4):
    rng = np.random.default_rng(seed)
    smoke = np.sin(np.linspace(0, 6, n * n)).reshape(n, n)
    return normal(rng, 2, n, n, scale=0.3), smoke, rng.uniform(size=(n, n))


def neural_ode(params, start, times, seen):
    """A network as the right-hand side of an ODE, four stages of Runge-Kutta a step, fitted to a trajectory."""

    def field(y):
        return np.tanh(y**3 @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]

    y, total = start, 0.0
    for k in range(len(times) - 1):
        h = (times[k + 1] - times[k]) / 2
        for _ in range(2):
            k1 = field(y)
            k2 = field(y + h / 2 * k1)
            k3 = field(y + h / 2 * k2)
            k4 = field(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        total = total + np.abs(y - seen[k + 1]).mean()
    return total


def neural_ode_data(seed, n=4, hidden=5):
    rng = np.random.default_rng(seed)
    params = {
        "w1": normal(rng, 2, hidden, scale=0.4),
        "b1": normal(rng, hidden, scale=0.4),
        "w2": normal(rng, hidden, 2, scale=0.4),
        "b2": normal(rng, 2, scale=0.1),
    }
    times = np.linspace(0, 1.5, n)
    return params, np.array([1.2, 0.3]), times, np.stack([np.cos(times), -np.sin(times)], axis=1)


def equation_of_state(params, pressure):
    """Density of seawater by UNESCO's EOS-80: polynomials in salinity, temperature and pressure with fifty constants."""
    t, s = params["temperature"], params["salinity"]
    root = np.sqrt(s)
    water = 999.842594 + (
        t * (6.793952e-2 + t * (-9.095290e-3 + t * (1.001685e-4 + t * (-1.120083e-6 + t * 6.536332e-9))))
    )
    a = 8.24493e-1 + t * (-4.0899e-3 + t * (7.6438e-5 + t * (-8.2467e-7 + t * 5.3875e-9)))
    b = -5.72466e-3 + t * (1.0227e-4 - t * 1.6546e-6)
    surface = water + s * (a + b * root + 4.8314e-4 * s)
    pure = 19652.21 + t * (148.4206 + t * (-2.327105 + t * (1.360477e-2 - t * 5.155288e-5)))
    k0 = (
        pure
        + s * (54.6746 + t * (-0.603459 + t * (1.09987e-2 - t * 6.1670e-5)))
        + s * root * (7.944e-2 + t * (1.6483e-2 - t * 5.3009e-4))
    )
    k1 = (
        3.239908
        + t * (1.43713e-3 + t * (1.16092e-4 - t * 5.77905e-7))
        + s * (2.2838e-3 + t * (-1.0981e-5 - t * 1.6078e-6) + 1.91075e-4 * root)
    )
    k2 = 8.50935e-5 + t * (-6.12293e-6 + t * 5.2787e-8) + s * (-9.9348e-7 + t * (2.0816e-8 + t * 9.1697e-10))
    secant = k0 + pressure * (k1 + pressure * k2)
    density = surface / (1 - pressure / secant)
    return np.mean(density - 1000)


def equation_of_state_data(seed, n=6):
    rng = np.random.default_rng(seed)
    return {"temperature": rng.uniform(1, 25, n), "salinity": rng.uniform(30, 38, n)}, rng.uniform(0, 500, n)


PROGRAMS = (
    Program(heat_equation, heat_equation_data, {"n": 100}, peer=ASSIGNS),
    Program(wave_equation, wave_equation_data, {"n": 100}),
    Program(burgers, burgers_data, {"n": 100}),
    Program(shallow_water, shallow_water_data, {"n": 32}),
    Program(n_body, n_body_data, {"bodies": 16}),
    Program(fluid, fluid_data, {"n": 32}),
    Program(neural_ode, neural_ode_data, {"n": 10, "hidden": 50}),
    Program(equation_of_state, equation_of_state_data, {"n": 2000}),
)
