"""The engine room: one topic a file. It knows no task and holds no loop."""
