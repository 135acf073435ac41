"""A task to begin from; model/__init__.py says what a task may define."""
