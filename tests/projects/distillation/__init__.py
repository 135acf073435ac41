"""Knowledge distillation: a frozen teacher beside the net that learns (Hinton et al. 2015)."""
