"""The epilogue over rows of flat places, for kernels that number the last axes of their result along one line."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.cpu.codegen import Emission, compute_dtype, dtype_name
from graphc.backends.cpu.emit_loops import ragged
from graphc.backends.cpu.epilogue import Epilogue
from graphc.backends.cpu.loops import Axis, Layout, Values, merge_axes
from graphc.ir import Node


class FlatPlaces:
    """``lead`` axes of the result come before the flat ones."""

    def __init__(self, e: Emission, node: Node, lead: int) -> None:
        shape = node.type.shape
        layout, probe = Layout(e.kernel.body, shape), Layout(e.kernel.body, shape)
        places = [probe.place(n) for n in probe.needed(e.kernel.body.outputs, (node,)) if n is not node]
        strides = [probe.stored(node), *(place.strides for place in places if place is not None)]
        axes = [Axis((k,), n, False) for k, n in enumerate(shape)]
        flat = merge_axes([Axis(a.members, a.extent, k >= lead) for k, a in enumerate(axes)], strides)
        flat = tuple(Axis(a.members, a.extent, False) for a in flat if a.members[0] >= lead)
        self.whole = len(flat) <= 1
        tail = flat or (axes[-1],)
        layout.axes = (*axes[:lead], *(tail if self.whole else axes[lead:]))
        self.e, self.lead, self.extents = e, lead, shape[lead:]
        self.epilogue = Epilogue(e, node, layout, len(layout.axes) - 1)
        self.element = dtype_name(compute_dtype(node.type.dtype))

    def write(self, values: Values, lead: Sequence[str], base: str, sums: str = "sums") -> None:
        """The places ``low`` to ``high`` of one row; place j's value is element ``base + j`` of ``sums``."""
        e = self.e
        e.line(f"sums_at = {base}")

        def total(place: str) -> str:
            return f"load({sums}, sums_at + {place}, {self.element}, {self.epilogue.sums_scope})"

        if self.whole:
            index = [*lead, "j"]
            of_row = self.epilogue.row(values, index)
            for lanes in ragged(e, "j", "low", "high"):
                self.epilogue.vector(of_row, index, lanes, total("j"))
            return
        width = self.extents[-1]
        with e.block(f"for line in range(low // {width}, (high - 1) // {width} + 1):"):
            index = list(lead)
            rest = "line"
            digits = []
            for k in reversed(range(len(self.extents) - 1)):
                digits.append(f"f{k} = {rest}" if k == 0 else f"f{k} = {rest} % {self.extents[k]}")
                rest = f"({rest} // {self.extents[k]})"
            for line in digits:
                e.line(line)
            index += [*(f"f{k}" for k in range(len(self.extents) - 1)), "j"]
            e.line(f"from_ = max(low - line * {width}, 0)")
            e.line(f"to = min(high - line * {width}, {width})")
            of_row = self.epilogue.row(values, index)
            for lanes in ragged(e, "j", "from_", "to"):
                self.epilogue.vector(of_row, index, lanes, total(f"line * {width} + j"))
