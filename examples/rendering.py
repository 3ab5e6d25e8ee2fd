"""Differentiable rendering: discs move, grow and change colour until their picture is the one that is given.

A picture of a few soft-edged discs, painted back to front, is a function of their places, sizes and colours; so its
difference from another picture has a gradient by these. Adam follows it, by one compiled step.
"""

from __future__ import annotations

import argparse

import numpy as np

import graphc


def render(scene, size, softness):
    """The picture [size, size, 3] of a scene. Edges are ``softness`` wide, so that moving one changes pixels smoothly."""
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = axis[None, :], axis[:, None]
    picture = np.zeros((size, size, 1), np.float32) + scene["background"]
    for place, radius, colour in zip(scene["places"], scene["radii"], scene["colours"], strict=True):
        distance = np.sqrt((x - place[0]) ** 2 + (y - place[1]) ** 2 + 1e-8) - radius
        cover = (0.5 - 0.5 * np.tanh(distance / softness))[:, :, None]
        picture = cover * colour + (1 - cover) * picture
    return picture


def loss(scene, target, softness):
    return ((render(scene, target.shape[0], softness) - target) ** 2).mean()


def random_scene(rng, discs):
    scene = {
        "background": rng.uniform(0, 0.3, 3),
        "places": rng.uniform(0.2, 0.8, (discs, 2)),
        "radii": rng.uniform(0.1, 0.2, discs),
        "colours": rng.uniform(0.3, 1, (discs, 3)),
    }
    return {name: part.astype(np.float32) for name, part in scene.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=48, help="pixels along a side")
    parser.add_argument("--discs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600, help="steps of Adam")
    parser.add_argument("--plot", metavar="FILE", help="draw start, result and target there")
    args = parser.parse_args()
    rng = np.random.default_rng(3)
    truth = random_scene(rng, args.discs)
    target = render(truth, args.size, np.float32(0.02))
    start = {name: part + 0.08 * rng.normal(size=part.shape).astype(np.float32) for name, part in truth.items()}

    step = graphc.TrainingStep(loss, start, graphc.optim.adam(5e-3))
    losses = [float(step(target, np.float32(max(0.02, 0.1 * 0.99**k)))) for k in range(args.steps)]
    missing = np.abs(np.asarray(step.params["places"]) - truth["places"]).max()
    print(f"mean squared difference {losses[0]:.5f} → {losses[-1]:.1e} after {args.steps} steps")
    print(f"discs are off by {np.abs(start['places'] - truth['places']).max() * args.size:.2f} pixels at the start, "
          f"{missing * args.size:.3f} at the end")  # fmt: skip

    if args.plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
        for ax, scene, title in zip(axes, (start, step.params, truth), ("start", "result", "target"), strict=True):
            ax.imshow(np.clip(render(scene, 256, np.float32(0.02)), 0, 1))
            ax.set(title=title, xticks=[], yticks=[])
        figure.savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()
