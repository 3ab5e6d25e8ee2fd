"""The workloads in JAX: jit with donated parameters. Convolutions are NHWC, XLA's own order on CPUs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# ------------------------------------------------------------------------------------------------ models


def cross_entropy(logits, labels):
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[..., None], axis=-1).mean()


def dense(p, x):
    return x @ p["w"] + p["b"]


def layer_norm(p, x):
    mean = x.mean(axis=-1, keepdims=True)
    var = x.var(axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * p["scale"] + p["bias"]


def tiny(params, x, y):
    return ((dense(params[1], jnp.tanh(dense(params[0], x))) - y) ** 2).mean()


def mlp(params, x, labels):
    for p in params[:-1]:
        x = jax.nn.relu(dense(p, x))
    return cross_entropy(dense(params[-1], x), labels)


def chain(x):
    return jnp.log1p(jnp.exp(jnp.tanh(x))).mean()


def weighted_mean(p):
    return (jax.nn.gelu(layer_norm(p, p["x"])) * p["weights"]).mean()


def lstm(params, tokens, targets):
    batch, steps = tokens.shape
    h = c = jnp.zeros((batch, params["hidden"].shape[0]), params["hidden"].dtype)
    hidden = []
    for t in range(steps):
        gates = params["embedding"][tokens[:, t]] @ params["input"] + h @ params["hidden"] + params["bias"]
        i, f, g, o = jnp.split(gates, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        hidden.append(h)
    return cross_entropy(dense(params["output"], jnp.stack(hidden, axis=1)), targets)


def attention(p, x, heads):
    batch, context, width = x.shape
    q, k, v = jnp.split(dense(p["qkv"], x), 3, axis=-1)
    q, k, v = (z.reshape(batch, context, heads, width // heads) for z in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return dense(p["project"], y.reshape(batch, context, width))


def gpt(params, tokens, targets, heads):
    x = params["tokens"][tokens] + params["places"][: tokens.shape[1]]
    for p in params["layers"]:
        x = x + attention(p, layer_norm(p["norm1"], x), heads)
        x = x + dense(p["down"], jax.nn.gelu(dense(p["up"], layer_norm(p["norm2"], x))))
    return cross_entropy(layer_norm(params["norm"], x) @ params["head"], targets)


def conv(x, w, stride=1, padding=0):
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x, n):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, n, n, 1), (1, n, n, 1), "VALID")


def lenet(params, images, labels):
    x = images
    for p in (params["conv1"], params["conv2"]):
        x = max_pool(jax.nn.relu(conv(x, p["w"]) + p["b"]), 2)
    x = jax.nn.relu(dense(params["dense1"], x.reshape(len(x), -1)))
    return cross_entropy(dense(params["dense2"], x), labels)


def batch_norm(p, x):
    mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * p["scale"] + p["bias"]


def resnet(params, images, labels):
    x = jax.nn.relu(batch_norm(params["norm"], conv(images, params["stem"], padding=1)))
    for p in params["blocks"]:
        stride = 2 if "shortcut" in p else 1
        y = jax.nn.relu(batch_norm(p["norm1"], conv(x, p["conv1"], stride, 1)))
        y = batch_norm(p["norm2"], conv(y, p["conv2"], 1, 1))
        if stride == 2:
            x = batch_norm(p["norm3"], conv(x, p["shortcut"], 2))
        x = jax.nn.relu(x + y)
    return cross_entropy(dense(params["dense"], x.mean(axis=(1, 2))), labels)


def gcn(params, x, source, target, coefficient, known, labels):
    def convolve(p, h):
        h = h @ p["w"]
        return jnp.zeros_like(h).at[target].add(coefficient[:, None] * h[source]) + p["b"]

    logits = convolve(params[1], jax.nn.relu(convolve(params[0], x)))
    return cross_entropy(logits[known], labels)


def moe(params, x, y):
    gates = jax.nn.softmax(x @ params["gate"])
    least = jax.lax.stop_gradient(jax.lax.top_k(gates, 2)[0][:, -1:])
    gates = jnp.where(gates >= least, gates, 0)
    gates = gates / gates.sum(axis=1, keepdims=True)
    hidden = jax.nn.relu(jnp.einsum("bd,edh->ebh", x, params["up"]) + params["up_bias"][:, None])
    out = jnp.einsum("ebh,ehd->ebd", hidden, params["down"]) + params["down_bias"][:, None]
    return ((jnp.einsum("be,ebd->bd", gates, out) - y) ** 2).mean()


def u(params, t, x):
    h = jnp.stack([t, x])
    for p in params[:-1]:
        h = jnp.tanh(dense(p, h))
    return dense(params[-1], h)[0]


def residual(params, t, x):
    u_t, u_x = jax.grad(u, 1), jax.grad(u, 2)
    u_xx = jax.grad(u_x, 2)
    return u_t(params, t, x) + u(params, t, x) * u_x(params, t, x) - 0.05 * u_xx(params, t, x)


def pde(params, t, x):
    return (jax.vmap(residual, in_axes=(None, 0, 0))(params, t, x) ** 2).mean()


# ------------------------------------------------------------------------------------------------ steps


def sgd(rate):
    def update(params, state, grads):
        return jax.tree.map(lambda p, g: p - rate * g, params, grads), state

    return (lambda params: ()), update


def adam(rate, b1=0.9, b2=0.999, eps=1e-8):
    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {"m": zeros, "v": jax.tree.map(jnp.zeros_like, params), "t": jnp.zeros((), jnp.int32)}

    def update(params, state, grads):
        t = state["t"] + 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state["m"], grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state["v"], grads)
        first, second = 1 - b1**t, 1 - b2**t
        new = jax.tree.map(lambda p, m, v: p - rate * (m / first) / (jnp.sqrt(v / second) + eps), params, m, v)
        return new, {"m": m, "v": v, "t": t}

    return init, update


class Step:
    """A call takes one step and returns the loss; ``facts`` has the bytes of temporaries that XLA planned."""

    def __init__(self, call: Callable[[], Any], lower: Callable[[], Any]) -> None:
        self.call, self.lower = call, lower

    def __call__(self) -> float:
        return float(self.call())

    def facts(self) -> dict[str, Any]:
        analysis = self.lower().compile().memory_analysis()
        return {"peak": analysis.temp_size_in_bytes}


def place(tree):
    """On the device; indices as int32, as users of JAX have them."""
    return jax.tree.map(lambda v: jnp.asarray(v if v.dtype.kind == "f" else v.astype(np.int32)), tree)


def channels_last(arrays: dict[str, Any]) -> dict[str, Any]:
    """Images NHWC, filters HWIO, and the rows of the first dense layer after a convolution in that order."""
    images, labels = arrays["batch"]
    params = jax.tree.map(lambda v: v.transpose(2, 3, 1, 0) if v.ndim == 4 else v, arrays["params"])
    if "dense1" in params:
        w, channels = params["dense1"]["w"], len(params["conv2"]["b"])
        extent = math.isqrt(len(w) // channels)
        w = w.reshape(channels, extent, extent, -1).transpose(1, 2, 0, 3).reshape(w.shape)
        params["dense1"] = params["dense1"] | {"w": w}
    return arrays | {"params": params, "batch": (images.transpose(0, 2, 3, 1), labels)}


def train(loss: Callable[..., Any], optimizer: Callable[..., Any], images: bool = False) -> Callable[..., Step]:
    def start(arrays: dict[str, Any]) -> Step:
        if images:
            arrays = channels_last(arrays)
        function = functools.partial(loss, heads=arrays["heads"]) if "heads" in arrays else loss
        init, update = optimizer(arrays["rate"])

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(params, state, *batch):
            value, grads = jax.value_and_grad(function)(params, *batch)
            return value, *update(params, state, grads)

        params, batch = place(arrays["params"]), place(arrays["batch"])
        state = init(params)

        def call():
            nonlocal params, state
            value, params, state = step(params, state, *batch)
            return value

        return Step(call, lambda: step.lower(params, state, *batch))

    return start


def gradients(loss: Callable[..., Any]) -> Callable[..., Step]:
    def start(arrays: dict[str, Any]) -> Step:
        params = place(arrays["params"])
        function = jax.jit(jax.value_and_grad(loss))
        # Both results are waited for: the loss may be there first.
        step = Step(lambda: jax.block_until_ready(function(params))[0], lambda: function.lower(params))
        step.gradients = lambda: jax.tree.map(np.asarray, function(params)[1])
        return step

    return start


WORKLOADS: dict[str, Callable[[dict[str, Any]], Step]] = {
    "tiny": train(tiny, sgd),
    "tiny-tree": train(tiny, sgd),
    "mlp-sgd": train(mlp, sgd),
    "mlp-adam": train(mlp, adam),
    "chain": gradients(chain),
    "layernorm": gradients(weighted_mean),
    "lstm": train(lstm, sgd),
    "gpt": train(gpt, adam),
    "lenet": train(lenet, sgd, images=True),
    "resnet": train(resnet, sgd, images=True),
    "gcn": train(gcn, adam),
    "moe": train(moe, sgd),
    "pde": train(pde, sgd),
}
