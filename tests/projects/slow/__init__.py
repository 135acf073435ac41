"""Pictures with a loss that takes its time, to be interrupted in."""
