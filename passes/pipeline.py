"""The pipeline: every pass from the differentiated graph to the one that is cut into kernels, on one screen."""

from __future__ import annotations

from graphc.passes.attention import fuse_attention, lay_out_fused
from graphc.passes.complex import lower_complex
from graphc.passes.dots import shape_dots
from graphc.passes.expand import expand_ops
from graphc.passes.fold import eliminate_dead, fold_constants, inline_calls
from graphc.passes.join import join_pads
from graphc.passes.join_alike import join_alike
from graphc.passes.join_dots import join_dots
from graphc.passes.join_scatters import join_scatters
from graphc.passes.join_sums import join_sums
from graphc.passes.manager import Pass
from graphc.passes.merge_stacks import merge_stacks
from graphc.passes.pack import pack_operands
from graphc.passes.project_tables import project_tables
from graphc.passes.segments import sort_scatters
from graphc.passes.simplify import simplify, strip_identities
from graphc.passes.split import split_reductions

FUSE_ATTENTION = Pass(
    "fuse_attention",
    fuse_attention,
    "make kernels of the calls that are attention or its derivative",
    before=("inline_calls",),
    reason="inlined, a call is the matrices that it stands for",
)
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
JOIN_SCATTERS = Pass(
    "join_scatters",
    join_scatters,
    "make one scatter of a sum of scatters into zeros",
    after=("lower_complex", "simplify"),
    before=("sort_scatters", "join_sums"),
    reason="the indices of one scatter are sorted once; its updates are stacked before contractions join",
)
SORT_SCATTERS = Pass(
    "sort_scatters",
    sort_scatters,
    "sort the indices of large scatters",
    after=("inline_calls", "lower_complex"),
    before=("fold_constants",),
    reason="a constant index is sorted when its graph is compiled; complex scatters become two real ones",
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
JOIN_SUMS = Pass(
    "join_sums",
    join_sums,
    "make one contraction of a sum of contractions",
    after=("simplify", "join_pads"),
    before=("join_dots", "split_reductions"),
    reason="terms are of one form once simplified; joined, they are no candidates for sharing an operand any more",
)
JOIN_DOTS = Pass(
    "join_dots",
    join_dots,
    "make one contraction of independent ones that share an operand",
    after=("simplify", "join_pads", "join_sums"),
    before=("split_reductions",),
    reason="operands are slices of one array once simplified; what the gradients stack is then there to be shared",
)
JOIN_ALIKE = Pass(
    "join_alike",
    join_alike,
    "compute at once what is done alike to each slice of an array and joined afterwards",
    after=("join_pads", "join_sums", "join_dots"),
    before=("merge_stacks", "split_reductions"),
    reason="contractions have joined by then, so that what follows them has slices of one array to work on",
)
PROJECT_TABLES = Pass(
    "project_tables",
    project_tables,
    "contract a table before its rows are gathered, where it has fewer",
    after=("join_dots", "join_alike"),
    before=("merge_stacks",),
    reason="the gathers of an unrolled loop, each of few rows, are one gather of many by then",
)
MERGE_STACKS = Pass(
    "merge_stacks",
    merge_stacks,
    "make slices of one stack of those that overlap",
    after=("join_sums", "join_dots", "join_alike"),
    reason="all stacks are there, and those of alike nodes are gone",
)
SHAPE_DOTS = Pass(
    "shape_dots",
    shape_dots,
    "bring contractions into the form that their kernels do best",
    after=("simplify", "join_dots", "join_sums"),
    before=("split_reductions",),
    reason="contractions are joined as they were written; a product of single rows becomes a reduction, which may be long",
)
PACK_OPERANDS = Pass(
    "pack_operands",
    pack_operands,
    "transpose once what many small contractions read across its lines",
    after=("simplify", "join_dots", "join_sums", "shape_dots"),
    reason="simplify takes the copies away again, and contractions that join need none",
)
SPLIT_REDUCTIONS = Pass(
    "split_reductions",
    split_reductions,
    "cut long reductions into parallel parts",
    after=("simplify", "fold_constants"),
    reason="only reductions that remain are worth cutting",
)
LAY_OUT_FUSED = Pass(
    "lay_out_fused",
    lay_out_fused,
    "let attention write its results in the order of axes in which they are read",
    after=("simplify", "fold_constants", "join_pads"),
    reason="transposes are merged and moved until then",
)
ELIMINATE_DEAD = Pass(
    "eliminate_dead",
    eliminate_dead,
    "remove what no output needs",
    after=("inline_calls", "simplify", "fold_constants", "split_reductions"),
    reason="fusion makes a kernel of every node that is there",
)

PIPELINE: tuple[Pass, ...] = (
    FUSE_ATTENTION,
    INLINE_CALLS,
    EXPAND_OPS,
    STRIP_IDENTITIES,
    LOWER_COMPLEX,
    SIMPLIFY,
    JOIN_SCATTERS,
    SORT_SCATTERS,
    FOLD_CONSTANTS,
    SIMPLIFY,  # again: folded conditions decide selects, folded scalars are neutral elements
    JOIN_PADS,
    JOIN_SUMS,
    JOIN_DOTS,
    JOIN_ALIKE,
    PROJECT_TABLES,
    MERGE_STACKS,
    SIMPLIFY,  # joining leaves slices, reshapes and transposes behind that cancel out
    LAY_OUT_FUSED,
    SHAPE_DOTS,
    PACK_OPERANDS,
    SPLIT_REDUCTIONS,
    ELIMINATE_DEAD,
)
