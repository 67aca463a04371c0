"""The pure middle of the house: values and rules. No I/O, no clock, no Prefect."""
