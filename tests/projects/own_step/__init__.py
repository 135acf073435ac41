"""A train_step that changes the weights by itself, which several processes cannot do."""
