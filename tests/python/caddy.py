"""A real Caddy before a port of a node that speaks TLS."""

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from conftest import eventually, free_address, running
from nginx import listens


@contextmanager
def caddy(node, tls):
    """The address of a Caddy before the node at this address; `tls` is what it is told of TLS to the node."""
    assert shutil.which("caddy"), "Caddy is not installed"
    address = free_address()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "Caddyfile")
        settings.write_text(configuration(address, node, tls))
        # What it keeps goes into the folder.
        home = [f"{name}={folder}" for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")]
        with running("env", *home, "caddy", "run", "--config", settings, "--adapter", "caddyfile") as process:
            eventually("Caddy listens", lambda: listens(address, process))
            yield address


def configuration(address, node, tls):
    # It asks nobody for certificates, and installs no CA of its own.
    return f"""
        {{
            admin off
            auto_https off
            skip_install_trust
            log {{
                level ERROR
            }}
            servers {{
                protocols h1 h2 h2c
            }}
        }}
        http://{address} {{
            reverse_proxy https://{node} {{
                transport http {{
                    {tls}
                }}
            }}
        }}
    """
