"""A certificate as C2PA wants it: made here, so that nobody else vouches for the name in it.

    root    CA, signs the certificate alone; its key is thrown away
    leaf    Ed25519, may sign and no more; valid for ten years

C2PA refuses certificates that sign themselves, hence the root.
"""

from __future__ import annotations

import datetime
from typing import Any

from morphogen.core.errors import MorphogenError
from morphogen.core.extras import extra

YEARS = 10
LONGEST_NAME = 64  # of a common name, by X.520
PURPOSE = (
    "1.3.6.1.5.5.7.3.4"  # "email protection": of those that C2PA takes, the library knows this
)


def issued(name: str) -> tuple[str, str]:
    """A private key, and its certificate with the root above it, as PEM."""
    if not name.strip() or len(name) > LONGEST_NAME:
        raise MorphogenError(
            "the name does not fit into a certificate",
            found=repr(name[:80]),
            expected=f"1 to {LONGEST_NAME} characters",
            hint='--name "Ann, at home"',
        )
    serialization = library("hazmat.primitives.serialization")
    ed25519 = library("hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey
    root_key, key = ed25519.generate(), ed25519.generate()
    root = _root(name, root_key)
    leaf = _leaf(name, key, root, root_key)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = leaf.public_bytes(pem) + root.public_bytes(pem)
    return private.decode(), chain.decode()


def _root(name: str, key: Any) -> Any:
    x509 = library("x509")
    subject = _named(f"{name[: LONGEST_NAME - 5]} root", name)
    use = _use(x509, key_cert_sign=True)
    return (
        _begun(subject, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(use, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )


def _leaf(name: str, key: Any, root: Any, root_key: Any) -> Any:
    x509 = library("x509")
    purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier(PURPOSE)])
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return (
        _begun(_named(name, name), root.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_use(x509, digital_signature=True), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(above, critical=False)
        .sign(root_key, None)
    )


def _begun(subject: Any, issuer: Any, key: Any) -> Any:
    x509 = library("x509")
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)  # clocks differ
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=365 * YEARS))
    )


def _named(name: str, organisation: str) -> Any:
    x509 = library("x509")
    oids = library("x509.oid").NameOID
    return x509.Name(
        [
            x509.NameAttribute(oids.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(oids.COMMON_NAME, name),
        ]
    )


def _use(x509: Any, **may: bool) -> Any:
    uses = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: may.get(use, False) for use in uses})


def library(module: str) -> Any:
    """A module of `cryptography`. Raises `MorphogenError` where it is not installed."""
    return extra(f"cryptography.{module}", "credentials", "signatures are made and checked")
