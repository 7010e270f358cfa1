from typing import Any

import pytest

from gangen.train import Alternate, Callback
from gangen.train.callback import EVENTS
from tests.train.toys import Game, toy_trainer


def test_a_misspelt_event_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Spelt\.on_step_ends is no event.*on_step_end"):

        class Spelt(Callback):
            def on_step_ends(self, trainer: Any) -> None: ...


def test_events_come_in_the_documented_order() -> None:
    heard: list[str] = []
    methods = {
        event: lambda self, trainer, *_, event=event: heard.append(event) for event in EVENTS if event != "on_log"
    }
    listener = type("Listener", (Callback,), methods)()
    toy_trainer(None, listener).fit(Game(Alternate(critic=1, generator=1), steps=(2, 1, 2)).phases)
    step = ["on_before_update", "on_step_end"]
    expected = [
        "on_fit_start",
        *(["on_phase_start", *step * 2, "on_phase_end"]),
        *(["on_phase_start", *step, "on_phase_end"]),
        *(["on_phase_start", *step * 2, "on_phase_end"]),
        "on_fit_end",
    ]
    assert heard == expected


def test_callbacks_are_called_in_list_order() -> None:
    heard: list[int] = []

    class Listener(Callback):
        def __init__(self, number: int) -> None:
            self.number = number

        def on_step_end(self, trainer: Any) -> None:
            heard.append(self.number)

    toy_trainer(None, Listener(1), Listener(2)).fit(Game(steps=(2, 0, 0)).phases)
    assert heard == [1, 2, 1, 2]
