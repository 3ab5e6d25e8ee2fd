"""The pipeline: every pass from the differentiated graph to the one that is cut into kernels, on one screen."""

from __future__ import annotations

from graphc.passes.complex import lower_complex
from graphc.passes.expand import expand_ops
from graphc.passes.fold import eliminate_dead, fold_constants, inline_calls
from graphc.passes.join import join_pads
from graphc.passes.manager import Pass
from graphc.passes.simplify import simplify, strip_identities
from graphc.passes.split import split_reductions

INLINE_CALLS = Pass(
    "inline_calls",
    inline_calls,
    "replace calls (composites, checkpoints, custom rules) by their bodies",
    before=("strip_identities", "simplify", "fold_constants", "split_reductions"),
    reason="the other passes and fusion look into no call",
)
EXPAND_OPS = Pass(
    "expand_ops",
    expand_ops,
    "replace special functions and linear systems by the graphs that they mean",
    after=("inline_calls",),
    before=("strip_identities", "simplify", "fold_constants", "split_reductions"),
    reason="no backend knows these ops; bodies of calls hold them too, and their expansions are simplified as user code is",
)
STRIP_IDENTITIES = Pass(
    "strip_identities",
    strip_identities,
    "remove alias and stop_gradient",
    after=("inline_calls",),
    before=("simplify", "fold_constants"),
    reason="an identity between two nodes hides them from every rule; bodies of calls hold identities too",
)
LOWER_COMPLEX = Pass(
    "lower_complex",
    lower_complex,
    "make two real nodes of every complex one",
    after=("inline_calls", "strip_identities"),
    before=("simplify", "fold_constants", "join_pads", "split_reductions"),
    reason="the rules of the other passes and all emitters are about real numbers; what the parts have in common shows then",
)
SIMPLIFY = Pass(
    "simplify",
    simplify,
    "apply the exact algebraic rules until none applies",
    after=("strip_identities",),
    before=("split_reductions",),
    reason="a split reduction matches no rule any more",
)
FOLD_CONSTANTS = Pass(
    "fold_constants",
    fold_constants,
    "compute what depends on constants alone",
    after=("simplify",),
    before=("split_reductions",),
    reason="simplify moves repeated constants together, which makes them foldable",
)
JOIN_PADS = Pass(
    "join_pads",
    join_pads,
    "turn sums of zero pads that lie side by side into concatenations",
    after=("simplify", "fold_constants"),
    before=("split_reductions",),
    reason="the pads of one sum are recognised once their shapes are in their simplest form",
)
SPLIT_REDUCTIONS = Pass(
    "split_reductions",
    split_reductions,
    "cut long reductions into parallel parts",
    after=("simplify", "fold_constants"),
    reason="only reductions that remain are worth cutting",
)
ELIMINATE_DEAD = Pass(
    "eliminate_dead",
    eliminate_dead,
    "remove what no output needs",
    after=("inline_calls", "simplify", "fold_constants", "split_reductions"),
    reason="fusion makes a kernel of every node that is there",
)

PIPELINE: tuple[Pass, ...] = (
    INLINE_CALLS,
    EXPAND_OPS,
    STRIP_IDENTITIES,
    LOWER_COMPLEX,
    SIMPLIFY,
    FOLD_CONSTANTS,
    SIMPLIFY,  # again: folded conditions decide selects, folded scalars are neutral elements
    JOIN_PADS,
    SPLIT_REDUCTIONS,
    ELIMINATE_DEAD,
)
