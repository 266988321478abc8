"""Who signed a card: detached OpenSSH signatures, made and checked by `ssh-keygen`.

    card.safetensors        the card; its bytes stay as they are
    card.safetensors.sig    what `ssh-keygen -Y sign -n pe-card` makes of them

No key is trusted by itself. Whoever asks for a signature says whose: by the fingerprint of a key,
by a file with a public key, or by a name in a list of allowed signers, which is OpenSSH's own
format with its own rules (several keys for one name, times, certificates). Why not a library:
docs/decisions.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_toolkit.errors import UsageError
from pe_toolkit.registry import objects
from pe_toolkit.registry.errors import SignatureError
from pe_toolkit.registry.home import home
from pe_toolkit.registry.references import expanded
from pe_toolkit.registry.signature_files import FINGERPRINT, sound
from pe_toolkit.shown import printable, shown

NAMESPACE = "pe-card"
"""What a signature is for, inside of it: one for another purpose does not pass for ours."""
_SECONDS, _PATIENCE = 60, 600
"""For a check, and for signing, where a person may have to type."""
_LONGEST_KEY = 16 << 10
"""Bytes of a public key: an RSA key of 16384 bits has 3 kB."""
_GOOD = re.compile(rf'Good "{NAMESPACE}" signature .*with (\S+) key (SHA256:\S{{43}})', re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,254}", re.ASCII)
_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True)
class Signer:
    """The key that a signature was made with."""

    fingerprint: str
    """`SHA256:` and 43 characters, as `ssh-keygen -l` shows it."""
    kind: str
    """Such as `ED25519`."""

    def __str__(self) -> str:
        return f"{self.fingerprint} ({self.kind})"


@dataclass(frozen=True)
class Who:
    """Whose signature is wanted."""

    text: str
    """As it was asked for."""
    fingerprint: str | None = None
    """Of the one key; None for a name."""
    signers: Path | None = None
    """The list in which the name stands."""


class MissingToolError(SignatureError):
    """There is no ssh-keygen."""


def default_signers() -> Path:
    """The user's own list of allowed signers."""
    return home() / "allowed_signers"


def default_key() -> Path:
    """The key to sign with: PE_SIGNING_KEY, else the first of OpenSSH's default names.

    Raises:
        UsageError: if there is none.
    """
    if text := os.environ.get("PE_SIGNING_KEY"):
        return expanded(text)
    try:
        folder = Path.home() / ".ssh"
    except RuntimeError as error:
        raise UsageError(
            "Expected a home folder with a key to sign with, but this machine names none.",
            "Name the key: --key FILE, or PE_SIGNING_KEY.",
        ) from error
    for name in _KEYS:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"Expected a key to sign with, but there is none of {', '.join(_KEYS)} in {folder}.",
        "Name one: --key FILE, or PE_SIGNING_KEY. Make one: ssh-keygen -t ed25519",
    )


def who(text: str, signers: Path | None = None) -> Who:
    """Whose signature `text` asks for.

    Args:
        text: `SHA256:...`, the path of a public key (`zoe.pub`, `./zoe`), or a name.
        signers: the list of allowed signers for a name. Default: `default_signers()`.

    Raises:
        UsageError: if it is none of them, or the file cannot be read.
    """
    if FINGERPRINT.fullmatch(text):
        return Who(text, fingerprint=text)
    if text.endswith(".pub") or "/" in text or "\\" in text:
        return Who(text, fingerprint=_fingerprint(expanded(text)))
    if _NAME.fullmatch(text) is None:
        raise UsageError(
            f"Expected a fingerprint, a public key or a name, got {shown(text)}.",
            "Write SHA256:... (ssh-keygen -l -f zoe.pub shows it), zoe.pub or zoe@example.org.",
        )
    file = signers or default_signers()
    if not file.is_file():
        raise UsageError(
            f"Expected the name {text} in a list of allowed signers, but there is no file "
            f"{printable(str(file))}.",
            f'Make it: echo "{text} $(cat zoe.pub)" >> FILE, and name it: --signers FILE. '
            "Or say whose key it is: SHA256:... or zoe.pub.",
        )
    return Who(text, signers=file)


def _fingerprint(path: Path) -> str:
    """Of the public key in a file, as OpenSSH computes it: SHA-256 of its bytes, in base64."""
    where = printable(str(path))
    try:
        if objects.no_file(path):
            raise UsageError(f"Expected a public key in {where}, but it is no file.")
        with open(path, "rb") as stream:
            words = stream.read(_LONGEST_KEY).split()
        data = base64.b64decode(words[1], validate=True)
        # The bytes repeat the kind of the key: what is not so is something else.
        if data[4 : 4 + len(words[0])] != words[0]:
            raise ValueError
    except (OSError, ValueError, IndexError, binascii.Error) as error:
        why = getattr(error, "strerror", None) or "it holds something else"
        raise UsageError(
            f"Expected a public key in {where}, but: {why}.",
            "It is the file that ends in .pub, such as ~/.ssh/id_ed25519.pub.",
        ) from error
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
    return f"SHA256:{digest.rstrip('=')}"


def sign(card: Path, key: Path) -> bytes:
    """A signature of a card's bytes.

    Args:
        key: a private key, or the public half of one that the agent holds. A passphrase is asked
            for on the terminal.

    Raises:
        SignatureError: if it cannot be made.
    """
    if not key.is_file():  # ssh-keygen would speak of a public key
        raise UsageError(
            f"Expected a key to sign with at {printable(str(key))}, but there is none.",
            "Name another: --key FILE. Make one: ssh-keygen -t ed25519",
        )
    # An absolute path: it may begin with a dash.
    done = _run(["-Y", "sign", "-f", str(key.absolute()), "-n", NAMESPACE], card, _PATIENCE)
    if done.returncode or sound(done.stdout) is None:
        raise SignatureError(
            f"Expected to sign with {printable(str(key))}, but: {_said(done)}.",
            "Where nobody can type a passphrase, load the key into the agent first: ssh-add "
            f"{printable(str(key))}",
        )
    return done.stdout


def signer(card: Path, signature: bytes) -> Signer:
    """Whose key made a signature of exactly these bytes; not whether to trust it.

    Raises:
        SignatureError: if it is no sound signature of them.
    """
    return _checked(["-Y", "check-novalidate", "-n", NAMESPACE], card, signature)


def check(card: Path, signatures: Iterable[bytes], wanted: Who) -> Signer:
    """One of the signatures is sound, and of whom it is wanted.

    Raises:
        SignatureError: if none is.
    """
    found: list[str] = []
    for signature in signatures:
        try:
            made = signer(card, signature)
            if wanted.signers is not None:
                return _checked(
                    ["-Y", "verify", "-f", str(wanted.signers.absolute()), "-I", wanted.text,
                     "-n", NAMESPACE], card, signature,
                )  # fmt: skip
            if made.fingerprint == wanted.fingerprint:
                return made
            found.append(made.fingerprint)
        except MissingToolError:
            raise
        except SignatureError as error:
            found.append(error.message)
    got = "; ".join(dict.fromkeys(found)) or "none"
    raise SignatureError(
        f"Expected a signature by {printable(wanted.text)}, got {got}.",
        "Ask whoever made the card to sign it: pe push CARD OWNER/NAME --sign",
    )


def _checked(words: Sequence[str], card: Path, signature: bytes) -> Signer:
    with tempfile.TemporaryDirectory(prefix="pe-") as folder:
        file = Path(folder) / "signature"
        file.write_bytes(signature)
        done = _run([*words, "-s", str(file)], card, _SECONDS)
    match = _GOOD.match(done.stdout.decode("utf-8", "replace"))
    if done.returncode or match is None:
        raise SignatureError(
            f"Expected a sound signature of this card, but: {_said(done)}.",
            "The card or its signature was changed, or it belongs to another card.",
        )
    return Signer(match[2], match[1])


def _run(words: Sequence[str], card: Path, seconds: float) -> subprocess.CompletedProcess[bytes]:
    tool = shutil.which("ssh-keygen")
    if tool is None:
        raise MissingToolError(
            "Expected ssh-keygen to make and check signatures, but it is not in PATH.",
            "Install OpenSSH, 8.1 or newer: apt install openssh-client; Windows and macOS have it.",
        )
    try:
        with open(card, "rb") as stream:
            return subprocess.run(
                [tool, *words], stdin=stream, capture_output=True, timeout=seconds, check=False,
                env=os.environ | {"LC_ALL": "C"},
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SignatureError(
            f"Expected ssh-keygen to read {printable(str(card))}, but: "
            f"{printable(getattr(error, 'strerror', None) or str(error))}."
        ) from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    """Why ssh-keygen refuses, in its words."""
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    lines = [line for line in lines if line and not line.startswith("Signing ")]
    said = printable("; ".join(lines))[:300].rstrip(".")
    return said or f"ssh-keygen ended with {done.returncode}"
