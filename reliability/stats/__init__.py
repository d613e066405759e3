"""What the console, the status and the metrics show: totals, gauges, charts, and figures by workflow and by process."""
