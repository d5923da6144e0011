"""What `doctor` makes of the states that CUDA can be in, and its small net."""

from __future__ import annotations

import pytest

from atrouscaffe.net import Net
from atrouscaffe.pipeline import doctor, doctor_gpu
from atrouscaffe.runtime import cuda, nvrtc

DEVICE = ("NVIDIA H100",), ((9, 0),)


def probe(monkeypatch, state: str, *facts: object) -> None:
    monkeypatch.setattr(cuda, "probe", lambda: cuda.Probe(state, "device 'cuda': the reason; more of it", *facts))


def gpu_finding(name: str, device: str = "cuda") -> doctor.Finding:
    check = next(check for found, _, check in doctor_gpu.GPU_CHECKS if found == name)
    return doctor._guarded("GPU", name, True, lambda: check(device), "")


@pytest.mark.parametrize(("state", "facts", "expected", "remedy"), [
    ("not installed", (), "absent", "pip install 'atrouscaffe[cuda13]'"),
    ("cannot be loaded", (), "broken", "pip uninstall cupy-cuda13x"),
    ("no driver", ("14.2", 0, 13020), "absent", "install the driver"),
    ("old driver", ("14.2", 12040, 13020), "broken", "atrouscaffe[cuda12]"),
    ("no device", ("14.2", 13000, 13020), "absent", "nvidia-smi"),
    ("failing", ("14.2", 13000, 13020, *DEVICE), "broken", "nvidia-smi"),
    ("ready", ("14.2", 13000, 13020, *DEVICE), "ok", "")])
def test_states_of_cupy_are_told_apart(monkeypatch, state, facts, expected, remedy) -> None:
    probe(monkeypatch, state, *facts)
    monkeypatch.setattr(doctor_gpu, "cupy_packages", lambda: ["cupy-cuda13x"])
    monkeypatch.setattr(doctor_gpu, "driver_version", lambda: "")
    found = gpu_finding("CuPy")
    assert found.state == expected and remedy in found.remedy
    assert found.facts["state"] == state
    if state == "ready":
        assert "cuda:0 NVIDIA H100 (compute capability 9.0)" in found.text
    elif facts:
        assert state in found.text and "the reason" in found.text and "CUDA 13.2" in found.text


def test_two_packages_of_cupy_are_one_too_many(monkeypatch) -> None:
    probe(monkeypatch, "ready", "14.2", 13000, 13020, *DEVICE)
    monkeypatch.setattr(doctor_gpu, "cupy_packages", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    found = gpu_finding("CuPy")
    assert found.state == "broken" and found.remedy.startswith("pip uninstall cupy-cuda12x cupy-cuda13x, then")


def test_packages_of_cupy_are_found_by_name(monkeypatch) -> None:
    class Distribution:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    names = ["CuPy_cuda12x", "cupy-cuda13x", "cupy-xarray", "numpy", "cupy"]
    monkeypatch.setattr(doctor_gpu.importlib.metadata, "distributions", lambda: map(Distribution, names))
    assert doctor_gpu.cupy_packages() == ["cupy", "cupy-cuda12x", "cupy-cuda13x"]


@pytest.mark.parametrize(("text", "version", "extra"), [
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\nGCC version: gcc 12.3.0",
     "580.82.07", "cuda13"),
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\n", "535.183.01", "cuda12"),
    ("", "", "cuda13")])
def test_the_driver_says_which_cuda_fits(monkeypatch, tmp_path, text, version, extra) -> None:
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(doctor_gpu, "MODULE_VERSION", tmp_path / "version")
    assert (doctor_gpu.driver_version(), doctor_gpu.right_extra()) == (version, extra)
    assert gpu_finding("driver").state == ("ok" if version else "absent")


def test_kernels_compile_without_a_device() -> None:
    try:
        compiler = nvrtc.load_nvrtc()
    except nvrtc.DependencyError as error:
        pytest.skip(str(error))
    assert gpu_finding("NVRTC").state == "ok"
    with pytest.raises(nvrtc.DeviceError, match=r"wrong.cu does not compile for sm_90: .*error"):
        compiler.compile("int f( {", "wrong.cu", 90)


def test_a_compiler_that_does_not_know_the_device_is_too_old(monkeypatch) -> None:
    class Compiler:
        version, path, architectures = (12, 0), "libnvrtc.so", (50, 70, 90)

    monkeypatch.setattr(nvrtc, "load_nvrtc", Compiler)
    probe(monkeypatch, "ready", "14.2", 13000, 13020, ("new",), ((12, 0),))
    found = gpu_finding("NVRTC")
    assert found.state == "broken" and "sm_120" in found.text and "cuda13" in found.remedy


def test_a_missing_compiler_is_absent(monkeypatch) -> None:
    def missing() -> None:
        raise nvrtc.DependencyError("NVRTC cannot be loaded (no libnvrtc was found); more")

    load = nvrtc.load_nvrtc.__wrapped__
    monkeypatch.setattr(nvrtc, "load_nvrtc", missing)
    assert gpu_finding("NVRTC").state == "absent"
    monkeypatch.setattr(nvrtc, "_candidates", lambda: iter([("libnvrtc-of-nowhere.so", [])]))
    with pytest.raises(nvrtc.DependencyError, match=r"\(libnvrtc-of-nowhere.so: cannot open"):  # named once
        load()


def test_kernel_cache_that_cannot_be_written(monkeypatch, tmp_path) -> None:
    (tmp_path / "a.cubin").write_bytes(bytes(1000))
    monkeypatch.delenv("CUPY_CACHE_IN_MEMORY", raising=False)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    assert gpu_finding("kernel cache").facts["bytes"] == 1000
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file"))
    assert gpu_finding("kernel cache").state == "note"
    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    assert "memory alone" in gpu_finding("kernel cache").text


def test_small_net_that_computes_something_else_is_found_out() -> None:
    net = Net(doctor.SMALL_NET, seed=3)
    assert doctor.compare_small_net(net) == ""
    wrong = Net(doctor.SMALL_NET.replace("dilation: 2", "dilation: 1").replace("pad: 2", "pad: 1"), seed=3)
    assert "off by" in doctor.compare_small_net(wrong)


def test_health_asks_for_what_is_essential_alone() -> None:
    fine = doctor.Finding("a", "b", "note", "", "", True)
    assert doctor.healthy([fine, doctor.Finding("a", "c", "broken", "")])
    assert not doctor.healthy([fine, doctor.Finding("a", "c", "absent", "", "", True)])


def test_warnings_of_a_package_are_notes() -> None:
    import warnings

    def check() -> tuple[str, str]:
        warnings.warn("old", UserWarning, stacklevel=1)
        return "ok", "1.0"

    found = doctor._guarded("a", "b", True, check, "")
    assert (found.state, found.remedy) == ("note", "it warns: old")


@pytest.mark.parametrize("device", ["stand-in", "cuda"], indirect=True)
def test_a_device_that_works_is_found_to(device) -> None:
    found = gpu_finding("a net", device)
    assert found.state == "ok" and found.facts["device"] == "cuda:0" and found.facts["free_bytes"] > 0
    assert gpu_finding("CuPy", device).state == "ok"
    assert "99" in gpu_finding("a net", "cuda:99").text and gpu_finding("a net", "cuda:99").state == "broken"
