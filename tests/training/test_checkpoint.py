"""Checkpoints: copied at once, written beside the training, whole or passed over."""

import logging
import subprocess
import sys
import threading
import time
import zipfile

import pytest
import torch

from medssl.errors import FolderError, InputError
from medssl.training import checkpoint
from medssl.training.checkpoint import BackgroundWriter, checkpoints, latest


def state(step, size=8):
    return {"global_step": step, "state_dict": {"w": torch.full((size,), float(step))}}


def path(folder, step):
    return folder / f"step-{step:08d}.ckpt"


def write(folder, *steps, keep=2):
    writer = BackgroundWriter(keep=keep)
    for step in steps:
        writer.save_checkpoint(state(step), path(folder, step))
    writer.wait()
    return writer


def test_the_last_ones_stay_and_the_newest_is_taken(tmp_path):
    write(tmp_path, 5, 10, 15, 20)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000015.ckpt", "step-00000020.ckpt"]
    assert latest(tmp_path) == (path(tmp_path, 20), 20)
    loaded = BackgroundWriter(keep=2).load_checkpoint(path(tmp_path, 20))
    assert torch.equal(loaded["state_dict"]["w"], torch.full((8,), 20.0))


def test_a_damaged_one_is_not_among_those_that_stay(tmp_path):
    write(tmp_path, 5, 10)
    path(tmp_path, 15).write_bytes(b"cut short")
    assert latest(tmp_path).steps == 10
    write(tmp_path, 12)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000010.ckpt", "step-00000012.ckpt"]


def test_no_thread_outlives_a_training(tmp_path):
    writer = write(tmp_path, 5)
    assert any(thread.name.startswith("checkpoint") for thread in threading.enumerate())
    (thread,) = writer._thread._threads
    writer.teardown()
    assert not thread.is_alive()


def test_without_any_a_training_begins_anew(tmp_path):
    assert latest(tmp_path / "nowhere") == (None, 0)


def test_the_training_goes_on_while_the_copy_is_written(tmp_path, monkeypatch):
    may_write = threading.Event()
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *args: (may_write.wait(20), save(*args)))
    writer, changing = BackgroundWriter(keep=2), state(1)
    writer.save_checkpoint(changing, path(tmp_path, 1))
    assert not checkpoints(tmp_path)  # it returned before anything was written
    changing["state_dict"]["w"].zero_()
    may_write.set()
    writer.wait()
    assert writer.load_checkpoint(path(tmp_path, 1))["state_dict"]["w"].sum() == 8


def test_what_the_thread_ran_into_is_raised_by_the_training(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    writer = BackgroundWriter(keep=2)
    writer.save_checkpoint(state(1), path(tmp_path, 1))
    with pytest.raises(FolderError, match="could not be written") as told:
        writer.save_checkpoint(state(2), path(tmp_path, 2))
    assert "GiB are free there" in told.value.problem
    assert "it goes on from the checkpoint before" in told.value.hint
    assert not list(tmp_path.iterdir())


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def one_bit(file):
    """Flip a bit of the weights: the file opens, and a number in it is wrong."""
    with zipfile.ZipFile(file) as archive:
        record = next(i for i in archive.infolist() if i.filename.endswith("data/0"))
    content = bytearray(file.read_bytes())
    content[content.index(torch.full((8,), 20.0).numpy().tobytes())] ^= 1
    assert record.file_size == 32
    file.write_bytes(bytes(content))


def empty(file):
    file.write_bytes(b"")


def another(file):
    torch.save(state(19), file)


@pytest.mark.parametrize("damage", [cut_short, one_bit, empty, another])
def test_a_damaged_last_one_falls_back_to_the_one_before(tmp_path, caplog, damage):
    write(tmp_path, 10, 20)
    damage(path(tmp_path, 20))
    with caplog.at_level(logging.WARNING):
        assert latest(tmp_path) == (path(tmp_path, 10), 10)
    assert "step-00000020.ckpt cannot be read" in caplog.text


def test_when_all_are_damaged_it_says_what_to_do(tmp_path):
    write(tmp_path, 10, 20)
    for step in (10, 20):
        empty(path(tmp_path, step))
    with pytest.raises(
        InputError, match=r"nor can any before it\n  hint: delete them to begin again"
    ):
        latest(tmp_path)


WRITER = """
import sys, torch
from pathlib import Path
from medssl.training.checkpoint import BackgroundWriter
folder, writer = Path(sys.argv[1]), BackgroundWriter(keep=2)
for step in range(1, 10**6):
    state = {"global_step": step, "state_dict": {"w": torch.full((10**6,), float(step))}}
    writer.save_checkpoint(state, folder / f"step-{step:08d}.ckpt")
"""


def test_killed_in_the_middle_of_a_write_leaves_a_usable_state(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path])
    deadline = time.monotonic() + 120
    while len(checkpoints(tmp_path)) < 2 or not list(tmp_path.glob(".partial-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    found = latest(tmp_path)
    loaded = BackgroundWriter(keep=2).load_checkpoint(found.path)
    assert loaded["state_dict"]["w"].eq(found.steps).all()
    assert checkpoint.steps_of(found.path) == found.steps
