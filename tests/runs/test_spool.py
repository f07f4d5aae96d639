import json
import tracemalloc

from medssl.runs import spool as module
from medssl.runs.spool import Spool


def drain(spool):
    out = []
    while spool.pending():
        events, offset = spool.next_events()
        out += events
        spool.mark_sent(events, offset)
    return out


def test_events_come_back_in_order_and_once(tmp_path):
    spool = Spool(tmp_path / "s")
    for n in range(5):
        spool.append({"n": n})
    assert [event["n"] for event in drain(spool)] == [0, 1, 2, 3, 4]
    spool.append({"n": 5})
    assert drain(spool) == [{"n": 5}]


def test_what_was_not_sent_is_there_in_the_next_process(tmp_path):
    first = Spool(tmp_path)
    first.append({"n": 0})
    events, offset = first.next_events()
    first.append({"n": 1})
    first.mark_sent(events, offset)
    assert drain(Spool(tmp_path)) == [{"n": 1}]


def test_closing_drops_what_was_sent_and_keeps_what_was_not(tmp_path):
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    spool.close()
    assert (tmp_path / "events.jsonl").exists()
    spool = Spool(tmp_path)
    drain(spool)
    spool.close()
    assert not (tmp_path / "events.jsonl").exists()
    spool.append({"n": 2})
    assert drain(Spool(tmp_path)) == [{"n": 2}]


def test_a_torn_line_is_left_out_and_the_rest_kept(tmp_path):
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    spool.close()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"n": 1, "metr')
    again = Spool(tmp_path)
    again.append({"n": 2})
    assert drain(again) == [{"n": 0}, {"n": 2}]


def test_a_long_run_does_not_grow_the_file_or_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_COMPACT_BYTES", 20_000)
    spool, seen = Spool(tmp_path), 0
    tracemalloc.start()
    for step in range(10_000):
        spool.append({"metrics": {"loss": 1.0}, "step": step, "pad": "x" * 50})
        if step % 100 == 99:
            seen += len(drain(spool))
    assert tracemalloc.get_traced_memory()[0] < 500_000
    tracemalloc.stop()
    assert seen == 10_000
    assert (tmp_path / "events.jsonl").stat().st_size < 40_000


def test_killed_between_compacting_steps_nothing_is_lost(tmp_path):
    spool = Spool(tmp_path)
    spool.append({"n": 0})
    drain(spool)
    (tmp_path / "events.jsonl").write_text("")  # truncated, but sent.json has the old offset
    spool = Spool(tmp_path)
    spool.append({"n": 1})
    assert drain(spool) == [{"n": 1}]


def test_the_last_step_of_each_metric_is_known_sent_or_not(tmp_path):
    spool = Spool(tmp_path)
    spool.append({"metrics": {"a": 1.0, "b": 1.0}, "step": 3})
    drain(spool)
    spool.append({"metrics": {"a": 1.0}, "step": 7})
    assert spool.last_steps() == Spool(tmp_path).last_steps() == {"a": 7, "b": 3}


def test_more_than_a_chunk_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 100)
    spool = Spool(tmp_path)
    for n in range(50):
        spool.append({"n": n})
    assert [event["n"] for event in drain(spool)] == list(range(50))


def test_an_event_longer_than_a_chunk_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 100)
    spool = Spool(tmp_path)
    spool.append({"text": "x" * 1000})
    spool.append({"n": 1})
    assert [len(json.dumps(event)) for event in drain(spool)] == [1012, 8]


def test_a_remote_id_belongs_to_one_store(tmp_path):
    spool = Spool(tmp_path)
    spool.set_remote_id("http://a", "1")
    assert spool.remote_id("http://a") == "1"
    assert spool.remote_id("http://b") is None
