"""Tables, statistics and the page of results."""
