"""The GAN with noise that is computed from its inputs: any number of processes trains the same."""
