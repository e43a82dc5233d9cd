"""Fixtures of the tests of both ends of the wire."""

from __future__ import annotations

import pytest

from tls_gateways import CA, DEVICES_CA, Files


@pytest.fixture
def files_always_looked_at(monkeypatch):
    """A file that was replaced is read again at its next use, not a second later."""
    monkeypatch.setattr("isthmus.core.watched.LOOK_S", 0.0)


@pytest.fixture
def tls_files(tmp_path):
    """The gateway's certificate and key."""
    files = Files(tmp_path)
    files.put(CA.issue_cert("127.0.0.1"))
    return files


@pytest.fixture
def mutual(tls_files):
    """The same with the roots of devices: who calls has to show a certificate."""
    tls_files.client_ca.write_bytes(DEVICES_CA.cert_pem.bytes())
    return tls_files
