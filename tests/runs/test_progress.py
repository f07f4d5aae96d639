import pytest

from medssl.runs import progress


class Recorder:
    def __init__(self):
        self.seen = []

    def started(self, task):
        self.seen.append(("started", task.description, task.total, task.done))

    def advanced(self, task):
        self.seen.append(("advanced", task.done, task.note))

    def finished(self, task):
        self.seen.append(("finished", task.done))


@pytest.fixture
def recorder():
    recorder = Recorder()
    progress.install(recorder)
    yield recorder
    progress.install(None)


def test_silent_unless_a_reporter_is_installed(capsys):
    assert list(progress.track([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_track_knows_the_length_and_reports_each_item(recorder):
    assert list(progress.track("ab", "letters")) == ["a", "b"]
    assert recorder.seen == [
        ("started", "letters", 2, 0),
        ("advanced", 1, ""),
        ("advanced", 2, ""),
        ("finished", 2),
    ]


def test_track_of_a_stream_has_the_total_it_is_given(recorder):
    list(progress.track(iter("ab"), "letters", total=5))
    list(progress.track(iter("ab"), "letters"))
    assert recorder.seen[0] == ("started", "letters", 5, 0)
    assert ("started", "letters", None, 0) in recorder.seen


def test_a_resumed_task_starts_where_it_was(recorder):
    with progress.task("steps", 10, done=4) as task:
        task.advance(2, note="loss 0.5")
        task.advance()
    assert recorder.seen == [
        ("started", "steps", 10, 4),
        ("advanced", 6, "loss 0.5"),
        ("advanced", 7, "loss 0.5"),
        ("finished", 7),
    ]


def test_a_failing_task_is_finished_too(recorder):
    with pytest.raises(ZeroDivisionError), progress.task("work", None):
        raise ZeroDivisionError
    assert recorder.seen[-1] == ("finished", 0)
