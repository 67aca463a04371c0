"""What runs: one runbook per file."""
