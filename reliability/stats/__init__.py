"""Figures for the console, the status and the metrics: totals, gauges, charts, and figures by workflow and process."""
