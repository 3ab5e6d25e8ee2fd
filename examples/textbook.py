"""The textbook exercise: f(x, y, z) = (x + y)(x + z) at (-2, 5, -4), by one forward and one backward pass.

    x ──┬─► q = x + y ──┐
    y ──┘               ├─► f = q · r          dq/dx = 1, dq/dy = 1, dr/dx = 1, dr/dz = 1
    x ──┬─► r = x + z ──┘                      df/dq = r, df/dr = q
    z ──┘

The backward pass starts from df/df = 1 and walks the graph once, from f to the inputs: df/dq = r = -6, df/dr = q = 3, and
from these df/dy = -6, df/dz = 3, and df/dx = -6 + 3 = -3, because x is used twice. It visits every edge once, so the gradient
by *all* inputs costs about as much as f itself. Differentiating forward, or by differences, takes one pass *per input*: for a
network with a million weights, a million passes.
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

    # On numbers, a derivative is computed at once: the function is traced, differentiated and interpreted.
    both = graphc.value_and_grad(f, argnums=(0, 1, 2))
    value, gradient = both(*point)
    print(f"f{point} = {float(value)}")
    print(f"gradient = {tuple(float(g) for g in gradient)}")

    # The same as a graph. `roles` marks what the backward pass appended; an alias is an input that is differentiated by.
    graph = graphc.trace(both, *point)
    print("\nThe graph, forward nodes first, then the adjoints that the backward pass appended:\n")
    print(graph.to_text(roles=True))
    print(f"\nIt is drawn in {graphc.draw(graph, args.out)}, adjoint nodes in another colour.")

    # Multiplying by 1 goes away, and then the adjoint of q is r and that of r is q: nodes that were there already.
    # One addition is all that the backward pass costs here.
    print("\nAfter simplification:\n")
    print(graphc.compile(both).executable(*point).graph.to_text(roles=True))

    # The gradient is a graph as well, so it can be differentiated again, by the same rules.
    print("\nSecond derivatives, all nine of them:\n")
    print(graphc.hessian(lambda v: f(v[0], v[1], v[2]))(np.array(point)))


if __name__ == "__main__":
    main()
