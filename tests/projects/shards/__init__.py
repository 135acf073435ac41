"""Pictures in tar shards: decoded by workers, augmented a whole batch at a time."""
