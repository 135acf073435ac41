"""What outputs and labels mean, asked of the task on a first batch."""
