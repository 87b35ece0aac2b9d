"""Commands of generations: gate, promote, roll back, backfill, and what keeps a gallery sound."""

from __future__ import annotations
