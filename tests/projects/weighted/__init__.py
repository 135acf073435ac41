"""A loss of one's own with class weights, which are part of the mean."""
