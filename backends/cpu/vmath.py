"""Elementwise functions on vectors."""
from __future__ import annotations
