"""Tasks in the shape of real projects, one for each hook that they need."""
