"""Ed25519 signatures by a key that lies outside the workspace, where the agent's own doings do not reach.

The key is a file in PEM (PKCS 8, no passphrase); its public half lies beside it as ``.pub``, for whoever verifies.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from instar.fsm.errors import ConfigError, SignatureInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410)."""
_PUBLIC_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")


class SigningKey:
    """A private key in memory. ``public`` is the public half as 64 hexadecimal digits."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """Signs, the same message always with the same signature (RFC 8032); 128 hexadecimal digits."""
        return self._private.sign(message).hex()


def new_key(path: Path, *, workspace: Path) -> SigningKey:
    """Makes a key at ``path``, for its owner alone, and writes its public half beside it.

    Raises:
        ConfigError: the place lies in the workspace, is taken or cannot be written, or ``cryptography`` is not there.
    """
    _refuse_inside(path, workspace)
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    public_path = path.with_suffix(".pub")
    if public_path == path or public_path.exists():
        raise ConfigError(f"{public_path} is taken, and the public half of the key goes there. Give another --key.")
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = SigningKey(private)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        public_path.write_text(public_pem(key.public), encoding="ascii")
    except FileExistsError:
        raise ConfigError(
            f"there is a file at {path} already; a key is never overwritten. Give another --key."
        ) from None
    except OSError as error:
        raise ConfigError(f"the key cannot be written to {path}: {error.strerror}. Give another --key.") from error
    return key


def load_key(path: Path, *, workspace: Path) -> SigningKey:
    """Reads a key, if nobody but its owner can.

    Raises:
        ConfigError: there is none, it lies in the workspace, others can read it, or it is no Ed25519 key in PEM.
    """
    _refuse_inside(path, workspace)
    _require_library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _read_private(path)
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ConfigError(
            f"{path} is locked by a passphrase, which is not supported. Give a key without one."
        ) from error
    except Exception as error:  # the library has its own errors, which change from release to release
        raise ConfigError(f"{path} is no private key in PEM. Make one with `instar anchor --new-key`.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"{path} is no Ed25519 key. Make one with `instar anchor --new-key`.")
    return SigningKey(private)


def _read_private(path: Path) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            held = os.fstat(file.fileno())
            if not stat.S_ISREG(held.st_mode):
                raise ConfigError(f"the key {path} is no plain file. Give another --key.")
            if held.st_mode & 0o077:
                mode = stat.S_IMODE(held.st_mode)
                raise ConfigError(f"others can use the key {path} (mode {mode:04o}): run `chmod 600 {path}` first.")
            if held.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"the key {path} belongs to another user. Give one of your own.")
            return file.read(1 << 16)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no key at {path}. Make one: `instar anchor --new-key --key {path}`. Or go without: --unsigned."
        ) from None
    except OSError as error:
        raise ConfigError(f"the key {path} cannot be read: {error.strerror}") from error


def _refuse_inside(path: Path, workspace: Path) -> None:
    """Refuses a key that the agent could use or exchange: in its own folder, by this name or by what it links to."""
    root = workspace.resolve()
    for place in (Path(os.path.abspath(path)), path.parent.resolve() / path.name, path.resolve()):  # noqa: PTH100
        if place.is_relative_to(root) or place.is_relative_to(workspace.absolute()):
            raise ConfigError(
                f"the key {path} lies inside the workspace {root}, where the agent could sign with it. "
                "Keep it elsewhere, best on another account or machine, and name it with --key."
            )


def public_pem(public: str) -> str:
    """Writes a public key in PEM, as ``openssl pkey -pubin`` reads it."""
    body = base64.b64encode(_PUBLIC_PREFIX + bytes.fromhex(public)).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def public_key(given: str) -> str:
    """Reads a public key: 64 hexadecimal digits, or a file that holds them or a PEM.

    Raises:
        ConfigError: it is neither.
    """
    text = given
    if not re.fullmatch(r"[0-9a-fA-F]{64}", given.strip()):
        try:
            text = Path(given).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigError(f"the public key {given} cannot be read: give 64 hexadecimal digits or a file") from error
    if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):
        return text.strip().lower()
    if match := _PUBLIC_PEM.search(text):
        with suppress(ValueError):
            body = base64.b64decode("".join(match[1].split()), validate=True)
            if body.startswith(_PUBLIC_PREFIX) and len(body) == len(_PUBLIC_PREFIX) + 32:
                return body[-32:].hex()
    raise ConfigError(f"{given} holds no Ed25519 public key: it must be 64 hexadecimal digits or a PEM")


def check_signature(public: str, message: bytes, signature: str, what: str) -> None:
    """Verifies a signature.

    Raises:
        SignatureInvalid: it was not made by this key over this message.
        ConfigError: ``cryptography`` is not there.
    """
    _require_library()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalid(
            f"the signature of {what} was not made by the key {public[:16]}…, or the text was changed since. "
            "Trust neither until you know why."
        ) from error


def _require_library() -> None:
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "signatures need the package cryptography: `pip install 'instar[audit]'`, or go without: --unsigned"
        ) from error
