"""A run from its opening to its report: what is drafted, gated, rolled out in waves and written down."""
