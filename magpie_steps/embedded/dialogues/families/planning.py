"""Trips, events, days: plans with parts that must be there."""

import re
from random import Random

from magpie_steps.embedded.dialogues.facts import (
    AFTERNOON_TASKS,
    CAPITALS,
    EVENING_TASKS,
    EVENT_STEPS,
    MORNING_TASKS,
    TRIP_ACTIVITIES,
)
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Number, Pool, Values
from magpie_steps.embedded.dialogues.judging import as_numbered_lines, lists_different, some_of


def _plan_trip(values: Values, rng: Random) -> str:
    activities = some_of(TRIP_ACTIVITIES, int(values["n"]), rng)
    return "\n".join(
        f"Day {day}: {activity} in {values['city']}"
        for day, activity in enumerate(activities, start=1)
    )


def _is_trip(values: Values, answer: str) -> bool:
    lines = answer.strip().split("\n")
    activities = []
    for day, line in enumerate(lines, start=1):
        match = re.fullmatch(rf"Day {day}: (.+) in {re.escape(values['city'])}", line)
        activities.append(match.group(1) if match else "")
    return len(lines) == int(values["n"]) == len(set(activities)) and set(activities) <= set(
        TRIP_ACTIVITIES
    )


def _plan_event(values: Values, rng: Random) -> str:
    return as_numbered_lines(some_of(EVENT_STEPS[values["event"]], int(values["n"]), rng))


def _is_event(values: Values, answer: str) -> bool:
    return lists_different(answer, int(values["n"]), EVENT_STEPS[values["event"]])


def _schedule(values: Values, _: Random) -> str:
    return f"Morning: {values['x']}\nAfternoon: {values['y']}\nEvening: {values['z']}"


def _is_schedule(values: Values, answer: str) -> bool:
    lines = answer.strip().split("\n")
    parts = [line.partition(": ") for line in lines]
    return [part[0] for part in parts] == ["Morning", "Afternoon", "Evening"] and sorted(
        part[2] for part in parts
    ) == sorted([values["x"], values["y"], values["z"]])


FAMILIES = (
    Family(
        name="trip",
        category="planning",
        phrasings=(
            "Plan a {n} day trip to {city}.",
            "I want to spend {n} days in {city}. Make a plan.",
            "Can you plan {n} days in {city} for me?",
        ),
        slots={"n": Number(2, 4), "city": Pool(tuple(CAPITALS.values()))},
        answer=_plan_trip,
        is_correct=_is_trip,
        follow_ups=(
            FollowUp("Make it {n} days instead."),
            FollowUp("Now plan {n} days in {city}."),
        ),
    ),
    Family(
        name="event",
        category="planning",
        phrasings=(
            "Help me plan a {event} in {n} steps.",
            "Plan a {event} in {n} steps.",
            "What are {n} steps to prepare a {event}?",
        ),
        slots={"n": Number(2, 4), "event": Pool(tuple(EVENT_STEPS))},
        answer=_plan_event,
        is_correct=_is_event,
        follow_ups=(FollowUp("Give me only {n} steps."), FollowUp("And for a {event}?")),
        holds_out=False,
    ),
    Family(
        name="schedule",
        category="planning",
        phrasings=(
            "Today I have to {x}, {y} and {z}. Make a schedule.",
            "Make a schedule for my day: {x}, {y} and {z}.",
            "Please schedule these tasks: {x}, {y} and {z}.",
        ),
        slots={
            "x": Pool(MORNING_TASKS),
            "y": Pool(AFTERNOON_TASKS),
            "z": Pool(EVENING_TASKS),
        },
        answer=_schedule,
        is_correct=_is_schedule,
        follow_ups=(FollowUp("In the evening I want to {z} instead."),),
    ),
)
