"""The machine: devices, processes, signals, random states."""
