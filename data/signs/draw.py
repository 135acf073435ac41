"""Draws small pictures of hands that show 0 to 5 fingers.

A hand is a list of bones, each a tapered rod. The rods' heights above the background, the highest
one winning at every pixel, form a relief; it is lit from a random side, as clay would be, and laid
over a random wall. A picture depends on (label, seed, index) and on nothing else.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 64
SCALE = 2  # drawn this many times larger, then shrunk: smooth edges
LARGE = SIZE * SCALE

THUMB, INDEX, MIDDLE, RING, LITTLE = range(5)
FINGERS_UP: dict[int, list[set[int]]] = {  # the usual ways to count come twice
    0: [set()],
    1: [{INDEX}, {INDEX}, {THUMB}, {LITTLE}],
    2: [{INDEX, MIDDLE}, {INDEX, MIDDLE}, {THUMB, INDEX}, {INDEX, LITTLE}],
    3: [
        {INDEX, MIDDLE, RING},
        {INDEX, MIDDLE, RING},
        {THUMB, INDEX, MIDDLE},
        {MIDDLE, RING, LITTLE},
    ],
    4: [{INDEX, MIDDLE, RING, LITTLE}],
    5: [{THUMB, INDEX, MIDDLE, RING, LITTLE}],
}
SKIN_TONES = np.array(
    [[246, 214, 190], [230, 184, 152], [206, 152, 115], [168, 113, 78], [122, 78, 54], [80, 52, 40]]
)


class Finger(NamedTuple):
    """A right hand's finger seen from the palm; one unit is about the length of the palm."""

    knuckle: tuple[float, float]  # x to the right, y up, from the middle of the palm
    length: float
    radius: float
    lean: float  # degrees clockwise from upright


FINGERS = {
    INDEX: Finger((-0.30, 0.32), 0.76, 0.105, -9),
    MIDDLE: Finger((-0.10, 0.38), 0.84, 0.108, -2),
    RING: Finger((0.11, 0.35), 0.77, 0.103, 5),
    LITTLE: Finger((0.29, 0.25), 0.60, 0.088, 13),
}
WRIST = np.array([0.0, -0.48])
THUMB_ROOT = np.array([-0.27, -0.22])


class Bone(NamedTuple):
    """A tapered rod from start to end, its axis `level` in front of the palm."""

    start: np.ndarray
    end: np.ndarray
    start_radius: float
    end_radius: float
    level: float = 0.0
    sleeve: bool = False


def draw_sign(label: int, seed: int, index: int) -> Image.Image:
    """Draw a hand that shows `label` fingers, as an RGB picture of 64x64 pixels."""
    rng = np.random.default_rng([seed, index])
    ways = FINGERS_UP[label]
    bones, tips = pose_hand(rng, ways[rng.integers(len(ways))])
    matrix, offset = place_hand(rng, tips)
    scene = light_scene(rng, draw_wall(rng), *raise_relief(bones, matrix, offset))
    return take_picture(rng, scene)


def pose_hand(rng: np.random.Generator, up: set[int]) -> tuple[list[Bone], np.ndarray]:
    """Raise the fingers in `up`, fold the others: the bones, and (N, 2) points to keep in view."""
    elbow = WRIST + 2.2 * _direction(180 + rng.normal(0, 10))
    bones = [Bone(WRIST, elbow, 0.24, 0.34)]
    if rng.random() < 0.5:
        cuff = WRIST + (elbow - WRIST) * rng.uniform(0.12, 0.35)
        bones.append(Bone(cuff, elbow, 0.33, 0.45, level=0.05, sleeve=True))
    palm_side = bool(rng.random() < 0.6)
    spread = rng.uniform(0.8, 1.9)
    points = [np.array([-0.45, 0.0]), np.array([0.42, 0.0]), np.array([0.0, 0.45]), WRIST]
    for number, finger in FINGERS.items():
        knuckle = np.array(finger.knuckle)
        inside_palm = WRIST + np.array([0.45 * knuckle[0], 0.05])
        bones.append(Bone(inside_palm, knuckle - (0, 0.06), 0.19, 0.15, level=-0.03))
        lean = finger.lean * spread + rng.normal(0, 2.5)
        radius = finger.radius * rng.uniform(0.93, 1.07)
        length = finger.length * rng.uniform(0.88, 1.06)
        if number in up:
            lengths = [length * share for share in (0.42, 0.3, 0.28)]
            radii = [radius * share for share in (1.08, 1.0, 0.92, 0.78)]
            bones += _chain(knuckle, lean, rng.normal(0, 4), lengths, radii, level=0.04)
            points.append(bones[-1].end)
            continue
        bend = knuckle + rng.uniform(0.04, 0.12) * _direction(lean)
        end = bend + rng.uniform(0.26, 0.34) * _direction(180 - 0.5 * lean + rng.normal(0, 4))
        if palm_side:  # the finger's end lies on the palm
            bones.append(Bone(bend, end, radius * 1.05, radius * 0.9, level=0.14))
        else:
            bones.append(Bone(knuckle - (0, 0.1), bend, radius, radius * 1.05, level=0.06))
    thumb = _thumb(rng, THUMB in up, palm_side)
    if THUMB in up:
        points.append(thumb[-1].end)
    return bones + thumb, np.array(points)


def _thumb(rng: np.random.Generator, up: bool, palm_side: bool) -> list[Bone]:
    """The ball of the thumb and the thumb, its tip last."""
    ball = Bone(WRIST - (0.1, -0.1), np.array([-0.30, -0.12]), 0.18, 0.16, level=0.03)
    if up:
        lean, bend, lengths = rng.uniform(-68, -38), rng.uniform(-5, 18), [0.34, 0.26, 0.2]
    elif not palm_side:  # hidden behind the palm, but for its joint
        return [ball, Bone(THUMB_ROOT, THUMB_ROOT - (0.08, -0.2), 0.14, 0.11, level=-0.05)]
    elif rng.random() < 0.25:  # alongside the index finger
        lean, bend, lengths = rng.uniform(-14, -6), rng.uniform(8, 14), [0.26, 0.2, 0.12]
    else:  # across the palm
        lean, bend, lengths = rng.uniform(-12, 5), rng.uniform(24, 34), [0.22, 0.22, 0.18]
    radii = [0.145, 0.122, 0.112, 0.09]
    return [ball, *_chain(THUMB_ROOT, lean, bend, lengths, radii, level=0.05 if up else 0.24)]


def _chain(
    start: np.ndarray,
    lean: float,
    bend: float,
    lengths: list[float],
    radii: list[float],
    level: float,
) -> list[Bone]:
    """Bones that leave `start` at `lean` degrees and turn by `bend` at each joint."""
    bones = []
    for number, length in enumerate(lengths):
        end = start + length * _direction(lean + number * bend)
        bones.append(Bone(start, end, radii[number], radii[number + 1], level))
        start = end
    return bones


def _direction(degrees: float) -> np.ndarray:
    """Unit vector `degrees` clockwise from upright."""
    return np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])


def place_hand(rng: np.random.Generator, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose side, scale, turn, slant and position: pixel = matrix @ point + offset."""
    turn = np.radians(np.clip(rng.normal(0, 9), -25, 25))
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    slanted = np.array([[rng.uniform(0.85, 1.0), rng.normal(0, 0.08)], [0, rng.uniform(0.9, 1.0)]])
    mirrored = np.diag([rng.choice([-1.0, 1.0]), -1.0])  # left or right hand; rows count downwards
    matrix = rng.uniform(0.40, 0.50) * LARGE * mirrored @ turned @ slanted
    placed = points @ matrix.T
    extent = np.ptp(placed, axis=0)
    shrink = min(1.0, 0.9 * LARGE / extent.max())  # below 1 if too large to fit
    room = np.clip(0.45 * LARGE - shrink * extent / 2, 0, 0.07 * LARGE)
    middle = shrink * (placed.min(axis=0) + placed.max(axis=0)) / 2
    return shrink * matrix, LARGE / 2 - middle + rng.uniform(-room, room)


def raise_relief(
    bones: list[Bone], matrix: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height in pixels, share of the pixel that is covered, whether it is sleeve: (H, W) each."""
    rows, columns = np.indices((LARGE, LARGE), dtype=np.float32)
    pixels = np.stack([columns, rows], axis=-1) - offset
    x, y = np.moveaxis(pixels @ np.linalg.inv(matrix).T, -1, 0).astype(np.float32)
    unit = float(np.sqrt(abs(np.linalg.det(matrix))))  # pixels in one unit
    height, coverage = np.zeros_like(x), np.zeros_like(x)
    sleeve = np.zeros(x.shape, dtype=bool)
    for bone in bones:
        ends = np.stack([bone.start, bone.end]) @ matrix.T + offset
        reach = 1.2 * unit * max(bone.start_radius, bone.end_radius) + 2
        left, top = np.clip(ends.min(axis=0) - reach, 0, LARGE).astype(int)
        right, bottom = np.clip(ends.max(axis=0) + reach, 0, LARGE).astype(int)
        box = np.s_[top:bottom, left:right]  # all other pixels are too far away
        (ax, ay), (sx, sy) = (bone.end - bone.start).tolist(), bone.start.tolist()
        dx, dy = x[box] - sx, y[box] - sy
        share = np.clip((dx * ax + dy * ay) / (ax * ax + ay * ay), 0, 1)  # of the way
        distance = np.hypot(dx - share * ax, dy - share * ay)  # from the axis
        radius = bone.start_radius + (bone.end_radius - bone.start_radius) * share
        surface = 0.3 + bone.level + np.sqrt(np.clip(radius**2 - distance**2, 0, None))
        surface = np.where(distance < radius, surface * unit, 0)
        sleeve[box] = np.where(surface > height[box], bone.sleeve, sleeve[box])
        height[box] = np.maximum(height[box], surface)
        edge = np.clip(0.5 + (radius - distance) * unit, 0, 1)
        coverage[box] = np.maximum(coverage[box], edge)
    return height, coverage, sleeve


def draw_wall(rng: np.random.Generator) -> np.ndarray:
    """A wall, plain or with a texture, and things out of focus before it: (H, W, 3) in 0..255."""
    first, second = rng.uniform(40, 240, 3), rng.uniform(40, 240, 3)
    if rng.random() < 0.7:  # most walls are pale
        first = rng.uniform(150, 240) + rng.normal(0, 10, 3)
    wall = first + (second - first) * rng.uniform(0, 0.4) * _ramp(rng)[..., None]
    if rng.random() < 0.5:
        wall = wall + rng.uniform(2, 9) * _texture(rng, int(rng.integers(4, 40)))[..., None]
    image = Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        left, top = rng.uniform(-0.2, 1.1, 2) * LARGE
        width, height = rng.uniform(0.05, 0.5, 2) * LARGE
        shape = [pen.rectangle, pen.ellipse][rng.integers(2)]
        red, green, blue = rng.integers(20, 250, 3).tolist()
        shape((left, top, left + width, top + height), fill=(red, green, blue))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3))))


def light_scene(
    rng: np.random.Generator,
    wall: np.ndarray,
    height: np.ndarray,
    coverage: np.ndarray,
    sleeve: np.ndarray,
) -> np.ndarray:
    """Light the relief and lay it with its shadow over the wall: (H, W, 3) in 0..255."""
    down, right = np.gradient(_soften(height, 1.5))
    light = np.array([rng.normal(0, 0.45), rng.normal(-0.35, 0.35), 1.0])  # right, down, to the eye
    light /= np.linalg.norm(light)
    facing = (light[2] - light[0] * right - light[1] * down) / np.sqrt(right**2 + down**2 + 1)
    ambient = rng.uniform(0.25, 0.5)
    shade = ambient + (1 - ambient) * np.clip(facing, 0, None)  # Lambert's cosine law
    # Little light reaches what lies lower than its surroundings, such as the gaps between fingers.
    hollow = np.clip(_soften(height, 8) - height, 0, None) * coverage
    shade = shade * np.clip(1 - 0.06 * hollow, 0.45, 1)

    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    skin = [np.interp(tone, np.arange(len(SKIN_TONES)), channel) for channel in SKIN_TONES.T]
    skin = np.array(skin) + rng.normal(0, 6, 3) + 6 * _texture(rng, 12)[..., None]
    hand = np.where(sleeve[..., None], rng.uniform(20, 235, 3), skin) * shade[..., None]

    right_by, down_by = (light[:2] * -rng.uniform(6, 22)).astype(int).tolist()
    shadow = np.roll(np.pad(coverage, 24, mode="edge"), (down_by, right_by), axis=(0, 1))
    shadow = _soften(shadow[24:-24, 24:-24], rng.uniform(3, 10))
    behind = wall * (1 - rng.uniform(0.2, 0.6) * shadow[..., None])
    scene = behind + (hand - behind) * coverage[..., None]
    return scene * (1 - rng.uniform(0, 0.35) * _ramp(rng)[..., None])


def take_picture(rng: np.random.Generator, scene: np.ndarray) -> Image.Image:
    """What a small camera makes of the scene: exposure, colour cast, noise, slight blur."""
    small = scene.reshape(SIZE, SCALE, SIZE, SCALE, 3).mean(axis=(1, 3))
    small = small * rng.uniform(0.85, 1.15) * rng.normal(1, 0.03, 3)
    small = small + rng.normal(0, rng.uniform(0, 3), small.shape)
    image = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.5)))


def _ramp(rng: np.random.Generator) -> np.ndarray:
    """From 0 on one side to 1 on the other, in a random direction: (H, W)."""
    across, down = _direction(rng.uniform(0, 360))
    line = np.linspace(-1, 1, LARGE)
    slope = across * line[None, :] + down * line[:, None]
    return (slope - slope.min()) / np.ptp(slope)


def _texture(rng: np.random.Generator, grain: int) -> np.ndarray:
    """Smooth noise of about unit size with `grain` spots along a side: (H, W)."""
    noise = Image.fromarray(rng.normal(size=(grain, grain)).astype(np.float32))
    return np.asarray(noise.resize((LARGE, LARGE), Image.Resampling.BICUBIC))


def _soften(values: np.ndarray, pixels: float) -> np.ndarray:
    """Blur (H, W) by about so many pixels: shrunk, then enlarged again."""
    side = round(LARGE / pixels)
    small = Image.fromarray(values.astype(np.float32)).resize((side, side))
    return np.asarray(small.resize((LARGE, LARGE), Image.Resampling.BICUBIC))
