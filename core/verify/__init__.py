"""Does a run's record follow from its params, code and data? And a run in one file."""
