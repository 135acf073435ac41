"""Drawn stand-ins for CIFAR-10: ten shapes of many colours, places, sizes and angles in clutter."""

import numpy as np

SIZE = 32  # pixels
SHAPES = ["disc", "ring", "square", "frame", "triangle", "cross", "bar", "crescent", "star", "pair"]


def inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Tell which of the places (u, v), about -1 to 1, belong to a shape."""
    radius, box = np.hypot(u, v), np.maximum(abs(u), abs(v))
    if shape == "disc":
        return radius < 0.9
    if shape == "ring":
        return (radius > 0.5) & (radius < 1)
    if shape == "square":
        return box < 0.8
    if shape == "frame":
        return (box > 0.45) & (box < 0.9)
    if shape == "triangle":
        return (v > -0.6) & (v + 1.7 * abs(u) < 1)
    if shape == "cross":
        return (np.minimum(abs(u), abs(v)) < 0.28) & (box < 1)
    if shape == "bar":
        return (abs(v) < 0.35) & (abs(u) < 1.1)
    if shape == "crescent":
        return (radius < 1) & (np.hypot(u - 0.5, v) > 0.75)
    if shape == "star":
        return radius < 0.65 + 0.35 * np.cos(5 * np.arctan2(v, u))
    return (np.hypot(abs(u) - 0.6, v) < 0.42) & (box < 1.1)  # a pair of discs


def draw(label: int, seed: int, index: int) -> np.ndarray:
    """Return image number `index` of a seed, (3, 32, 32) bytes: the shape of a label."""
    rng = np.random.default_rng([seed, index])
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    back, front = two_colours(rng)
    slope, tilt = rng.uniform(-1.5, 1.5, (2, 3, 1, 1))  # of the light, per pixel
    image = back[:, None, None] + slope * (x - SIZE / 2) + tilt * (y - SIZE / 2)  # (3, H, W)
    for _ in range(3):  # clutter: lines across the image
        angle, place = rng.uniform(0, np.pi), rng.uniform(-12, 12)
        away = (x - SIZE / 2) * np.cos(angle) + (y - SIZE / 2) * np.sin(angle) - place
        image = np.where(abs(away) < rng.uniform(0.5, 1.5), rng.uniform(0, 255, (3, 1, 1)), image)
    angle, radius = rng.uniform(-0.5, 0.5), rng.uniform(7, 11)
    dx, dy = x - rng.uniform(12, 20), y - rng.uniform(12, 20)
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / radius
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / radius
    image = np.where(inside(SHAPES[label], u, v), front[:, None, None], image)
    image += rng.normal(0, rng.uniform(5, 30), image.shape)
    return image.clip(0, 255).astype(np.uint8)


def two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw two colours (3,), the second clearly brighter."""
    while True:
        back, front = rng.uniform(20, 235, (2, 3))
        if front.sum() - back.sum() > 120:
            return back, front
