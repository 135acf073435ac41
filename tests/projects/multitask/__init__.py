"""Two outputs, two losses: a class and a number."""
