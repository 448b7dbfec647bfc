"""Draws clips of a robot arm that pushes objects around a table, in color and seen from above.

Positions are (x, y) with -1 and 1 on the centers of the corner pixels, y downwards.
"""

import math

import numpy as np
from jaxtyping import Float

from vidcomp_jax.data.synthetic.drawing import draw_capsule, smooth_texture

JOINTS = ("shoulder", "elbow", "wrist", "tool", "object_0", "object_1")
"""Names of the positions that `draw` returns."""

_LINK = 0.95
_WRIST = 0.22
_TOOL_RADIUS = 0.07
_FRAMES_PER_MOVE = 7
_SUBSTEPS = 4
_REACH = 0.72
_PALETTE = np.array([[0.85, 0.15, 0.12], [0.15, 0.35, 0.85], [0.1, 0.6, 0.25], [0.95, 0.8, 0.1], [0.6, 0.15, 0.6]])


def draw(rng: np.random.Generator, length: int, size: int) -> tuple[
    Float[np.ndarray, "t h w 3"], Float[np.ndarray, "t k 2"]
]:  # fmt: skip
    """Draw one clip of the arm moving from object to object and pushing them.

    Returns:
        Frames in [0, 1], and the true positions of `JOINTS`.
    """
    radii = rng.uniform(0.13, 0.18, 2)
    tool, objects = _push(rng, length, radii)
    shoulder = np.array([rng.uniform(-0.15, 0.15), -1.1])
    joints = np.stack([*_inverse_kinematics(shoulder, tool), tool, objects[:, 0], objects[:, 1]], 1)
    frames = np.repeat(_table(rng, size)[None], length, 0)
    colors = _PALETTE[rng.permutation(len(_PALETTE))[:2]]
    for number in range(2):
        _draw_object(frames, objects[:, number], radii[number], colors[number], rng.uniform(0, np.pi))
    _draw_arm(rng, frames, joints)
    return frames, joints.astype(np.float32)


def _push(rng: np.random.Generator, length: int, radii):
    """Tool [t, 2] and objects [t, 2, 2]: the tool goes behind an object, then through it, and so on."""
    objects = [np.array([side * rng.uniform(0.25, 0.6), rng.uniform(-0.1, 0.6)]) for side in rng.permutation([-1, 1])]
    target, pushing = 0, True
    tool = _behind(rng, objects[0], radii[0])
    tools, places = [], []
    goal = start = tool
    for frame in range(length):
        for substep in range(_SUBSTEPS):
            moment = frame % _FRAMES_PER_MOVE * _SUBSTEPS + substep
            if moment == 0:
                start, goal = tool, _goal(rng, tool, objects[target], radii[target], pushing)
                if pushing:
                    target = 1 - target
                pushing = not pushing
            progress = (moment + 1) / (_FRAMES_PER_MOVE * _SUBSTEPS)
            tool = start + (goal - start) * (0.5 - 0.5 * math.cos(math.pi * progress))
            for number, place in enumerate(objects):
                objects[number] = _moved_away(place, tool, radii[number] + _TOOL_RADIUS)
            gap = sum(radii)
            objects[1 - target] = _moved_away(objects[1 - target], objects[target], gap)
        tools.append(tool)
        places.append(np.stack(objects))
    return np.stack(tools), np.stack(places)


def _behind(rng, place, radius):
    """A point beside `place` from which pushing moves it toward the middle of the table."""
    away = np.arctan2(*(place - [0.0, 0.15])[::-1]) + rng.uniform(-0.7, 0.7)
    point = place + (radius + _TOOL_RADIUS + 0.1) * np.array([np.cos(away), np.sin(away)])
    return np.clip(point, -_REACH, [_REACH, 0.8])


def _goal(rng, tool, place, radius, pushing):
    if not pushing:
        return _behind(rng, place, radius)
    direction = (place - tool) / (np.linalg.norm(place - tool) + 1e-6)
    return np.clip(tool + direction * rng.uniform(0.55, 0.85), -_REACH, _REACH)


def _moved_away(place, pusher, gap):
    """`place`, moved straight away from `pusher` until they are `gap` apart, and kept on the table."""
    offset = place - pusher
    distance = np.hypot(*offset)
    if distance >= gap:
        return place
    return np.clip(pusher + offset * (gap / max(distance, 1e-6)), -0.85, 0.85)


def _inverse_kinematics(shoulder, tool):
    """Shoulder, elbow and wrist [t, 2] of an arm of two equal links whose tool points down the picture."""
    wrist = tool - [0.0, _WRIST]
    reach = wrist - shoulder
    distance = np.linalg.norm(reach, axis=-1).clip(0.2, 1.98 * _LINK)
    toward, bend = np.arctan2(reach[:, 1], reach[:, 0]), np.arccos(distance / (2 * _LINK))
    elbows = [
        shoulder + _LINK * np.stack([np.cos(toward + side * bend), np.sin(toward + side * bend)], -1)
        for side in (-1, 1)
    ]
    elbow = min(elbows, key=lambda points: np.abs(points).max())  # the one that stays in the picture
    return np.broadcast_to(shoulder, wrist.shape), elbow, wrist


def _table(rng: np.random.Generator, size: int) -> Float[np.ndarray, "h w 3"]:
    """A wooden table with its grain."""
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    grain = np.sin(rng.uniform(10, 16) * grid[:, None] + 1.5 * smooth_texture(rng, size))
    light = 1 + 0.05 * grain + 0.08 * smooth_texture(rng, size) + rng.uniform(-0.08, 0.08) * grid[None, :]
    wood = np.array([0.72, 0.6, 0.45]) * rng.uniform(0.9, 1.1) + rng.uniform(-0.04, 0.04, 3)
    return np.clip(light[..., None] * wood, 0, 1).astype(np.float32)


def _draw_object(frames, place, radius, color, angle):
    """A round box with a lighter bar across, which shows that it does not turn."""
    bar = 0.45 * radius * np.array([np.cos(angle), np.sin(angle)])
    draw_capsule(frames, place, place, radius, color, shading=0.25)
    draw_capsule(frames, place - bar, place + bar, 0.28 * radius, 0.5 + 0.5 * color, shading=0.0)


def _draw_arm(rng, frames, joints):
    """Two links, joints, and a hand with two fingers that lies over the objects."""
    metal = np.full(3, rng.uniform(0.82, 0.95))
    dark = np.array([0.15, 0.15, 0.18])
    shoulder, elbow, wrist, tool = np.moveaxis(joints[:, :4], 1, 0)
    draw_capsule(frames, shoulder, elbow, 0.12, metal)
    draw_capsule(frames, elbow, wrist, 0.09, metal)
    draw_capsule(frames, elbow, elbow, 0.1, dark)
    draw_capsule(frames, wrist, wrist, 0.1, dark)
    for side in (-1, 1):
        knuckle = wrist + np.array([side * 0.07, 0.05])
        draw_capsule(frames, wrist, knuckle, 0.045, dark)
        draw_capsule(frames, knuckle, tool + np.array([side * 0.035, 0.0]), 0.035, dark)
