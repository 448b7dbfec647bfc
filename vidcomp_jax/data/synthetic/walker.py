"""Draws gray clips of an articulated figure that performs actions like those of KTH.

Positions are (x, y) with -1 and 1 on the centers of the corner pixels, y downwards. Angles of limbs are measured
from hanging straight down; positive turns them the way the figure looks (side view) or outwards (front view).
"""

import numpy as np
from jaxtyping import Float

from vidcomp_jax.data.synthetic.drawing import draw_capsule, smooth_texture

JOINTS = (
    "head", "neck", "pelvis",
    "near_elbow", "near_hand", "near_knee", "near_foot",
    "far_elbow", "far_hand", "far_knee", "far_foot",
)  # fmt: skip
"""Names of the joints in the order of `draw`'s positions."""

ACTIONS = ("walking", "jogging", "running", "boxing", "waving", "clapping")

_GAITS = {  # frames per cycle at 25 per second; swing of thigh and arm, bend of knee and elbow, and lean in radians
    "walking": ((20, 26), 0.45, 0.45, 0.75, 0.30, 0.04),
    "jogging": ((15, 18), 0.55, 0.60, 1.15, 1.10, 0.12),
    "running": ((12, 14), 0.75, 0.80, 1.50, 1.45, 0.22),
}
_GROUND = 0.86


def draw(rng: np.random.Generator, length: int, size: int) -> tuple[
    Float[np.ndarray, "t h w 1"], Float[np.ndarray, "t k 2"]
]:  # fmt: skip
    """Draw one clip of a person who performs one action in front of a plain, static background.

    Returns:
        Frames in [0, 1], and the true positions of `JOINTS`.
    """
    height = rng.uniform(1.5, 1.66)
    action = str(rng.choice(ACTIONS))
    if action in _GAITS:
        joints, shoulders, hips = _gait(rng, action, length, height)
    else:
        joints, shoulders, hips = _in_place(rng, action, length, height)
    if rng.random() < 0.5:  # looks the other way
        joints, shoulders, hips = (points * [-1, 1] for points in (joints, shoulders, hips))
    frames = np.repeat(_background(rng, size)[None], length, 0)
    _draw_figure(rng, frames, joints, shoulders, hips, height)
    return frames, joints.astype(np.float32)


def left_first(joints: Float[np.ndarray, "*b k 2"]) -> Float[np.ndarray, "*b k 2"]:
    """`JOINTS` with both arms and both legs ordered by position, the one on the left of the picture first.

    The figure may face either way, so the picture does not show which of two limbs is nearer, only where they are.
    """
    near, far = ([i for i, name in enumerate(JOINTS) if name.startswith(side)] for side in ("near", "far"))
    ordered = np.stack([joints[..., near, :], joints[..., far, :]])
    ordered = np.take_along_axis(ordered, np.argsort(ordered[..., :1], axis=0, kind="stable"), axis=0)
    result = joints.copy()
    result[..., near, :], result[..., far, :] = ordered
    return result


def _gait(rng: np.random.Generator, action: str, length: int, height: float):
    """Side view of a person who crosses the picture to the right, as fast as the feet move."""
    cycle, thigh_swing, arm_swing, knee_bend, elbow_bend, lean = _GAITS[action]
    step = 2 * np.pi / rng.uniform(*cycle)
    strength = rng.uniform(0.85, 1.15)
    phase = rng.uniform(0, 2 * np.pi) + step * np.arange(length)
    sides = np.stack([phase, phase + np.pi])
    thighs = strength * thigh_swing * np.sin(sides)
    shins = thighs - knee_bend * (0.12 + 0.88 * np.maximum(np.cos(sides), 0))
    arms = -strength * arm_swing * np.sin(sides)
    forearms = arms + elbow_bend
    speed = 4 * 0.49 * height * np.sin(strength * thigh_swing) * step / (2 * np.pi)
    distance = min(speed * (length - 1), 0.75)
    middle = rng.uniform(-0.08, 0.08)
    x = middle + distance * np.linspace(-0.5, 0.5, length)
    return _skeleton(height, x, np.full(length, lean), arms, forearms, thighs, shins, spread=0.0)


def _in_place(rng: np.random.Generator, action: str, length: int, height: float):
    """A person who stands: boxing seen from the side, waving and clapping from the front."""
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi / rng.uniform(14, 22) * np.arange(length)
    strength = rng.uniform(0.9, 1.1)
    if action == "boxing":
        punch = np.stack([np.maximum(np.sin(phase), 0), np.maximum(-np.sin(phase), 0)]) * strength
        arms = 0.45 + 1.05 * punch
        forearms = arms + 1.75 * (1 - punch)
        stance, spread, lean = np.array([[0.28], [-0.28]]), 0.0, 0.08 + 0.06 * np.sin(2 * phase)
    elif action == "waving":
        arms = np.stack([1.55 + 0.95 * strength * np.sin(phase)] * 2)
        forearms = arms + 0.25 + 0.2 * np.sin(phase + 0.6)
        stance, spread, lean = np.array([[0.12], [0.12]]), 1.0, np.zeros(length)
    else:
        apart = strength * np.sin(phase)
        arms = np.stack([0.95 + 0.35 * apart] * 2)
        forearms = np.stack([np.pi + 0.3 - 0.75 * apart] * 2)
        stance, spread, lean = np.array([[0.1], [0.1]]), 1.0, np.zeros(length)
    sway = rng.uniform(-0.2, 0.2) + 0.02 * np.sin(phase / 2)
    legs = np.broadcast_to(stance, (2, length))
    return _skeleton(height, sway, lean, arms, forearms, legs, legs - 0.05 * (1 - spread), spread=spread)


def _skeleton(height, x, lean, arms, forearms, thighs, shins, *, spread: float):
    """Angles [2 sides, t] to joints [t, 11, 2], shoulders and hips [t, 2 sides, 2]; the lower foot is on the ground."""

    def limb(angle, length):
        return height * length * np.stack([sign * np.sin(angle), np.cos(angle)], -1)

    sign = np.array([[1.0], [-1.0 if spread else 1.0]])  # seen from the front, the far side is mirrored
    outwards = np.array([1.0, -1.0])[:, None, None] * [1.0, 0.0] * spread * height
    thigh, shin, arm, forearm = limb(thighs, 0.25), limb(shins, 0.24), limb(arms, 0.18), limb(forearms, 0.17)
    hip = 0.045 * outwards
    drop = (hip + thigh + shin)[..., 1].max(0)
    pelvis = np.stack([x, _GROUND - drop], -1)
    up = np.stack([np.sin(lean), -np.cos(lean)], -1)
    neck = pelvis + 0.31 * height * up
    head = neck + 0.12 * height * (up + np.array([0.12 * (1 - spread), 0]))
    hips, shoulders = pelvis + hip, neck + 0.085 * outwards + [0, 0.02 * height]
    elbows, knees = shoulders + arm, hips + thigh
    hands, feet = elbows + forearm, knees + shin
    sides = [part[side] for side in range(2) for part in (elbows, hands, knees, feet)]
    return np.stack([head, neck, pelvis, *sides], 1), np.moveaxis(shoulders, 0, 1), np.moveaxis(hips, 0, 1)


def _background(rng: np.random.Generator, size: int) -> Float[np.ndarray, "h w 1"]:
    """A wall and a floor in uneven light."""
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    wall = rng.uniform(0.42, 0.54) + rng.uniform(-0.05, 0.05) * grid[None, :] + rng.uniform(-0.04, 0.04) * grid[:, None]
    horizon = rng.uniform(0.55, 0.75)
    floor = rng.uniform(-0.1, 0.06) / (1 + np.exp(-(grid[:, None] - horizon) * 40))
    return (wall + floor + 0.03 * smooth_texture(rng, size))[..., None].astype(np.float32)


def _draw_figure(rng, frames, joints, shoulders, hips, height):
    """Far limbs first and in the shade, then the trunk, then near limbs.

    In frames of 64 pixels, arms are four to five pixels wide and legs five to six, as those of people of this height
    are in frames of KTH. No tone comes near that of the wall, so that every limb can be seen.
    """
    shirt = rng.uniform(0.7, 0.8) if rng.random() < 0.5 else rng.uniform(0.14, 0.28)
    trousers = rng.uniform(0.1, 0.24)
    skin = rng.uniform(0.9, 1.0)
    hair = rng.uniform(0.04, 0.2)
    at = dict(zip(JOINTS, np.moveaxis(joints, 1, 0), strict=True))

    def stroke(start, end, radius, tone):
        draw_capsule(frames, start, end, radius * height, np.array([tone]))

    def shaded(tone, far):
        return tone * (0.7 if tone < 0.5 else 0.88) if far else tone

    def arm(side, number, far):
        stroke(shoulders[:, number], at[f"{side}_elbow"], 0.046, shaded(shirt, far))
        stroke(at[f"{side}_elbow"], at[f"{side}_hand"], 0.041, shaded(skin, far))

    def leg(side, number, far):
        toe = at[f"{side}_foot"] + [0.05 * height * toes[number], 0.0]
        stroke(hips[:, number], at[f"{side}_knee"], 0.056, shaded(trousers, far))
        stroke(at[f"{side}_knee"], at[f"{side}_foot"], 0.046, shaded(trousers, far))
        stroke(at[f"{side}_foot"], toe, 0.03, shaded(hair, far))

    looks = np.sign((at["head"] - at["neck"])[:, 0].mean())
    front = np.ptp(shoulders[..., 0], 1).max() > 1e-6
    toes = np.sign(hips[0, :, 0] - at["pelvis"][0, 0]) if front else np.array([looks, looks])
    leg("far", 1, not front)
    arm("far", 1, not front)
    waist = at["pelvis"] + [0, -0.04 * height]
    stroke(at["pelvis"], waist, 0.07, trousers)
    stroke(at["neck"] + [0, 0.06 * height], waist, 0.075, shirt)
    stroke(at["neck"], at["head"], 0.03, skin)
    stroke(at["head"], at["head"], 0.07, skin)
    crown = at["head"] + [-0.03 * height * (0 if front else looks), -0.034 * height]
    stroke(crown, crown, 0.05, hair)
    leg("near", 0, False)
    arm("near", 0, False)
