"""The state of training: update, schedule, averages, sums, checkpoints."""
