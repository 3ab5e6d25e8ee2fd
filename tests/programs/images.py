"""Images: convolution by loops and by windows, a convolutional network, rendering that is differentiated through."""

from __future__ import annotations

import numpy as np

from programs import Program


def normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


def deconvolution(params, blurred):
    """Blind deconvolution: image and kernel at once, the convolution a loop over the kernel's places, added in place."""
    kernel = np.exp(params["kernel"])
    kernel = kernel / kernel.sum()
    image = params["image"]
    rows, cols = blurred.shape
    seen = np.zeros_like(blurred)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            seen += kernel[i, j] * image[i : i + rows, j : j + cols]
    roughness = np.sqrt(np.diff(image, axis=0)[:, :-1] ** 2 + np.diff(image, axis=1)[:-1] ** 2 + 1e-2)
    return np.sum((seen - blurred) ** 2) + 0.05 * roughness.sum()


def deconvolution_data(seed, n=5, k=3):
    rng = np.random.default_rng(seed)
    params = {"image": rng.uniform(size=(n + k - 1, n + k - 1)), "kernel": normal(rng, k, k, scale=0.3)}
    return params, rng.uniform(size=(n, n))


def windows(images, k):
    """Every k × k window of a batch of images, as an array [batch, rows, cols, k·k, channels], without strides."""
    rows, cols = images.shape[1] - k + 1, images.shape[2] - k + 1
    return np.stack([images[:, i : i + rows, j : j + cols] for i in range(k) for j in range(k)], axis=3)


def convolutional_network(params, images, labels):
    """Two convolutions by windows, average and maximum pooling by reshape, a dense layer."""
    x = np.tensordot(windows(images, 3), params["filters1"], axes=2) + params["bias1"]
    x = np.maximum(x, 0)
    n, rows, cols, channels = x.shape
    x = np.max(np.reshape(x, (n, rows // 2, 2, cols // 2, 2, channels)), axis=(2, 4))
    x = np.tanh(np.tensordot(windows(x, 2), params["filters2"], axes=2) + params["bias2"])
    x = np.mean(x, axis=(1, 2)) @ params["dense"]
    x = x - np.max(x, axis=1, keepdims=True)
    log_p = x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(n), labels])


def convolutional_network_data(seed, batch=2, size=8, filters=2):
    rng = np.random.default_rng(seed)
    params = {
        "filters1": normal(rng, 9, 1, filters, scale=0.5),
        "bias1": normal(rng, filters, scale=0.1),
        "filters2": normal(rng, 4, filters, filters + 1, scale=0.5),
        "bias2": normal(rng, filters + 1, scale=0.1),
        "dense": normal(rng, filters + 1, 3),
    }
    return params, rng.uniform(size=(batch, size, size, 1)), rng.integers(0, 3, batch)


def rendering(scene, target):
    """Discs and boxes painted back to front with soft edges: shapes move until the picture is the target."""
    n = target.shape[0]
    axis = (np.arange(n, dtype=target.dtype) + 0.5) / n
    x, y = axis[None, :], axis[:, None]
    softness = 0.5 / n
    picture = np.zeros_like(target) + scene["background"]
    for cx, cy, radius, colour in zip(*scene["discs"], strict=True):
        distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + 1e-6) - radius
        cover = 0.5 * (1 - np.tanh(distance / (2 * softness)))[:, :, None]
        picture = cover * colour + (1 - cover) * picture
    for box in scene["boxes"]:
        c, s = np.cos(box["angle"]), np.sin(box["angle"])
        u, v = x - box["centre"][0], y - box["centre"][1]
        along, across = np.abs(c * u + s * v) - box["half"][0], np.abs(c * v - s * u) - box["half"][1]
        outside = np.sqrt(np.maximum(along, 0) ** 2 + np.maximum(across, 0) ** 2 + 1e-6)
        distance = outside + np.minimum(np.maximum(along, across), 0)
        cover = 0.5 * (1 - np.tanh(distance / (2 * softness)))[:, :, None]
        picture = cover * box["colour"] + (1 - cover) * picture
    return np.mean((picture - target) ** 2)


def rendering_data(seed, size=7, discs=2, boxes=1):
    rng = np.random.default_rng(seed)
    scene = {
        "background": rng.uniform(size=3),
        "discs": (
            rng.uniform(0.3, 0.7, discs),
            rng.uniform(0.3, 0.7, discs),
            rng.uniform(0.1, 0.3, discs),
            rng.uniform(size=(discs, 3)),
        ),
        "boxes": [
            {
                "centre": rng.uniform(0.3, 0.7, 2),
                "half": rng.uniform(0.1, 0.3, 2),
                "angle": rng.uniform(0.2, 1.2, ()),
                "colour": rng.uniform(size=3),
            }
            for _ in range(boxes)
        ],
    }
    return scene, rng.uniform(size=(size, size, 3))


PROGRAMS = (
    Program(deconvolution, deconvolution_data, {"n": 64, "k": 5}, peer="adds in place"),
    Program(convolutional_network, convolutional_network_data, {"batch": 16, "size": 16, "filters": 8}),
    Program(rendering, rendering_data, {"size": 48, "discs": 4, "boxes": 2}),
)
