"""Stands in for NVIDIA's library on machines without a GPU: what it shows is in the variable FAKE_GPUS, as JSON.

A GPU is ``{"uuid", "name", "mib"}``, and may have ``used`` (MiB), ``busy`` (percent), ``slices`` (a list of such) or
``lost: true``. ``test_machine.py`` sees to it that the true library has the same functions with the same arguments.
"""

import json
import os
from types import SimpleNamespace

NVML_DEVICE_MIG_ENABLE = 1
NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


def nvmlInit():
    if "FAKE_GPUS" not in os.environ:
        raise NVMLError("Library Not Found")


def nvmlShutdown():
    pass


def _gpus():
    return json.loads(os.environ["FAKE_GPUS"])


def nvmlDeviceGetCount():
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(index):
    gpu = _gpus()[index]
    if gpu.get("lost"):
        raise NVMLError("GPU is lost")
    return gpu


def nvmlDeviceGetHandleByUUID(uuid):
    for gpu in _gpus():
        for each in (gpu, *gpu.get("slices", [])):
            if each["uuid"] == uuid:
                return each
    raise NVMLError("Not Found")


def nvmlDeviceGetName(handle):
    return handle.get("name", "NVIDIA Fake")


def nvmlDeviceGetUUID(handle):
    return handle["uuid"]


def nvmlDeviceGetMigMode(device):
    if "slices" not in device:
        raise NVMLError("Not Supported")
    return [NVML_DEVICE_MIG_ENABLE, NVML_DEVICE_MIG_ENABLE]


def nvmlDeviceGetMaxMigDeviceCount(device):
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(device, index):
    if index >= len(device["slices"]):
        raise NVMLError("Not Found")
    return device["slices"][index]


def nvmlDeviceGetMemoryInfo(handle, version=None):
    return SimpleNamespace(total=handle["mib"] * 2**20, used=handle.get("used", 0) * 2**20)


def nvmlDeviceGetUtilizationRates(handle):
    if "busy" not in handle:
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=handle["busy"], memory=0)


def nvmlDeviceGetTemperature(handle, sensor):
    return 41


def nvmlDeviceGetComputeRunningProcesses(handle):
    """Processes say what they hold in files of the folder FAKE_GPU_PROCESSES, named UUID.PID."""
    folder = os.environ.get("FAKE_GPU_PROCESSES")
    found = []
    for name in os.listdir(folder) if folder else ():
        uuid, _, pid = name.rpartition(".")
        if uuid == handle["uuid"]:
            with open(os.path.join(folder, name), encoding="ascii") as file:
                found.append(SimpleNamespace(pid=int(pid), usedGpuMemory=int(file.read()) * 2**20))
    return found
