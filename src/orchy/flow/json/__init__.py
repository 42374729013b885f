"""JSON text: parsed fast if it is valid, explained exactly if it is not."""
