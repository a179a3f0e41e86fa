"""What is said of a scene, and what is asked to be changed in one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .scenes import Dice, Scenes, join, with_person
from .words import CAMERAS, COLOUR_NAMES, PLACES, PROPS, SCENES, SHAPES, WEATHERS


def captions(scenes: Scenes, dice: Dice, *, complete: bool = False, this: Tensor | None = None) -> list[str]:
    """One caption a scene; each clause may be missing, unless they are to be ``complete``.

    Args:
        this: number [B] of the person whom a reference picture shows: called "this one".
    """
    said = []
    for row in range(len(scenes)):
        shown = -1 if this is None else int(this[row])
        said.append(_caption(scenes, row, dice, shown, 1.0 if complete else 0.9))
    return said


def _caption(scenes: Scenes, row: int, dice: Dice, shown: int, likely: float) -> str:
    count = int(scenes.count[row])
    people = []
    for person in range(count):
        words = [COLOUR_NAMES[int(scenes.colour[row, person])], SHAPES[int(scenes.shape[row, person])]]
        if words[1] == "round":
            words.append("one")
        if person == shown and not dice.chance(0.4):
            words = ["one"]
        if scenes.smile[row, person] > 0:
            words.insert(0, "smiling")
        article = "this" if person == shown else "an" if words[0] == "orange" else "a"
        people.append(f"{article} {' '.join(words)}")
    clauses = []
    who = " and ".join(people) if dice.chance(likely) or shown >= 0 else ""
    where = f"in the {SCENES[int(scenes.kind[row])]}" if dice.chance(likely) else ""
    clauses.append(f"{who} {where}".strip())
    for number, verb in enumerate(("speaks", "answers")):
        for person in range(count):
            if int(scenes.speaker[row, person]) == number and dice.chance(likely + 0.05):
                clauses.append(f"{_name(scenes, row, person, dice, shown)} {verb}")
    if dice.chance(likely):
        clauses.append(f"the camera {CAMERAS[int(scenes.camera[row])]}")
    if scenes.prop[row] > 0 and dice.chance(likely):
        clauses.append(f"a {PROPS[int(scenes.prop[row])]} passes")
    if scenes.weather[row] > 0 and dice.chance(likely):
        clauses.append(WEATHERS[int(scenes.weather[row])])
    return ", ".join(clause for clause in clauses if clause)


def _name(scenes: Scenes, row: int, person: int, dice: Dice, shown: int = -1) -> str:
    count = int(scenes.count[row])
    if person == shown:
        return "this one"
    if count > 1 and dice.chance(0.3):
        return f"the {PLACES[count][person]} one"
    return f"the {COLOUR_NAMES[int(scenes.colour[row, person])]} one"


def edits(scenes: Scenes, dice: Dice) -> tuple[Scenes, Scenes, list[str]]:
    """Scenes before and after an edit, and the instructions: paint, smile, weather, another place."""
    before, after, instructions = [], [], []
    for row in range(len(scenes)):
        one = scenes[row : row + 1]
        person = dice.integer(int(one.count), 1)
        name = _name(one, 0, int(person), dice)
        if int(one.speaker[0, person]) == 0 and dice.chance(0.5):
            name = "the speaker"
        edit = int(dice.integer(5, 1))
        if edit <= 1:
            free = [c for c in range(len(COLOUR_NAMES)) if c not in one.colour[0].tolist()]
            colour = free[int(dice.integer(len(free), 1))]
            pair = one, with_person(one, person, colour=torch.tensor([colour]))
            instruction = f"paint {name} {COLOUR_NAMES[colour]}"
        elif edit == 2:
            calm, happy = (with_person(one, person, smile=torch.tensor([value])) for value in (0.0, 1.0))
            pair = calm, happy
            instruction = f"make {name} smile"
        elif edit == 3:
            kind = int(dice.integer(2, 1)) + 1
            dry, wet = (replace(one, weather=torch.tensor([value])) for value in (0, kind))
            pair, verb = ((dry, wet), "add") if dice.chance(0.7) else ((wet, dry), "remove")
            instruction = f"{verb} {WEATHERS[kind]}"
        else:
            kind = int(one.kind[0] + 1 + dice.integer(len(SCENES) - 1, 1)) % len(SCENES)
            pair = one, replace(one, kind=torch.tensor([kind]))
            instruction = f"turn it into the {SCENES[kind]}"
        before.append(pair[0])
        after.append(pair[1])
        instructions.append(instruction)
    return join(before), join(after), instructions
