"""Who continues a prompt? The only part of the package that knows a model exists."""
