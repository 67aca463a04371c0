"""What runbooks do: the steps every flow is made of, and one module per system."""
