"""Small pictures whose brightness tells their class: the task that the tests of core/ train.

A net with convolution, batch norm and dropout, and batches that are augmented whole. It stays as it
is whatever becomes of the tasks in model/.
"""
