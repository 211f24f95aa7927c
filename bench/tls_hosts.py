"""Many https hosts in one process: every address of 127.1.0.0/16 has a certificate of its own.

Run as `python -m bench.tls_hosts PORT FOLDER CORE COUNT`; FOLDER gets `ca.pem` before the port is open. Each connection
is answered once and closed, so that the next one to its host is cold again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_FIRST: Final = ipaddress.IPv4Address("127.1.0.1")
_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (\d+)\r\n")
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def addresses(count: int) -> list[str]:
    """The hosts' addresses."""
    return [str(_FIRST + number) for number in range(count)]


def main() -> None:
    """Serve until SIGTERM."""
    port, folder, core, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    os.sched_setaffinity(0, {core})
    contexts = {address: _context(path) for address, path in _certify(folder, count).items()}
    asyncio.run(_serve(port, contexts))


async def _serve(port: int, contexts: dict[str, ssl.SSLContext]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, _ = writer.get_extra_info("sockname")
        try:
            await writer.start_tls(contexts[address])  # KeyError: somebody who only looks whether the port is open
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(_ANSWER)
            await writer.drain()
        except (KeyError, OSError, asyncio.IncompleteReadError):
            pass  # the client is gone, and counts it
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", port, backlog=2048, limit=1 << 20)
    await server.serve_forever()


def _certify(folder: Path, count: int) -> dict[str, Path]:
    """A certificate with its key for each address, in a file that its context can load."""
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Switchhook bench")])
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    def issue(name: x509.Name, of: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(authority, name, of.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        signed = builder.add_extension(extension, critical=False).sign(authority_key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    (folder / "ca.pem").write_bytes(issue(authority, authority_key, x509.BasicConstraints(ca=True, path_length=None)))
    paths = {}
    for address in addresses(count):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        paths[address] = folder / f"{address}.pem"
        paths[address].write_bytes(private + issue(subject, key, names))
    return paths


def _context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


if __name__ == "__main__":
    main()
