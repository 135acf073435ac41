"""Fine-tuning: first weights from a file, two optimizers of one loss, hooks that take params."""
