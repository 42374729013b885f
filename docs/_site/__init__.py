"""What is particular to the documentation site, as extensions of Sphinx, and its check."""
