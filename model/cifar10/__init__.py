"""CIFAR-10: one net at three levels of abstraction, from bare tensors to `nn.Sequential`."""
