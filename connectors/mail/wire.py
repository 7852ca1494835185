"""How a connection to one server is made and secured."""

from __future__ import annotations

import socket
import ssl
from functools import cached_property

from orchestrator_connectors.mail.deadline import Deadline
from orchestrator_connectors.mail.settings import ServerSettings


class Wire:
    """Connections to one server, within a deadline.

    Args:
        server: The server.
    """

    def __init__(self, server: ServerSettings) -> None:
        self.server = server

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What certificates we trust; read once, because that takes longer than sending a mail."""
        return ssl.create_default_context(cafile=self.server.ca_file)

    def connect(self, deadline: Deadline) -> socket.socket:
        """Connect, and with ``security = "tls"`` begin TLS.

        Raises:
            OSError: It did not work in time.
        """
        connection = deadline.connect(self.server.host, self.server.port)
        if self.server.security != "tls":
            return connection
        return self.tls.wrap_socket(connection, server_hostname=self.server.host)
