"""Pictures of any size from one file, for the nets of which bench/gpu.py takes the speed."""
