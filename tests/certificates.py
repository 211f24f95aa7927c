"""Certificates of an authority of our own, good and bad, as PEM files."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificates:
    """An authority of our own and what it has signed, by name; `self-signed` signed itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        now = datetime.now(UTC)
        valid = (now - timedelta(days=1), now + timedelta(days=1))
        expired = (now - timedelta(days=3), now - timedelta(days=1))
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = _name("Switchhook test authority")
        ca = self._certificate(self._ca_name, self._ca_key, valid, is_ca=True)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self._write("good", valid)
        self._write("expired", expired)
        self._write("wrong-name", valid, address="127.0.0.2")
        self._write("self-signed", valid, is_self_signed=True)

    def context(self, name: str) -> ssl.SSLContext:
        """A server's context with the certificate of this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.pem")
        return context

    def _write(
        self,
        name: str,
        validity: tuple[datetime, datetime],
        *,
        address: str = "127.0.0.1",
        is_self_signed: bool = False,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(_name(name), key, validity, address=address, is_self_signed=is_self_signed)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self._folder / f"{name}.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        validity: tuple[datetime, datetime],
        *,
        address: str = "127.0.0.1",
        is_ca: bool = False,
        is_self_signed: bool = False,
    ) -> x509.Certificate:
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if is_self_signed else self._ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(validity[0])
            .not_valid_after(validity[1])
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(addresses, critical=False)
            .sign(key if is_self_signed else self._ca_key, hashes.SHA256())
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
