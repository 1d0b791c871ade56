import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.engine.storage.lock import LOCK_FILE_NAME, DirectoryLock, read_noted_generation
from headrace.model.errors import DirectoryInUse, StorageFailed

HOLDING_PROGRAM = """
import sys
from pathlib import Path
from headrace.engine.storage.lock import DirectoryLock

lock = DirectoryLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

FORKING_PROGRAM = """
import os, sys
from pathlib import Path
from headrace.engine.storage.lock import DirectoryLock

lock = DirectoryLock.acquire(Path(sys.argv[1]))
if os.fork() == 0:
    print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(
    directory: Path, program_text: str = HOLDING_PROGRAM
) -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, "-c", program_text, str(directory)]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path) as holder:
        with pytest.raises(DirectoryInUse, match=f"in use by process {holder.pid}") as raised:
            DirectoryLock.acquire(tmp_path)
        assert raised.value.holder_pid == holder.pid
        assert raised.value.path == str(tmp_path)


@pytest.mark.parametrize("error_number", [errno.EROFS, errno.EACCES])
def test_a_lock_file_that_cannot_be_written_will_do_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_number: int
) -> None:
    DirectoryLock.acquire(tmp_path).release()
    real_open = os.open

    def open_read_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise OSError(error_number, os.strerror(error_number))
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", open_read_only)
    with pytest.raises(StorageFailed):
        DirectoryLock.acquire(tmp_path)
    lock = DirectoryLock.acquire(tmp_path, may_be_read_only=True)
    with pytest.raises(DirectoryInUse):
        DirectoryLock.acquire(tmp_path, may_be_read_only=True)
    lock.release()


def test_a_killed_holder_leaves_no_stale_lock(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        lock = DirectoryLock.acquire(tmp_path)
        assert (tmp_path / LOCK_FILE_NAME).read_text() == f"{os.getpid()}\n"
        lock.release()


def test_a_note_outlives_its_owner_and_does_not_hide_the_pid(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    assert lock.noted_generation == read_noted_generation(tmp_path) == 0
    lock.note(1_000)
    assert read_noted_generation(tmp_path) == 1_000
    with pytest.raises(DirectoryInUse) as raised:
        DirectoryLock.acquire(tmp_path)
    assert raised.value.holder_pid == os.getpid()
    lock.release()
    assert (tmp_path / LOCK_FILE_NAME).read_text().startswith("\n1000 ")
    lock = DirectoryLock.acquire(tmp_path)
    assert lock.noted_generation == 1_000
    lock.note(1_001)
    lock.release()
    assert read_noted_generation(tmp_path) == 1_001


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    lock.note(42)
    lock.release()
    whole = (tmp_path / LOCK_FILE_NAME).read_bytes()
    for place in range(len(whole) - 1):
        (tmp_path / LOCK_FILE_NAME).write_bytes(whole[:place] + b"7" + whole[place + 1 :])
        assert read_noted_generation(tmp_path) in (0, 42)
        (tmp_path / LOCK_FILE_NAME).write_bytes(whole[:place])
        assert read_noted_generation(tmp_path) in (0, 42)


def test_a_second_opening_in_the_same_process_is_refused(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    with pytest.raises(DirectoryInUse) as raised:
        DirectoryLock.acquire(tmp_path)
    assert raised.value.holder_pid == os.getpid()
    lock.release()


def test_a_released_directory_can_be_owned_again(tmp_path: Path) -> None:
    first = DirectoryLock.acquire(tmp_path)
    first.release()
    first.release()
    assert not first.is_held
    second = DirectoryLock.acquire(tmp_path)
    assert second.is_held
    second.release()


def test_directories_are_owned_separately(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    locks = [DirectoryLock.acquire(tmp_path / name) for name in "ab"]
    for lock in locks:
        lock.release()


def test_a_forked_child_neither_holds_nor_releases_the_lock(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    child_pid = os.fork()
    if child_pid == 0:
        was_held = lock.is_held
        lock.release()
        os._exit(was_held)
    assert os.waitstatus_to_exitcode(os.waitpid(child_pid, 0)[1]) == 0
    with pytest.raises(DirectoryInUse):
        DirectoryLock.acquire(tmp_path)
    assert (tmp_path / LOCK_FILE_NAME).read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_forked_child_that_outlives_its_killed_parent_does_not_keep_the_lock(
    tmp_path: Path,
) -> None:
    with held_by_another_process(tmp_path, FORKING_PROGRAM) as parent:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        DirectoryLock.acquire(tmp_path).release()


def test_a_directory_released_right_after_a_fork_can_be_owned_again(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    child_pid = os.fork()
    if child_pid == 0:
        os._exit(0)
    lock.release()
    DirectoryLock.acquire(tmp_path).release()
    os.waitpid(child_pid, 0)


def test_a_started_program_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, close_fds=False) as process:
        lock.release()
        DirectoryLock.acquire(tmp_path).release()
        process.kill()


def test_a_holder_that_has_not_written_its_pid_is_still_a_holder(tmp_path: Path) -> None:
    lock = DirectoryLock.acquire(tmp_path)
    (tmp_path / LOCK_FILE_NAME).write_bytes(b"")
    with pytest.raises(DirectoryInUse, match="in use by another process") as raised:
        DirectoryLock.acquire(tmp_path)
    assert raised.value.holder_pid is None
    lock.release()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / LOCK_FILE_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed):
        DirectoryLock.acquire(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_directory_that_is_not_there_cannot_be_owned(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="No such file"):
        DirectoryLock.acquire(tmp_path / "missing")


def test_a_full_disk_keeps_nobody_from_owning_a_directory_and_giving_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, data: bytes, byte_offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("headrace.engine.storage.lock.os.pwrite", refuse)
    for _ in range(2):
        lock = DirectoryLock.acquire(tmp_path)
        with pytest.raises(DirectoryInUse):
            DirectoryLock.acquire(tmp_path)
        lock.release()
