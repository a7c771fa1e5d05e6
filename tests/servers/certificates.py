"""Certificates generated at test time: the tests' own authority, and any bad certificate that a test needs."""

from __future__ import annotations

import ssl
import warnings
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Authority:
    """A certificate authority. `ca_file` is for clients to trust; `context` serves with one of its certificates."""

    def __init__(self, folder: Path, name: str = "tests' authority") -> None:
        self._folder = folder
        self._numbers = count()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = self._builder(self._name, self._key.public_key(), days=(-1, 30), issuer=self._name)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.ca_file = folder / f"ca-{id(self)}.pem"
        self.ca_file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def context(
        self,
        *hosts: str,
        days: tuple[int, int] = (-1, 30),
        self_signed: bool = False,
        version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """A server's context with a certificate for `hosts`, valid from `days[0]` to `days[1]` from now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate(*hosts, days=days, self_signed=self_signed))
        if version is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # old protocols are the point of the test
                context.set_ciphers("DEFAULT:@SECLEVEL=0")
                context.minimum_version = context.maximum_version = version
        return context

    def certificate(
        self,
        *hosts: str,
        days: tuple[int, int] = (-1, 30),
        self_signed: bool = False,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> Path:
        """A file with a certificate for `hosts` and its private key."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = _name(hosts[0]) if self_signed else self._name
        builder = self._builder(_name(hosts[0]), key.public_key(), days=days, issuer=issuer)
        builder = builder.add_extension(x509.SubjectAlternativeName(map(_alternative, hosts)), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        file = self._folder / f"certificate-{id(self)}-{next(self._numbers)}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: tuple[int, int], issuer: x509.Name
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
