"""A real nginx before a node."""

import os
import shutil
import socket
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import eventually, free_address, running

# NODE stands for the address of the node.
PLAIN = "location / { proxy_pass http://NODE; }"
TEMPORARY = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")


@contextmanager
def nginx(node, locations=PLAIN, listen="", log="stderr"):
    """The address of an nginx before the node at this address; all that it is told beside its defaults is `locations`, and
    what follows `listen` and `error_log`."""
    address = free_address()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "nginx.conf")
        settings.write_text(configuration(f"{address} {listen}", locations.replace("NODE", node), log))
        with running(program(), "-p", folder, "-c", settings, "-e", "stderr") as process:
            eventually("nginx listens", lambda: listens(address, process))
            yield address


@pytest.fixture
def proxied(cluster):
    """Puts an nginx before the leader, until the test and the fixtures that it names after this one are done."""
    with ExitStack() as stack:
        yield lambda locations=PLAIN: stack.enter_context(nginx(cluster.leader.http, locations))


def program():
    # Debian has it where only root looks.
    path = shutil.which("nginx", path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    assert path, "nginx is not installed"
    return path


def configuration(listen, locations, log):
    paths = "\n".join(f"{part}_temp_path {part};" for part in TEMPORARY)
    # As root it would give its work to a user who may not enter the folder; for others `user` has no effect.
    return f"""
        daemon off;
        user root;
        pid nginx.pid;
        error_log {log};
        events {{}}
        http {{
            {paths}
            access_log off;
            server {{
                listen {listen};
                {locations}
            }}
        }}
    """


def listens(address, process):
    assert process.poll() is None, f"it ended with {process.returncode}; it says above why"
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
