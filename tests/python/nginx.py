"""A real nginx before a node."""

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from conftest import WAIT, eventually, free_address

# NODE stands for the address of the node.
PLAIN = "location / { proxy_pass http://NODE; }"
TEMPORARY = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")


@contextmanager
def nginx(node, locations=PLAIN):
    """The address of an nginx before the node at this address; all that it is told beside its defaults is `locations`."""
    address = free_address()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "nginx.conf")
        settings.write_text(configuration(address, locations.replace("NODE", node)))
        process = subprocess.Popen([program(), "-p", folder, "-c", settings, "-e", "stderr"])
        # However this process ends, the end of the pipe ends nginx.
        guard = subprocess.Popen(["sh", "-c", f"read nothing; kill {process.pid} 2>&-"], stdin=subprocess.PIPE)
        try:
            eventually("nginx listens", lambda: listens(address, process))
            yield address
        finally:
            guard.communicate(timeout=WAIT)
            process.wait(WAIT)


def program():
    # Debian has it where only root looks.
    path = shutil.which("nginx", path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    assert path, "nginx is not installed"
    return path


def configuration(address, locations):
    paths = "\n".join(f"{part}_temp_path {part};" for part in TEMPORARY)
    # As root it would give its work to a user who may not enter the folder; for others `user` has no effect.
    return f"""
        daemon off;
        user root;
        pid nginx.pid;
        events {{}}
        http {{
            {paths}
            access_log off;
            server {{
                listen {address};
                {locations}
            }}
        }}
    """


def listens(address, process):
    assert process.poll() is None, f"nginx ended with {process.returncode}; it says above why"
    host, port = address.rsplit(":", 1)
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
