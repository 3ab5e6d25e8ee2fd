"""One small function at every stage, from NumPy code to machine code."""

from __future__ import annotations

import numpy as np

import graphc


def f(w, x):
    return np.tanh(x @ w).mean()


def show(title: str, text: object) -> None:
    print(f"\n{'─' * 4} {title} {'─' * (100 - len(title))}\n\n{text}")


def main() -> None:
    w, x = np.ones((64, 32), np.float32), np.ones((16, 64), np.float32)
    gradient = graphc.value_and_grad(f)
    step = graphc.compile(gradient)
    exe = step.executable(w, x)

    show(
        "1. the graph as traced: forward nodes, then adjoint nodes (with the lines they came from)",
        exe.traced.to_text(lines=True, roles=True),
    )
    show("2. what the passes did", exe.report)
    show("3. the graph after the passes", exe.graph)
    show("4. the schedule: kernels in stages", exe.schedule)
    show("5. the plan: every buffer at its place", exe.plan)
    show("6. planned memory, before anything runs", exe.memory)
    source = exe.source.splitlines()
    show("7. the generated source of the kernels (the first 60 lines)", "\n".join(source[:60]))
    assembly = exe.assembly.splitlines()
    vectors = [line for line in assembly if "mm" in line][:12]
    show(f"8. machine code: {len(assembly)} lines of assembly, among them", "\n".join(vectors))
    show("9. the result", step(w, x)[0])
    show("10. where the time goes", exe.profile(w, x))


if __name__ == "__main__":
    main()
