"""What `scripts/bench` measures: one module a table; native/ has what is compiled for it."""
