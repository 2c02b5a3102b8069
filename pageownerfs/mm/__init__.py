"""The vocabulary and the tables of the memory manager, one module per kernel concept."""
