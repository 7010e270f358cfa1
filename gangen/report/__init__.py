"""The report of a run: one self-contained HTML file with its curves, turns, pictures, numbers and settings."""

from gangen.report.page import write_report
from gangen.report.table import number, phase_table, text_table

__all__ = ["number", "phase_table", "text_table", "write_report"]
