"""The report of scored videos: one HTML file that needs no network."""

from __future__ import annotations

from pe_toolkit.evaluation.report.build import Written, build_report, is_report, write_report
from pe_toolkit.evaluation.report.page import Column

__all__ = ["Column", "Written", "build_report", "is_report", "write_report"]
