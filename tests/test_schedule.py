"""The learning rate by epoch: the paper's schedule, edge cases and invalid settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodfield.errors import ConfigError
from moodfield.training.configs import ScheduleConfig


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 1e-6),
        (1, 1.09e-5),
        (9, 9.01e-5),
        (10, 1e-4),
        (69, 1e-4),
        (70, 1e-4),
        (71, 9.8e-5),
        (119, 2e-6),
        (120, 1e-6),
        (199, 1e-6),
    ],
)
def test_defaults_are_the_schedule_of_the_paper(epoch, rate):
    assert ScheduleConfig().epochs == 200
    assert ScheduleConfig().learning_rate(epoch) == pytest.approx(rate, rel=1e-12)


def test_the_decay_never_goes_below_the_floor():
    config = ScheduleConfig(warm_up=0, constant=0, decay=200, final=3, peak=1e-4, floor=1e-6)
    rates = [config.learning_rate(epoch) for epoch in range(config.epochs)]
    assert rates[197] == pytest.approx(1.5e-6)
    assert rates[199:] == [1e-6] * 4, "the line would be at 5e-7"


@pytest.mark.parametrize(
    ("phases", "rates"),
    [
        ({"warm_up": 0}, [1.0, 1.0, 1.0, 0.5, 0.1]),
        ({"constant": 0}, [0.1, 0.55, 1.0, 0.5, 0.1]),
        ({"decay": 0}, [0.1, 0.55, 1.0, 1.0, 0.1]),
        ({"final": 0}, [0.1, 0.55, 1.0, 1.0, 1.0, 0.5]),
        ({"warm_up": 0, "constant": 0, "decay": 0}, [0.1]),
        ({"warm_up": 0, "decay": 0, "final": 0}, [1.0, 1.0]),
        ({"constant": 0, "decay": 0, "final": 0}, [0.1, 0.55]),
    ],
)
def test_a_phase_without_epochs_is_left_out(phases, rates):
    recipe = {"warm_up": 2, "constant": 2, "decay": 2, "final": 1, "peak": 1.0, "floor": 0.1}
    config = ScheduleConfig(**(recipe | phases))
    computed = [config.learning_rate(epoch) for epoch in range(config.epochs)]
    assert computed[: len(rates)] == pytest.approx(rates)


@given(phases=st.tuples(*[st.integers(0, 9)] * 4).filter(any), floor=st.floats(1e-9, 1.0), ratio=st.floats(1.0, 1e6))
def test_every_rate_lies_between_floor_and_peak_rises_once_and_falls_once(phases, floor, ratio):
    config = ScheduleConfig(*phases, peak=floor * ratio, floor=floor)
    rates = [config.learning_rate(epoch) for epoch in range(config.epochs)]
    assert len(rates) == sum(phases)
    assert all(config.floor <= rate <= config.peak for rate in rates)
    peak_epoch = rates.index(max(rates))
    assert rates[: peak_epoch + 1] == sorted(rates[: peak_epoch + 1])
    assert rates[peak_epoch:] == sorted(rates[peak_epoch:], reverse=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_up": -1}, "0 or more"),
        ({"final": -1}, "0 or more"),
        ({"warm_up": 0, "constant": 0, "decay": 0, "final": 0}, "epochs in total"),
        ({"floor": 0.0}, "above 0"),
        ({"floor": 1e-3}, "at most peak"),
        ({"peak": float("nan")}, "floor"),
        ({"floor": float("nan")}, "floor"),
        ({"peak": float("inf")}, "finite"),
    ],
)
def test_invalid_settings_raise(settings, message):
    with pytest.raises(ConfigError, match=message):
        ScheduleConfig(**settings)
