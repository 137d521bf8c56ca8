"""The links of a fleet in one direction: traces, shares of the server, and starts, all at once."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmpi.config.emulation_schema import EmulationConfig, NetworkConfig
from fedmpi.config.schema import ClientsConfig, Config
from fedmpi.emulation.devices import assign
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.links import Links
from fedmpi.emulation.shared_link import SharedLink
from fedmpi.emulation.stepwise import StepwiseRate
from fedmpi.emulation.tcp import Transport
from fedmpi.emulation.timeline import round_timeline

TRACES = (
    StepwiseRate([0.0, 1.0, 2.5], [1e5, 0.0, 4e5], 4.0),
    StepwiseRate([0.0, 0.5], [2e5, 3e4], 3.0),
    StepwiseRate([0.0, 0.7, 1.1, 9.0], [5e4, 9e5, 1e5, 2e5], 10.0),
)


def links(server=inf, transport=Transport(), clients=9):  # noqa: B008 (frozen)
    of = np.arange(clients) % 3
    means = np.array([trace.mean_bytes_per_s for trace in TRACES])[of]
    return Links(means, server, transport, TRACES, of, np.linspace(0.0, 3.0, clients))


@pytest.fixture(params=[50, 1], ids=["few", "many"])
def many(request, monkeypatch):
    """From how many messages on they are solved at once where they can be."""
    monkeypatch.setattr("fedmpi.emulation.links._MANY", request.param)


LOOSELY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("transport", [Transport(), Transport(tcp=True), Transport(tcp=True, new=True)])
@pytest.mark.parametrize("server", [2e5, 1e6, 1e9, inf])
@settings(LOOSELY, max_examples=40)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), moment=st.floats(0.0, 1e4))
def test_the_order_of_messages_does_not_matter_to_the_last_bit(transport, server, data, seed, moment):
    rng = np.random.default_rng(seed)
    n = data.draw(st.integers(1, 9))
    clients = rng.choice(9, n, replace=False)
    start, size = rng.choice([0.0, 1.0, 2.3], n), rng.choice([0.0, 1e3, 2e5, 1e6], n)
    latency = np.where(size == 0.0, 0.0, rng.choice([0.0, 0.05], n))
    one = links(server, transport)
    ends = one.finish_times(moment, clients, start, latency, size)
    order = rng.permutation(n)
    permuted = one.finish_times(moment, clients[order], start[order], latency[order], size[order])
    np.testing.assert_array_equal(permuted, ends[order])
    assert (ends[size > 0.0] > start[size > 0.0]).all()
    np.testing.assert_array_equal(ends[size == 0.0], start[size == 0.0])
    alone = links(inf, transport).finish_times(moment, clients, start, latency, size)
    assert (ends >= alone - 1e-9 * (1 + alone)).all()
    if server == 1e9:  # never binds, and is solved as if it were not there
        np.testing.assert_array_equal(ends, alone)


def test_a_wide_link_and_none_are_the_same_to_the_engine():
    """What is solved at once where the server's link cannot bind is what the engine gives."""
    clients, size = np.arange(9), np.full(9, 7e5)
    peaks = sum(TRACES[client % 3].peak_bytes_per_s for client in clients)
    zeros = np.zeros(9)
    alone = links(peaks).finish_times(12.5, clients, zeros, zeros, size)
    shared = links(np.nextafter(peaks, 0.0)).finish_times(12.5, clients, zeros, zeros, size)
    np.testing.assert_allclose(shared, alone, rtol=1e-12)


@pytest.mark.usefixtures("many")
@settings(LOOSELY, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), server=st.sampled_from([8e5, 1.2e6, 2e6]), moment=st.floats(0.0, 1e3))
def test_what_never_fills_the_servers_link_is_what_the_engine_gives(seed, server, moment):
    """Peaks together are 3.9 MB/s: whether they meet is found out first."""
    rng = np.random.default_rng(seed)
    start, size = rng.choice([0.0, 1.0, 2.3, 7.0], 9), rng.choice([0.0, 2e4, 3e5, 1e6], 9)
    one, clients, zeros = links(server), np.arange(9), np.zeros(9)
    ends = one.finish_times(moment, clients, start, zeros, size)
    engine = SharedLink(server)
    moving = [i for i in range(9) if size[i] > 0.0]
    for i in moving:
        engine.add(start[i], size[i], one.pieces(i, start[i], moment_s=moment))
    for end, number in engine.advance():
        assert ends[moving[number]] == pytest.approx(end, rel=1e-9)


def test_durations_depend_on_when_a_message_starts_and_repeat_with_the_loop():
    one, client = links(clients=1), np.array([0])
    arguments = (client, np.zeros(1), np.full(1, 0.5), np.full(1, 1e5))
    assert one.finish_times(0.0, *arguments)[0] == pytest.approx(2.5 + 5e4 / 4e5)
    assert one.finish_times(2.0, *arguments)[0] == pytest.approx(0.5 + 1e5 / 4e5)
    assert one.finish_times(4002.0, *arguments)[0] == pytest.approx(0.5 + 1e5 / 4e5)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("server", [inf, 1500.0, 1000.0])
@settings(LOOSELY, max_examples=30)
@given(
    whole=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    rounds=st.integers(0, 10**5),
    period=st.floats(1.0, 3.0),
)
def test_who_is_done_when_a_stall_begins_waits_for_no_other_however_late_it_is(server, whole, rounds, period):
    """All begin within a stall, of which nobody needs to know the moment, and need whole loops of 500 bytes each."""
    trace = StepwiseRate([0.0, 0.5], [1000.0, 0.0], period)
    clients, zeros = np.arange(len(whole)), np.zeros(len(whole))
    own = np.zeros(len(whole), np.int64)
    one = Links(zeros + trace.mean_bytes_per_s, server, traces=(trace,), trace_of=own, shift_s=zeros)
    moment = rounds * period + 0.75
    size = 500.0 * np.array(whole)
    if server == inf:
        ends = np.array(whole) * period - 0.25
        found = one.finish_times(moment, clients, zeros, zeros, size)
        np.testing.assert_allclose(found, ends, atol=1e-8)
    stop = zeros + (3 * sum(whole) + 4) * period
    found, moved = one.until(moment, clients, zeros, zeros, size, stop)
    np.testing.assert_array_equal(moved, size)
    phase = np.mod(found + 0.75, period)
    assert ((phase > 1e-6) & (phase <= 0.5 + 1e-6)).all()  # while something moves, and not when it begins to
    np.testing.assert_allclose(found, one.finish_times(moment, clients, zeros, zeros, size), atol=1e-7)


def test_the_servers_link_never_binds_where_all_rates_together_are_no_more():
    wide, narrow = (Links(np.array([3.0, 5.0, 9.0]), server) for server in (8.0, 7.9))
    assert wide.never_binds(np.array([0, 1]))
    assert not narrow.never_binds(np.array([0, 1]))
    assert not wide.never_binds(np.array([0, 2]))
    assert Links(np.array([inf]), inf).never_binds(np.array([0]))


def test_impossible_messages_are_refused():
    with pytest.raises(EmulationError, match="transfer_bytes: -1"):
        links().finish_times(0.0, np.array([0]), np.zeros(1), np.zeros(1), np.array([-1.0]))


def network(tmp_path, **keys):
    for name, text in (("b", "0 8\n1 8\n2 16\n"), ("a", "500\n1000\n")):
        (tmp_path / name).write_text(text)
    emulation = EmulationConfig(network=NetworkConfig(uplink_trace=str(tmp_path), **keys))
    return Config(clients=ClientsConfig(count=5), emulation=emulation)


def test_files_go_round_robin_to_clients(tmp_path):
    fleet = assign(network(tmp_path), 0)
    assert [path.name for path in fleet.uplink.files] == ["a", "b"]
    np.testing.assert_array_equal(fleet.uplink.trace_of, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(fleet.uplink.shift_s, np.zeros(5))
    np.testing.assert_allclose(fleet.uplink.bytes_per_s[:2], [3000.0, 4e6 / 3])
    assert not fleet.downlink.vary
    assert (fleet.downlink.bytes_per_s == inf).all()


def test_files_that_no_client_gets_are_not_read(tmp_path):
    config = network(tmp_path)
    (tmp_path / "c").write_text("no trace\n")
    fleet = assign(replace(config, clients=ClientsConfig(count=2)), 0)
    assert [path.name for path in fleet.uplink.files] == ["a", "b", "c"]
    np.testing.assert_array_equal(fleet.uplink.trace_of, [0, 1])
    with pytest.raises(EmulationError, match="c, line 1"):
        assign(config, 0)


def test_a_random_start_is_drawn_for_each_client(tmp_path):
    config = network(tmp_path, trace_start="random")
    fleet = assign(config, 3)
    shares = fleet.uplink.shift_s / [1.0, 3.0, 1.0, 3.0, 1.0]
    assert len(set(shares.tolist())) == 5
    assert 0.0 <= shares.min() < shares.max() < 1.0
    fewer = assign(replace(config, clients=ClientsConfig(count=3)), 3)
    np.testing.assert_array_equal(fewer.uplink.shift_s, fleet.uplink.shift_s[:3])
    assert (assign(config, 4).uplink.shift_s != fleet.uplink.shift_s).all()


def test_the_digest_is_that_of_what_files_hold_not_of_where_they_are(tmp_path):
    first, second = tmp_path / "x", tmp_path / "y"
    first.mkdir()
    second.mkdir()
    digests = [assign(network(folder), 0).digest() for folder in (first, second)]
    assert digests[0] == digests[1]
    assert assign(network(first, trace_bin_s=0.1), 0).digest() != digests[0]
    assert assign(network(first, transport="tcp"), 0).digest() != digests[0]
    (first / "b").write_text("0 8\n1 8.5\n2 16\n")
    changed = replace(
        network(second), emulation=EmulationConfig(network=NetworkConfig(uplink_trace=str(first)))
    )
    assert assign(changed, 0).digest() != digests[0]


def test_a_trace_takes_the_place_of_the_rate_of_a_csv_file(tmp_path):
    path = tmp_path / "devices.csv"
    path.write_text(
        "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,constant_s,seconds_per_parameter\n"
        + "x,0.8,1.6,0.2,1,0\n" * 5
    )
    (tmp_path / "traces").mkdir()
    config = network(tmp_path / "traces")
    compute = replace(config.emulation.compute, profile=str(path))
    fleet = assign(replace(config, emulation=replace(config.emulation, compute=compute)), 0)
    assert fleet.uplink.vary
    np.testing.assert_array_equal(fleet.downlink.bytes_per_s, np.full(5, 2e5))
    np.testing.assert_array_equal(fleet.latency_s, np.full(5, 0.2))


def test_rounds_on_links_that_vary(tmp_path):
    """Client 1 has 1 MB/s for two seconds and 2 MB/s for one; the round starts half a second before the step."""
    timeline = round_timeline(1.5, assign(network(tmp_path), 0), np.array([1]), 10.0, 0.25, 1_000_000.0)
    np.testing.assert_allclose(timeline.upload_s, [0.25 + 750_000 / 2e6])
    again = round_timeline(301.5, assign(network(tmp_path), 0), np.array([1]), 10.0, 0.25, 1_000_000.0)
    np.testing.assert_allclose(again.upload_s, timeline.upload_s, rtol=1e-9)
    assert again.end_s == pytest.approx(301.5 + 0.25 + 0.25 + 0.375)
