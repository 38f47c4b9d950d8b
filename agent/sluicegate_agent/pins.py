"""What outlives the agent: its pins, the identity of the namespace they belong to, and who may touch them.

One directory in the BPF file system per state directory. Links in it forward packets while no agent runs; the next
agent takes them up, unless they belong to another network namespace or to a machine before its reboot.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sluicegate_agent.kernel import bpffs, namespaces
from sluicegate_agent.kernel.filters import is_mark
from sluicegate_agent.kernel.tc import detach_pinned
from sluicegate_agent.loader.manifest import Manifest, check_format

RUN_DIRECTORY = Path("/run/sluicegate")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = logging.getLogger(__name__)


class PinsError(Exception):
    """The pins cannot be used or removed; the message says why and what to do."""


class AgentRunningError(PinsError):
    """Another agent holds the namespace or the state directory."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which network namespace of which boot. Cookies are never given out twice in one boot, names and inodes are."""

    boot: str
    namespace: int

    @classmethod
    def current(cls) -> Identity:
        """Of the calling thread."""
        try:
            cookie = namespaces.cookie()
        except OSError as error:
            raise PinsError(
                f"this kernel ({platform.release()}) does not tell network namespaces apart; "
                "Linux 5.14 or newer is needed"
            ) from error
        return cls(_boot(), cookie)

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """From a file; None when there is none that makes sense."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(raw["boot"]), int(raw["namespace"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Pins:
    """The pins of one state directory."""

    def __init__(self, state_dir: Path, *, run_dir: Path = RUN_DIRECTORY) -> None:
        self.state_dir = state_dir.resolve()
        self.run_dir = run_dir
        digest = hashlib.sha256(bytes(self.state_dir)).hexdigest()[:16]
        self.root = bpffs.ROOT / "sluicegate" / digest
        self.maps = self.root / "maps"
        self.programs = self.root / "programs"
        self.links = self.root / "links"
        self.manifest_path = self.state_dir / "manifest.json"
        self._identity_path = self.state_dir / "identity.json"
        self._state_lock = self.state_dir / "lock"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only agent of this network namespace and of this state directory.

        Raises AgentRunningError, which names the other's process id. The lock ends with the process, however it ends.
        """
        namespace = self.run_dir / f"namespace-{Identity.current().namespace}.lock"
        with _exclusive(namespace, "this network namespace"), self._exclusive_state():
            yield

    def prepare(self) -> None:
        """Mount the BPF file system if missing, make the directories, drop what belongs to another namespace or boot.

        Call it under :meth:`lock`. Raises KernelError, PinsError, and LoaderError for pins of a newer version.
        """
        if bpffs.mount_if_missing():
            _log.info("mounted the BPF file system on %s", bpffs.ROOT)
        identity = Identity.current()
        known = Identity.read(self._identity_path)
        if known == identity:
            check_format(self.manifest_path)
        else:
            if self._discard():
                _log.warning(
                    "discarded the pins in %s: they belong to %s",
                    self.root,
                    "an unknown network namespace" if known is None else "another network namespace or boot",
                )
            self.manifest_path.unlink(missing_ok=True)
        try:
            for directory in (self.state_dir, self.maps, self.programs, self.links):
                directory.mkdir(parents=True, exist_ok=True)
            self._write_identity(identity)
        except OSError as error:
            raise PinsError(f"cannot write {error.filename}: {error.strerror}; run as root") from error

    def prune(self, manifest: Manifest) -> None:
        """Unpin maps and program sets that are not of this manifest; call it when all links run its programs."""
        wanted = manifest.pins()
        for path in self.maps.iterdir():
            if path not in wanted:
                _log.info("unpinning the unused map %s", path.name)
                path.unlink()
        for directory in self.programs.iterdir():
            if not any(path.is_relative_to(directory) for path in wanted):
                bpffs.remove_tree(directory)

    def teardown(self) -> bool:
        """Detach and remove everything of this state directory; False when there was nothing.

        Needs neither the namespace nor the interfaces to exist. Raises AgentRunningError while an agent runs.
        """
        if not self.state_dir.is_dir():
            return self._discard()
        with self._exclusive_state():
            found = self._discard()
            for path in (self.manifest_path, self._identity_path):
                with suppress(FileNotFoundError):
                    path.unlink()
                    found = True
        with suppress(OSError):  # others may keep files there
            self.state_dir.rmdir()
        return found

    @contextmanager
    def _exclusive_state(self) -> Iterator[None]:
        with _exclusive(self._state_lock, f"the state directory {self.state_dir}"):
            yield

    def _discard(self) -> bool:
        """Detach and unpin all; False when there was nothing."""
        if not self.root.exists():
            return False
        if self.links.is_dir():
            self._remove_filters()
            for path in sorted(self.links.iterdir(), reverse=True):  # "-xdp" before "-tc": it may lean on tc
                detach_pinned(path)
        bpffs.remove_tree(self.root)
        with suppress(OSError):  # not empty: other state directories have pins
            self.root.parent.rmdir()
        return True

    def _remove_filters(self) -> None:
        """Remove the filters that marks stand for; unlike links, only from inside their network namespace."""
        marks = [path for path in self.links.iterdir() if is_mark(path)]
        known = Identity.read(self._identity_path)
        if not marks or known is None or known.boot != _boot():
            return
        with namespaces.inside(known.namespace) as there:
            for mark in marks if there else ():
                detach_pinned(mark)
        if not there:
            _log.info("the network namespace of the filters in %s is gone, and they with it", self.links)

    def _write_identity(self, identity: Identity) -> None:
        temporary = self._identity_path.with_name("identity.json.new")
        temporary.write_text(json.dumps(asdict(identity)), encoding="utf-8")
        temporary.replace(self._identity_path)


def _boot() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()


@contextmanager
def _exclusive(path: Path, what: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(path, what)
    except OSError as error:
        raise PinsError(f"cannot lock {path}: {error.strerror}; run as root") from error
    with ExitStack() as stack:
        stack.callback(os.close, descriptor)
        stack.callback(path.unlink, missing_ok=True)  # while locked: see _open_locked
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield


def _open_locked(path: Path, what: str) -> int:
    """A descriptor that holds the lock of the file *now* at ``path``: a teardown may just have removed another one."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise AgentRunningError(
                f"an agent already runs for {what} (process {holder}); stop it first, one agent at a time"
            ) from None
        os.close(descriptor)
