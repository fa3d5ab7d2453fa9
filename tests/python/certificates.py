"""A CA of the tests, made by scripts/certs.sh, and certificates of it."""

import functools
import ssl
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/certs.sh"


class Certificates:
    """A folder with `ca`, and certificates of it for `node` and `client`."""

    def __init__(self, folder):
        self.folder = folder
        self.issue("node", "client")

    def issue(self, *names):
        subprocess.run([SCRIPT, self.folder, *names], check=True)

    def path(self, name):
        return str(self.folder / f"{name}.pem")

    @property
    def ca(self):
        return self.path("ca")

    def pair(self, name):
        """The certificate and its key."""
        return self.path(name), self.path(f"{name}-key")

    def bytes(self, name):
        return Path(self.path(name)).read_bytes()

    def settings(self):
        """What a node is told."""
        certificate, key = self.pair("node")
        return {"tls-cert": certificate, "tls-key": key, "tls-ca": self.ca}

    @functools.cached_property
    def context(self):
        """For a client that believes the CA, and shows its own certificate if it is asked for one."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(*self.pair("client"))
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Another CA, in which nobody here believes."""
    return Certificates(tmp_path_factory.mktemp("elsewhere"))
