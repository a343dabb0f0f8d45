"""Files: whole or not there, kept, one writer at a time; JSON and CSV."""

import csv
import errno
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from plumbing import files
from plumbing.messages import InputError
from tests.helpers import files_of_at_most

# --- whole or not there


def test_write_makes_folders_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a/b/file.txt"
    files.write(path, "text\n")
    files.write(path, b"bytes")
    assert path.read_bytes() == b"bytes" and list(path.parent.iterdir()) == [path]


def test_two_writers_do_not_share_a_temporary_file(tmp_path, monkeypatch):
    """Catches one process that renames, or misses, what another has written."""
    original = Path.write_bytes

    def interleave(self, content):
        original(self, content)
        monkeypatch.setattr(Path, "write_bytes", original)
        monkeypatch.setattr(files.os, "getpid", lambda: 2)
        files.write(tmp_path / "file", "the other's")
        assert (tmp_path / "file").read_text("utf-8") == "the other's"

    monkeypatch.setattr(files.os, "getpid", lambda: 1)
    monkeypatch.setattr(Path, "write_bytes", interleave)
    files.write(tmp_path / "file", "ours")
    assert (tmp_path / "file").read_text("utf-8") == "ours" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("stage", ["in the middle of writing", "before the renaming"])
def test_a_crash_leaves_the_old_file(tmp_path, monkeypatch, stage):
    """Catches a file written in place: what was there is whole until the new one is."""
    path, original = tmp_path / "file", Path.write_bytes
    files.write(path, "old content")

    def half(self, content):
        original(self, content[:len(content) // 2])
        raise OSError("power cut")

    def refuse(*_):
        raise OSError("power cut")

    if stage == "before the renaming":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError):
        files.write(path, "new content")
    monkeypatch.undo()
    assert path.read_text("utf-8") == "old content" and list(tmp_path.iterdir()) == [path]
    files.write(path, "new content")
    assert path.read_text("utf-8") == "new content" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path):
    """The system's own error, in the middle of the new content; no half file stays behind."""
    path = tmp_path / "file"
    files.write(path, b"old" * 1000)
    with files_of_at_most(10_000), pytest.raises(OSError):
        files.write(path, b"new" * 10_000)
    assert path.read_bytes() == b"old" * 1000 and list(tmp_path.iterdir()) == [path]


def test_what_is_written_beside_comes_whole(tmp_path):
    """Not before the end of the block, and not at all if that fails; in the same folder."""
    path = tmp_path / "a/file"
    with files.write_beside(path) as temporary:
        temporary.write_text("first", encoding="utf-8")
        assert temporary.parent == path.parent and not path.exists()
    with pytest.raises(ZeroDivisionError), files.write_beside(path) as temporary:
        temporary.write_text("second", encoding="utf-8")
        raise ZeroDivisionError
    assert path.read_text("utf-8") == "first" and list(path.parent.iterdir()) == [path]


# --- kept


def write_in_place(path: Path):
    path.write_text("another", encoding="utf-8")


def replace(path: Path):
    path.with_name("another").write_text("another", encoding="utf-8")
    os.replace(path.with_name("another"), path)


@pytest.mark.parametrize("change", [Path.unlink, replace, write_in_place])
def test_what_is_kept_stays(tmp_path, change):
    """Whatever becomes of the source. Catches a link: `cp` onto the source writes into it."""
    source, kept = tmp_path / "source", tmp_path / "run/kept"
    source.write_text("content", encoding="utf-8")
    files.keep_file(source, kept)
    change(source)
    assert kept.read_text("utf-8") == "content" and list(kept.parent.iterdir()) == [kept]
    files.keep_file(kept, kept)                                # a run that resumes
    assert kept.read_text("utf-8") == "content" and list(kept.parent.iterdir()) == [kept]


def test_what_a_link_leads_to_is_kept(tmp_path):
    """Not the link, whose target may go."""
    (tmp_path / "source").write_text("content", encoding="utf-8")
    (tmp_path / "link").symlink_to("source")
    files.keep_file(tmp_path / "link", tmp_path / "run/kept")
    (tmp_path / "source").unlink()
    assert (tmp_path / "run/kept").read_text("utf-8") == "content"


# --- may one write there?


def test_check_writable(tmp_path):
    """It tries, and takes back what it made; what was there stays, empty or not."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    for path in ("", "empty", "new", "new/er"):
        files.check_writable(tmp_path / path)
        assert sorted(tmp_path.rglob("*")) == before
    for path in ("file", "file/in/it", "new/\0", "dangling", "x" * 300, "new/" + "x" * 300):
        with pytest.raises(InputError, match="^cannot write to .*: ") as error:
            files.check_writable(tmp_path / path)
        assert "\n" not in str(error.value) and "\0" not in str(error.value)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["\0", "a\0b.pt", "x" * 300, "no/folder"])
def test_check_writable_of_a_name(tmp_path, name):
    """A folder may be fine, and yet there can be no such file in it."""
    files.check_writable(tmp_path, "name.pt")
    with pytest.raises(InputError, match="^cannot write to "):
        files.check_writable(tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["/proc/x", "/proc", "/dev/null"])
def test_where_not_even_root_may_write(folder):
    """Catches a check of permissions: the superuser has them all, and yet it cannot."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    with pytest.raises(InputError, match=f"cannot write to '{folder}': "):
        files.check_writable(Path(folder))


def test_a_folder_that_is_made_but_takes_no_file(tmp_path, monkeypatch):
    """It goes away again."""
    def refuse(dir, prefix):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        files.check_writable(tmp_path / "a/b")
    assert not list(tmp_path.iterdir())


# --- one writer at a time


def test_the_second_is_refused(tmp_path):
    """And leaves the first one's lock as it is: the third is refused too."""
    path = tmp_path / "run/.lock"
    with files.lock(path):
        for _ in range(2):
            message = f"^another process is at work in {path.parent}; wait for its end$"
            with pytest.raises(InputError, match=message), files.lock(path):
                raise AssertionError("two at once")
            assert path.exists()
        with files.lock(tmp_path / "other/.lock"):
            pass
    with files.lock(path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_a_lock_leaves_nothing(tmp_path, error):
    """Neither its file nor a folder that it made, unless something is in it; not so what was."""
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "a/b/c", "full"):
        try:
            with files.lock(tmp_path / folder / ".lock"):
                if folder == "full":
                    (tmp_path / "full/result").write_text("", encoding="utf-8")
                if error:
                    raise error
        except RuntimeError:
            assert error
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["empty", "full", "full/result"]


def test_a_killed_process_blocks_nothing(tmp_path):
    """Catches a lock that is the file and not the system's: after kill -9 it would be for ever."""
    path = tmp_path / "run/.lock"
    path.parent.mkdir()
    program = ("import sys, time\nfrom plumbing.system import lock_file\n"
               "file = open(sys.argv[1], 'w')\nlock_file(file)\nprint('held', flush=True)\n"
               "time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE,
                          cwd=Path(files.__file__).parents[1]) as holder:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(InputError), files.lock(path):
            pass
        holder.kill()
    assert path.exists()
    with files.lock(path):
        pass
    assert not list(path.parent.iterdir())


def test_a_disk_without_locks(tmp_path, monkeypatch):
    """Some network disks have none: no reason not to work there."""
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "lock_file", refuse)
    with files.lock(tmp_path / ".lock"):
        pass
    assert not list(tmp_path.iterdir())


# --- JSON and CSV


def test_json_has_no_nan():
    assert files.to_json({"a": [1, None]}) == '{\n "a": [\n  1,\n  null\n ]\n}\n'
    with pytest.raises(ValueError):
        files.to_json({"a": float("nan")})


def test_csv():
    rows = [{"step": 0, "reward": 0.5}, {"step": 1, "reward": 0.1 + 0.2}]
    text = files.to_csv(rows)
    assert text == "step,reward\n0,0.5\n1,0.30000000000000004\n"
    assert list(csv.DictReader(io.StringIO(text)))[1] == {"step": "1",
                                                          "reward": "0.30000000000000004"}


def test_a_lock_that_was_just_removed_is_none(tmp_path, monkeypatch):
    """Its holder removes the file between our opening and locking it: a third could lock another.

    Catches two writers who each hold a file of the same name.
    """
    path, original = tmp_path / ".lock", files.lock_file

    def lock_late(file):
        path.unlink()
        return original(file)
    monkeypatch.setattr(files, "lock_file", lock_late)
    with pytest.raises(InputError, match="another process"):
        with files.lock(path):
            pytest.fail("it goes on")
