"""Device descriptions: presets, what replaces what, and one clear sentence for what is wrong."""

import subprocess
import sys

import pytest

from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import Device, DeviceSpec, device_presets
from picojoule.sim.errors import InputError
from picojoule.sim.specs import parse_spec


def test_every_preset_has_numbers_with_a_source():
    rows = {row["name"]: row for row in device_presets()}
    wanted = (
        "ideal crosssim-isaac neurosim-rram cimloop-isaac cimloop-neurosim wan-2022 milo-2021 mnsim-default pcm-aihwkit"
    )
    assert set(wanted.split()) <= set(rows)
    for name, row in rows.items():
        device = DeviceSpec(preset=name).resolved()
        assert {key: getattr(device, key) for key in row["values"]} == row["values"]
        assert row["source"] and row["basis"] in ("published", "derived", "estimate")


def test_published_values():
    assert DeviceSpec(preset="neurosim-rram").electrical(CrossbarSpec()).off_on_ratio == pytest.approx(1 / 17)
    assert DeviceSpec(preset="neurosim-rram").electrical(CrossbarSpec()).r_on_ohm == pytest.approx(6000)
    milo = DeviceSpec(preset="milo-2021").electrical(CrossbarSpec())
    assert (1e6 / milo.r_on_ohm, 1e6 / milo.r_off_ohm) == pytest.approx((225, 50))
    mnsim = DeviceSpec(preset="mnsim-default").resolved()
    assert (mnsim.programming_sigma, mnsim.stuck_on, mnsim.stuck_off) == (0.01, 0.001, 0.001)


def test_nothing_given_is_nothing_on():
    for device in (DeviceSpec(), DeviceSpec(preset="ideal"), DeviceSpec(preset="crosssim-isaac")):
        assert not device.has_errors
    assert DeviceSpec().resolved() == Device()
    assert DeviceSpec().electrical(CrossbarSpec(wire_ohm_per_cell=2.0)) == CrossbarSpec(wire_ohm_per_cell=2.0)


def test_given_keys_replace_those_of_the_preset():
    off = DeviceSpec(preset="milo-2021", programming_sigma=0.0).resolved()
    assert not off.has_programming_error and off.g_max_us == 225
    constant = DeviceSpec(preset="milo-2021", programming_sigma=0.03).resolved()
    assert constant.programming_sigma == 0.03 and constant.programming_polynomial_us == ()
    pcm = DeviceSpec(preset="pcm-aihwkit", time_s=3600.0).resolved()
    assert pcm.has_drift and pcm.has_read_noise
    still = DeviceSpec(preset="pcm-aihwkit", time_s=3600.0, drift_nu_mean=0.0, read_noise_sigma=0.0).resolved()
    assert not still.has_drift and not still.has_read_noise
    assert not DeviceSpec(preset="pcm-aihwkit").resolved().has_drift  # read at t0
    own = DeviceSpec(preset="milo-2021", programming_polynomial_us=(1.0, 2.0)).resolved()
    assert own.programming_argument == "share"


def test_device_decides_conductances_and_wires():
    crossbar = CrossbarSpec(r_on_ohm=1e4, r_off_ohm=1e5, wire_ohm_per_cell=2.0)
    assert DeviceSpec(g_max_us=50.0).electrical(crossbar) == crossbar.replace(r_on_ohm=2e4, r_off_ohm=2e5)
    infinite = DeviceSpec(on_off_ratio=0.0, wire_ohm_per_cell=0.0, wire_model="fast").electrical(crossbar)
    assert infinite == CrossbarSpec(r_on_ohm=1e4, wire_ohm_per_cell=0.0, wire_model="fast")


def test_a_crossbar_takes_a_device_as_a_mapping():
    spec = CrossbarSpec(device={"preset": "milo-2021", "stuck_off": 0.01})
    assert spec.device == DeviceSpec(preset="milo-2021", stuck_off=0.01)


def test_lists_from_yaml_are_tuples():
    data = {"programming_polynomial_us": [1.0, 2], "g_max_us": 40, "drift_nu_law": [0.1, 0.0, 0.0, 1.0]}
    device = parse_spec(DeviceSpec, data, "device.yaml")
    assert device.programming_polynomial_us == (1.0, 2.0) and device.drift_nu_law == (0.1, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"programing_sigma": 1.0}, "a device has no key 'programing_sigma'; did you mean 'programming_sigma'?"),
        ({"stuck_on": 2.0}, "stuck_on must be at most 1, got 2.0"),
        ({"time_s": -1.0}, "time_s must be at least 0, got -1.0"),
        ({"programming_sigma": "a"}, "programming_sigma must be a valid number, got 'a'"),
        ({"adc_inl_lsb": float("nan")}, "adc_inl_lsb must be a finite number, got nan"),
        ({"stuck_on": 0.6, "stuck_off": 0.6}, "stuck_on and stuck_off must together be at most 1, got 0.6 + 0.6"),
        ({"on_off_ratio": 0.5}, "on_off_ratio must be more than 1, or 0 for infinite, got 0.5"),
        (
            {"programming_polynomial_us": (1.0,)},
            "programming_polynomial_us is in uS and needs g_max_us; give it too",
        ),
        (
            {"read_noise_sigma": 0.1, "read_noise_law": (0.1, 0.5, 0.2)},
            "read_noise_sigma and read_noise_law describe the same effect; give one of them",
        ),
        (
            {"drift_nu_law": (0.1, 0.0, 0.2, 0.1)},
            "drift_nu_law must end with 0 <= least <= most, got 0.2, 0.1",
        ),
        ({"drift_nu_law": [0.1, 0.2]}, "drift_nu_law must hold 4 numbers, got [0.1, 0.2]"),
        ({"read_noise_law": (0.1,) * 4}, "read_noise_law must hold 3 numbers, got (0.1, 0.1, 0.1, 0.1)"),
        ({"wire_model": "quick"}, "wire_model must be 'exact' or 'fast', got 'quick'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(values, sentence):
    with pytest.raises(InputError) as error:
        DeviceSpec(**values)
    assert str(error.value) == sentence
    with pytest.raises(InputError) as error:
        parse_spec(DeviceSpec, values, "device.yaml")
    assert str(error.value) == f"device.yaml: {sentence}"


def test_unknown_preset_names_the_nearest():
    with pytest.raises(InputError, match="unknown device preset 'milo2021'; did you mean 'milo-2021'"):
        DeviceSpec(preset="milo2021")


def test_describing_a_device_needs_no_heavy_library():
    code = (
        "import sys; from picojoule.reram.devices import DeviceSpec, device_presets; import picojoule.reram.analog; "
        "device_presets(); print([m for m in ('torch', 'scipy.sparse', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
