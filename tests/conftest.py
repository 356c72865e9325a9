"""What every test gets: no network, and a fake method on request."""

from __future__ import annotations

import socket
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that an entry point can name fake_method

DATA = Path(__file__).parents[2] / "shared" / "data"
_NETWORK = (socket.AF_INET, socket.AF_INET6)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuse every connection but those inside this machine, and fail the test that tried, even if it caught the refusal."""
    tried = []

    def guarded(name):
        original = getattr(socket.socket, name)

        def call(self, *args):
            address = args[-1]
            if self.family in _NETWORK and address[0] not in ("127.0.0.1", "::1", "localhost"):
                tried.append(address)
                raise PermissionError(f"a test tried to reach {address}")
            return original(self, *args)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(name))

    def lookup(host, *args, **keywords):
        if host not in (None, "", "localhost", "127.0.0.1", "::1", b"localhost"):
            tried.append(host)
            raise PermissionError(f"a test tried to look up {host}")
        return original_lookup(host, *args, **keywords)

    original_lookup = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield tried
    assert not tried, f"the network was used: {tried}"


@pytest.fixture
def fake_method(monkeypatch):
    """Register the fake method as a package from elsewhere would; return its name."""
    point = EntryPoint("fake", "fake_method", "napari_weakseg.methods")
    monkeypatch.setattr("napari_weakseg.methods.entry_points", lambda group: (point,))
    return "fake"


@pytest.fixture
def learning(monkeypatch):
    """Register the method that learns over a cohort in no time; what it has seen is forgotten."""
    import learning_method

    point = EntryPoint("learning", "learning_method", "napari_weakseg.methods")
    monkeypatch.setattr("napari_weakseg.methods.entry_points", lambda group: (point,))
    learning_method.seen.clear()
    return "learning"


@pytest.fixture
def blob():
    """A volume (20, 18, 12) of 1 x 1 x 2 mm with a bright ellipsoid, and the ellipsoid's mask."""
    from napari_weakseg.volume import Volume

    i, j, k = np.ogrid[:20, :18, :12]
    mask = (((i - 9) / 6) ** 2 + ((j - 8) / 5) ** 2 + ((k - 6) / 3.5) ** 2 <= 1).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 5, mask.shape)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    return Volume((100 + 80 * mask + noise).astype(np.float32), affine, "blob"), Volume(mask, affine, "blob_mask")


@pytest.fixture
def blob_points(blob):
    """The six extreme voxels of the blob."""
    from napari_weakseg.arrays.extreme_points import simulate_points
    from napari_weakseg.prompts import ExtremePoints

    volume, mask = blob
    return ExtremePoints.from_points(simulate_points(mask.array), volume)


@pytest.fixture
def real_data():
    """The folder of real volumes; skip where it is not there."""
    if not DATA.is_dir():
        pytest.skip(f"no real volumes: {DATA.parent.name}/{DATA.name} is absent")
    return DATA
