"""A task as people wrote it for the CS230 template: nothing in it knows this project."""
