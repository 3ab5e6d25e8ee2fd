"""The textbook exercise: f(x, y, z) = (x + y)(x + z) at (-2, 5, -4), by one forward and one backward pass.

    x ──┬─► q = x + y ──┐
    y ──┘               ├─► f = q · r          dq/dx = 1, dq/dy = 1, dr/dx = 1, dr/dz = 1
    x ──┬─► r = x + z ──┘                      df/dq = r, df/dr = q
    z ──┘

The backward pass starts from df/df = 1 and walks the graph once, from f to the inputs. It visits every edge once, so the
gradient by all three inputs costs about as much as f itself. Differentiating forward, or by differences, needs one pass
*per input*: for a network with a million weights, a million passes.
"""

from __future__ import annotations

import argparse

import numpy as np

import graphc


def f(x, y, z):
    q = x + y
    r = x + z
    return q * r


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="textbook.svg", help="where the graph is drawn (.svg, .png, .pdf or .dot)")
    args = parser.parse_args()
    point = (-2.0, 5.0, -4.0)

    both = graphc.value_and_grad(f, argnums=(0, 1, 2))
    value, gradient = both(*point)
    print(f"f{point} = {value}")
    print(f"gradient = {tuple(float(g) for g in gradient)}")

    graph = graphc.trace(both, *point)
    print("\nthe graph: forward nodes, then the adjoint nodes that the backward pass appended\n")
    print(graph.to_text(roles=True))
    print(f"\ndrawn to {graphc.draw(graph, args.out)}")

    print("\nsecond derivatives: the gradient is a graph too, and is differentiated again")
    print(graphc.hessian(lambda v: f(v[0], v[1], v[2]))(np.array(point)))


if __name__ == "__main__":
    main()
