"""Text of a Schedule and of a Plan: one line per kernel with its body below, stages apart; values with their bytes."""

from __future__ import annotations

from graphc.passes.schedule import Domain, Kernel, Schedule
from graphc.text import to_text, node_names
from graphc.types import TensorType
