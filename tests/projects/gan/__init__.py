"""A GAN: two optimizers, one step of each per batch (Goodfellow et al. 2014)."""
