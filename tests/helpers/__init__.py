"""What the tests share; each helper is defined once, here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
