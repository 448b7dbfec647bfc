"""Evaluates methods of completion on held-out clips: scores, protocols of papers, tables, plots and a report."""
