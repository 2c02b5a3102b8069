"""The measurements of `scripts/bench`: one module per table; native/ holds the compiled parts."""
