"""`hansa up --executors N`: control, executor and sidecar agree on N, and nobody's own file is overwritten."""

from __future__ import annotations

import pytest

from hansa.cli.executors import set_executors
from hansa.cli.federation import federation_specs
from hansa.cli.instance import Instance
from hansa.cli.processes import ProcessSpec
from hansa.cli.provisioning import provision
from hansa.contract.library import scenario_folder
from hansa.contract.scenario import read_scenario
from hansa.server.executor import _parse
from hansa.sidecar.scaler.services import ProcessSettings, read_services


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    folder = scenario_folder("consortium")
    scenario, features = read_scenario(folder)
    return provision(scenario, features, origin=folder, out=tmp_path_factory.mktemp("made") / "instance")


def specs(instance: Instance) -> dict[str, ProcessSpec]:
    return {it.name: it for it in federation_specs(instance)}


def test_without_it_one_executor_takes_what_comes_and_nothing_is_scaled(instance: Instance) -> None:
    found = specs(instance)
    assert "--scaler" not in found["sidecar"].argv
    assert "--capacity" not in found["executor"].argv
    assert found["control"].argv[-2:] == ("--parallel-jobs", "1")


def test_all_who_have_to_know_the_number_do(instance: Instance) -> None:
    set_executors(instance, 3)
    found = specs(instance)
    assert found["control"].argv[-2:] == ("--parallel-jobs", "3")
    assert found["executor"].argv[-2:] == ("--capacity", "1")
    assert found["sidecar"].argv[-2:] == ("--scaler", str(instance.scaler_services.resolve()))
    [service] = read_services(instance.scaler_services).services
    assert (service.limits.minimum, service.limits.maximum) == (1, 3)
    assert isinstance(service.actuator, ProcessSettings)
    assert service.actuator.fixed == 1
    # The sidecar starts what the supervisor would, to be ended by itself where nobody is left.
    own = found["executor"].argv
    assert service.actuator.command[: len(own)] == own
    options = _parse(service.actuator.command[service.actuator.command.index("--address") :])
    assert (options.capacity, options.give_up) == (1, 30.0)
    set_executors(instance, 4)
    assert read_services(instance.scaler_services).services[0].limits.maximum == 4


def test_back_to_one_nothing_is_scaled_any_more(instance: Instance) -> None:
    set_executors(instance, 3)
    set_executors(instance, 1)
    assert not instance.scaler_services.exists()
    assert "--scaler" not in specs(instance)["sidecar"].argv


def test_a_file_of_somebodys_own_stays(instance: Instance) -> None:
    instance.scaler_services.write_text("every_s = 60\n")
    for count in (3, 1):
        set_executors(instance, count)
        assert instance.scaler_services.read_text() == "every_s = 60\n"
    instance.scaler_services.unlink()
