"""JSON text: parsed fast when it is sound, explained exactly when it is not."""
