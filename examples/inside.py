"""One small function at every stage, from NumPy code to machine code.

           trace         gradient        passes           fuse           plan          emit            run
     fn ────────► Graph ────────► Graph ────────► Graph ────────► Schedule ────► Plan ────────► Executable ────► results
"""

from __future__ import annotations

import argparse
import inspect

import numpy as np

import graphc


def f(w, x):
    return np.tanh(x @ w).mean()


def show(title: str, what: str, text: object) -> None:
    print(f"\n──── {title} {'─' * (94 - len(title))}\n{what}\n\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16)
    rows = parser.parse_args().rows
    w, x = np.ones((64, 32), np.float32), np.ones((rows, 64), np.float32)

    step = graphc.compile(graphc.value_and_grad(f))
    exe = step.executable(w, x)

    show("0. the function", "Plain NumPy. We compile its value and its gradient by w.", inspect.getsource(f).rstrip())
    show(
        "1. the graph as traced",
        "f was run once on stand-ins for w and x, which recorded what it did. The gradient was appended to the same graph:\n"
        "the adjoint of a node is how much the result changes with it. Every node has a type, and knows its line.",
        exe.traced.to_text(lines=True, roles=True),
    )
    show("2. what the passes did", "Each pass makes a new graph, and is verified before the next one begins.", exe.report)
    show("3. the graph after the passes", "Simplified, constants folded, without what nothing needs.", exe.graph)
    show(
        "4. the schedule",
        "The graph cut into kernels: a template, loop extents ({} are summed over), and a body that is again a graph.\n"
        "The tanh and its derivative are in the epilogue of the product that they belong to: its tiles never leave the cache\n"
        "before they are done. Kernels of one stage may run at the same time.",
        exe.schedule,
    )
    show(
        "5. the plan",
        "Every temporary at its place in one block of memory, with the stages in which it lives. Calls allocate nothing but\n"
        "their results.",
        exe.plan,
    )
    show("6. planned memory", "Known before anything has run.", f"{exe.memory}\n{exe.cost}")
    source = exe.source.splitlines()
    show(
        f"7. the generated source (the first 60 of {len(source)} lines)",
        "Python that Numba compiles: one node a line, 16 numbers at a time. Kernels read their addresses, extents and\n"
        "constants from a table, so that equal ones are compiled once.",
        "\n".join(source[:60]),
    )
    assembly = exe.assembly.splitlines()
    vectors = [line for line in assembly if "mm" in line or ".4s" in line]
    show(
        f"8. machine code: {len(assembly)} lines of assembly",
        f"{len(vectors)} of them work on vectors, such as these.",
        "\n".join(vectors[:12]),
    )
    value, gradient = step(w, x)
    show("9. the result", "Fresh arrays.", f"value {value}, gradient {gradient.dtype}{list(gradient.shape)}")
    show("10. where the time goes", "Per kernel, beside what this machine can do.", exe.profile(w, x))


if __name__ == "__main__":
    main()
