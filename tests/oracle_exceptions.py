"""Recorded cases whose defect is not kept; docs/defects.md has the whole table."""

from __future__ import annotations

NOT_KEPT: dict[str, str] = {}
