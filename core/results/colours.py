"""The colours of rows, the same in the page and in the plots; they differ in lightness too."""

LIGHT = ("#2a6fdb", "#d2570f", "#12866f", "#b0309a", "#8a6d00", "#6a4bd0", "#c22f4a", "#4a7d12")
DARK = ("#6ea8ff", "#ff9d5c", "#4fd1b5", "#f08be0", "#e3c34d", "#b19cff", "#ff8da1", "#a3d45f")
