"""Rates by address: against a model that remembers every use, in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.web.addresses import networks
from stream_server.web.crowd import Crowd
from stream_server.web.rates import Rate, Window

SECONDS = 60.0
LIMIT = 10


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Model:
    """All uses, and the same rule by adding them up."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.uses: list[tuple[float, str, int]] = []

    def used(self, key: str, now: float) -> float:
        slice_, passed = divmod(now - self.began, SECONDS)
        by_slice = {
            number: sum(
                cost
                for at, whose, cost in self.uses
                if whose == key and (at - self.began) // SECONDS == number
            )
            for number in (slice_ - 1, slice_)
        }
        return by_slice[slice_] + by_slice[slice_ - 1] * (1 - passed / SECONDS)


uses = st.lists(
    st.tuples(st.integers(0, 600), st.sampled_from("abc"), st.integers(1, LIMIT)), max_size=80
)


@given(uses)
def test_a_window_admits_what_the_model_admits_and_says_when_to_come_again(
    steps: list[tuple[int, str, int]],
) -> None:
    clock = Clock()
    window = Window(LIMIT, SECONDS, clock=clock)
    model = Model(clock.now)
    for tenths, key, cost in steps:
        clock.now += tenths / 10
        wait = window.wait(key, cost)
        fits = model.used(key, clock.now) + cost
        if wait:
            assert fits > LIMIT - 1e-6
            assert wait <= 2 * SECONDS
            assert model.used(key, clock.now + wait + 1e-6) + cost <= LIMIT + 1e-6
        else:
            assert fits <= LIMIT + 1e-6
            window.add(key, cost)
            model.uses.append((clock.now, key, cost))
        recent = [c for at, k, c in model.uses if k == key and at > clock.now - SECONDS]
        assert sum(recent) <= 2 * LIMIT


def test_a_window_forgets_whoever_has_not_come_for_two_slices() -> None:
    clock = Clock()
    window = Window(LIMIT, SECONDS, clock=clock)
    for number in range(1000):
        window.add(number, 1)
    assert len(window) == 1000
    clock.now += 2 * SECONDS
    window.add("one", 1)
    assert len(window) == 1


def test_a_window_has_a_bound_however_many_come() -> None:
    window = Window(LIMIT, SECONDS, max_keys=100, clock=Clock())
    for number in range(10_000):
        window.add(number, 1)
        assert len(window) <= 200
    window.add(9_999, LIMIT)
    assert window.wait(9_999, 1) > 0


def test_a_rate_of_several_windows_keeps_all_and_what_is_refused_uses_nothing() -> None:
    clock = Clock()
    rate = Rate("3/minute;5/hour", clock=clock)
    here, there = networks("203.0.113.7"), networks("203.0.113.8")
    assert rate.max_cost == 3
    assert [rate.take(here) is None for _ in range(4)] == [True, True, True, False]
    assert rate.take(there, 3) is None
    clock.now += 120
    assert rate.take(here, 2) is None
    refused = rate.take(here)
    assert refused is not None
    assert str(refused[0]) == "5 per 1 hour"
    assert refused[1] > 3000
    impossible = rate.take(there, 4)
    assert impossible is not None
    assert impossible[1] == float("inf")
    assert all(Rate("").take(here) is None for _ in range(100))


@pytest.mark.parametrize(
    ("hosts", "times"),
    [
        (["203.0.113.7"] * 4, 2),
        (["::ffff:203.0.113.7", "203.0.113.7", "203.0.113.7"], 2),
        ([f"2001:db8:0:0::{n:x}" for n in range(9)], 2),  # one /64
        ([f"2001:db8:0:{n:x}::1" for n in range(200)], 8),  # one /56
        ([f"2001:db8:0:{n:x}00::1" for n in range(200)], 32),  # one /48
        ([f"2001:db8:{n:x}::1" for n in range(40)], 40),  # apart
        (["", "", ""], 2),  # through a Unix socket
        (["fe80::1%eth0", "fe80::2%eth1", "fe80::3"], 2),
    ],
)
def test_who_has_a_network_to_himself_is_counted_once(hosts: list[str], times: int) -> None:
    rate, crowd = Rate("2/hour"), Crowd(2)
    assert sum(rate.take(networks(host)) is None for host in hosts) == times
    places = [crowd.enter(host) for host in hosts if not crowd.is_full(host)]
    assert len(places) == times
    for place in places:
        place.leave()
    assert len(crowd) == 0
    assert not any(map(crowd.is_full, hosts))


def test_a_crowd_without_a_limit_still_counts() -> None:
    crowd = Crowd(0)
    places = [crowd.enter("203.0.113.7") for _ in range(1000)]
    assert places[0].number == 1000
    assert not crowd.is_full("203.0.113.7")
