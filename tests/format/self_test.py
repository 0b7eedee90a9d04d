"""The reader's own test: small logs written with the structs of the reader, and what it must read of them."""

import io
import itertools
import json
import struct
import tempfile
from pathlib import Path
from uuid import UUID

import reader
from reader import BATCH, CHECKPOINT, FRAME, IN_TXN, META, SEGMENT, OPS, Unreadable, crc32c, round_up

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
LOG = UUID("00112233-4455-6677-8899-aabbccddeeff")
DOC = UUID("a0000000-0000-4000-8000-00000000000a")
CODE = {name: code for code, name in enumerate(OPS, 1)}
ITEM = DOC.bytes + b"\x01" + b"\x05h\xc3\xa9lo" + b"\x08" + struct.pack("<II", 0x3F800000, 0x7FC00001)


class Segment:
    """Writes one segment: writes of frames, each beginning at a multiple of the granule."""

    def __init__(self, id=1, granule=0, flags=0, epoch=1, first=1, before=None, **fields):
        self.id, self.epoch, self.nonce, self.uuid = id, epoch, fields.get("nonce", 77 + id), LOG.bytes
        self.granule, self.blank = 1 << granule, b"\xff" if flags & 1 else b"\0"
        self.first, self.last, self.lived = first, first - 1, None
        low_water, accepted, floor = (fields.get(k, d) for k, d in (("low_water", 1), ("accepted", 0), ("floor", first)))
        self.pred, self.behind = before.id if before else 0, max(before.last if before else 0, min(low_water, first) - 1)
        pred = (before.id, before.nonce, before.last, before.lived or 256) if before else (0, 0, 0, 0)
        span = before.last - before.behind if before else 0
        between = min(15, before.id - 1 - before.pred) if before else 0
        copy = (128, 512, 4096)[flags >> 2 & 3]
        head = SEGMENT.pack(b"WALS", 1, flags, granule | between << 4, 4, self.uuid, id, epoch, self.nonce, first, 5,
                            low_water, accepted, first - floor, span, *pred, 1 << 16, 1024, 0)[:124]
        head += struct.pack("<I", crc32c(head))
        self.bytes = bytearray(head.ljust(copy, b"\0") + head)
        self.pad()

    def pad(self):
        self.bytes += self.blank * (round_up(len(self.bytes), self.granule) - len(self.bytes))

    def frame(self, kind, payload, lsn):
        at = len(self.bytes)
        raw = FRAME.pack(b"WAL1", 33 + len(payload), 0, lsn, 1000 + lsn, kind)
        raw = raw[:8] + struct.pack("<I", reader.header_sum(self, at, raw)) + raw[12:] + payload
        self.bytes += raw + struct.pack("<I", reader.entry_sum(self, at, raw))

    def entry(self, op, payload=b"", txn=None, batch=False, more=False):
        """`more`: the next frame belongs to the same write."""
        kind = CODE.get(op, op) | (txn is not None and IN_TXN) | (batch and BATCH)
        self.last += 1
        self.frame(kind, (b"" if txn is None else struct.pack("<Q", txn)) + payload, self.last)
        if not batch:
            self.lived = len(self.bytes)
        if not more and not batch:
            self.pad()
        return self

    def mark(self, code, durable, payload=b""):
        self.frame(code, struct.pack("<Q", durable) + payload, self.last)
        self.pad()
        return self

    def save(self, folder, extra=b""):
        Path(folder, f"segment_{self.id:016x}.wal").write_bytes(self.bytes + extra)
        return self


def make_checkpoint(id, lsn, epoch=1):
    metadata = b"\x01\x01k\x02vv"
    raw = CHECKPOINT.pack(b"CKPT", 1, bytes(3), LOG.bytes, epoch, id, lsn, lsn + 1, 9, 1, 2, len(metadata), 0)[:76]
    raw += struct.pack("<I", crc32c(raw)) + DOC.bytes * 3 + metadata
    raw += struct.pack("<I3sI2sI", 3, b"abc", 2, b"de", 0)
    raw += struct.pack("<Q", len(raw) + 12)
    return raw + struct.pack("<I", crc32c(raw))


def make_meta(durable, epoch=1, low_water=1, newest=1):
    raw = META.pack(b"WALM", 1, 1, 0, LOG.bytes, epoch, durable, newest, 78, low_water, 300, 0, 0)[:76]
    return raw + struct.pack("<I", crc32c(raw))


def read(folder):
    out = io.StringIO()
    reader.Log(folder).print(out)
    *entries, end = map(json.loads, out.getvalue().splitlines())
    return entries, end["end"]


def lsns(entries):
    return [e["lsn"] for e in entries]


def refuses(folder, word):
    try:
        read(folder)
    except Unreadable as why:
        return word in str(why)
    return False


def checks(folder):
    """Yields (what, whether it holds), one a check; every case begins with an empty folder."""

    def case():
        for path in folder.iterdir():
            path.unlink()
        return folder

    yield "check value", crc32c(b"123456789") == 0xE3069283
    yield "an empty folder is no log", refuses(case(), "no segment")

    for granule, flags in ((0, 0), (4, 0), (4, 1), (9, 5), (12, 8)):
        log = Segment(granule=granule, flags=flags)
        log.mark(reader.DURABLE, 0).entry("INSERT", ITEM).entry("BATCH_INSERT", b"\x02" + ITEM * 2)
        log.entry("DELETE", DOC.bytes, more=True).entry("BATCH_DELETE", b"\x01" + DOC.bytes)
        log.entry("TXN_BEGIN", txn=5).entry("UPDATE", ITEM, txn=5).entry("TXN_COMMIT", txn=5)
        log.entry("OPAQUE", b"\x01\xff").entry("CHECKPOINT", b"\xac\x02\x07").mark(reader.EPOCH, 9, struct.pack("<Q", 2))
        log.mark(50, 0, b"any length").mark(reader.SLOT, 9, b"slot").mark(reader.SEAL, 9).save(case())
        entries, end = read(folder)
        name = f"granule {1 << granule}, flags {flags}: "
        yield name + "lsns", lsns(entries) == list(range(1, 10))
        yield name + "ops", [e["op"] for e in entries] == ("INSERT BATCH_INSERT DELETE BATCH_DELETE TXN_BEGIN UPDATE "
                                                           "TXN_COMMIT OPAQUE CHECKPOINT").split()
        yield name + "item", entries[0] == {
            "lsn": 1, "timestamp_us": 1001, "op": "INSERT", "id": str(DOC), "kind": "chunk", "content": "h\u00e9lo",
            "embedding": [0x3F800000, 0x7FC00001]}
        yield name + "items and ids", (len(entries[1]["items"]), entries[3]["ids"]) == (2, [str(DOC)])
        yield name + "transaction", [e.get("txn_id") for e in entries[4:8]] == [5, 5, 5, None]
        yield name + "opaque", entries[7]["opaque"] == "01ff"
        yield name + "checkpoint entry", (entries[8]["checkpoint_lsn"], entries[8]["checkpoint_id"]) == (300, 7)
        yield name + "end", end == {
            "uuid": str(LOG), "epoch": 2, "newest_segment": 1, "last_lsn": 9, "durable_lsn": 9, "low_water": 1,
            "sealed": True, "checkpoints": [], "meta": None}
        copy = (128, 512, 4096)[flags >> 2]
        for lost in (0, copy):
            raw = bytearray(log.bytes)
            raw[lost + 30] ^= 1
            Path(folder, "segment_0000000000000001.wal").write_bytes(raw)
            yield name + f"header copy at {lost} lost", lsns(read(folder)[0]) == list(range(1, 10))

    def chain(granule=0, **fields):
        one = Segment(granule=granule).entry("OPAQUE", b"a" * 40).entry("OPAQUE", b"b", batch=True).entry("OPAQUE", b"c")
        one.entry("OPAQUE", b"d").mark(reader.DURABLE, 3)
        two = Segment(id=3, granule=granule, first=5, before=one, **fields)
        return one.save(case()), two.mark(reader.DURABLE, 4).entry("OPAQUE", b"e").mark(reader.SLOT, 5)

    for granule in (0, 4):
        one, two = chain(granule)
        live = one.lived
        one.entry("OPAQUE", b"behind the cut").save(folder)
        whole = len(two.bytes)
        two.entry("OPAQUE", b"torn off")
        two.save(folder)
        yield f"two segments, granule {1 << granule}", lsns(read(folder)[0]) == [1, 2, 3, 4, 5, 6]
        for cut in range(whole, len(two.bytes) - (one.granule - 1)):
            Path(folder, "segment_0000000000000003.wal").write_bytes(two.bytes[:cut])
            if cut < two.lived:
                yield f"torn tail at {cut}", lsns(read(folder)[0]) == [1, 2, 3, 4, 5]
        entries, end = read(folder)
        yield "batch flag", [e.get("batch") for e in entries[:4]] == [None, True, None, None]
        yield "no seal", not end["sealed"] and end["durable_lsn"] == 5
        two.entry("OPAQUE", b"x", batch=True).entry("OPAQUE", b"y", batch=True)
        two.save(folder)
        yield "an unfinished batch is dropped", read(folder)[1]["last_lsn"] == 6
        Path(folder, "segment_0000000000000009.wal").write_bytes(b"WALS" + bytes(300))
        yield "an unfinished segment is passed over", read(folder)[1]["newest_segment"] == 3

        frames = [range(f.at, f.end) for f in reader.Log(folder).frames if f.segment.id == 1]
        for at in range(one.bytes.index(b"WAL1"), live, 7):
            if not any(at in frame for frame in frames):
                continue
            raw = bytearray(one.bytes)
            raw[at] ^= 0x10
            Path(folder, "segment_0000000000000001.wal").write_bytes(raw)
            yield f"a flipped bit at {at} is damage", refuses(folder, "damaged at LSN")

    _, two = chain()
    two.save(folder)
    Path(folder, "segment_0000000000000001.wal").unlink()
    yield "a missing segment is damage", refuses(folder, "missing")
    for fields in ({"accepted": 4}, {"low_water": 5}):
        one, two = chain(**fields)
        two.save(folder)
        raw = bytearray(one.bytes)
        raw[raw.index(b"aaaa")] ^= 1
        Path(folder, "segment_0000000000000001.wal").write_bytes(raw)
        yield f"damage below {fields}", lsns(read(folder)[0]) == ([2, 3, 4, 5] if "accepted" in fields else [5])
    one, two = chain(epoch=2)
    two.save(folder)
    (folder / "checkpoint_0000000000000001.ckpt").write_bytes(make_checkpoint(1, 9))
    yield "a claim ends where a later epoch begins", read(folder)[1]["last_lsn"] == 5
    Segment(nonce=1).save(folder)
    yield "a predecessor of another life is none", refuses(folder, "segment 1 is missing")
    one = Segment().entry("TXN_BEGIN", txn=1).entry("OPAQUE", b"x").save(case())
    two = Segment(id=2, first=3, before=one, low_water=3, floor=1).entry("TXN_COMMIT", txn=1).save(folder)
    yield "a transaction that ends above the low-water mark is whole", lsns(read(folder)[0]) == [1, 3]
    _, two = chain()
    moved = bytearray(two.bytes)
    moved[two.bytes.index(b"WAL1"):] = b"\0" * 8 + two.bytes[two.bytes.index(b"WAL1"):]
    two.bytes = moved
    two.save(folder)
    yield "moved frames do not verify", lsns(read(folder)[0]) == [1, 2, 3, 4]

    for low_water, kept in ((1, [1, 2, 3, 4]), (3, [2, 3, 4]), (4, [4])):
        one = Segment().entry("OPAQUE", b"a").entry("OPAQUE", b"b", batch=True).entry("OPAQUE", b"c", batch=True)
        one.lived = len(one.bytes)
        two = Segment(id=2, epoch=2, first=4, before=one, low_water=low_water, flags=reader.LEFTOVERS)
        one.entry("OPAQUE", b"cut off").save(case())
        two.mark(reader.EPOCH, 3, struct.pack("<Q", 2)).entry("OPAQUE", b"e").save(folder)
        yield f"before a cut stands a whole batch, low-water mark {low_water}", lsns(read(folder)[0]) == kept

    log = Segment().entry("OPAQUE", b"a")
    log.bytes[256 + 8:256 + 12], at = bytes(4), len(log.bytes) - 4
    log.bytes[at:] = struct.pack("<I", reader.entry_sum(log, 256, bytes(log.bytes[256:at])))
    log.save(case())
    yield "the header checksum counts", read(folder)[1]["last_lsn"] == 0
    log = Segment().mark(reader.DURABLE, 0).entry("OPAQUE", b"a").mark(reader.SLOT, 0).entry("OPAQUE", b"b")
    lost = log.bytes.index(b"WAL1", 256 + 1 + 33 + 8 + 33)
    log.bytes[lost + 30] ^= 1
    log.save(case())
    yield "a lost mark ends the log where nothing proves what is behind", lsns(read(folder)[0]) == [1]
    log.mark(reader.DURABLE, 2).save(folder)
    yield "a lost mark alone loses nothing", lsns(read(folder)[0]) == [1, 2]
    log = Segment().entry("OPAQUE", b"a").mark(reader.DURABLE, 2).save(case())
    yield "a claim beyond the mark does not count", read(folder)[1]["durable_lsn"] == 0
    log.bytes = log.bytes[:128].ljust(512, b"\0") + log.bytes[:128]
    log.bytes[0] ^= 1
    log.save(folder)
    yield "a copy at another offset than it names is none", refuses(folder, "no segment")
    Segment(id=4, first=9, low_water=9).entry("OPAQUE", b"i").save(case())
    yield "what lies below the low-water mark may be missing", lsns(read(folder)[0]) == [9]
    Segment(id=4, first=9, low_water=8).entry("OPAQUE", b"i").save(case())
    yield "what lies above it may not", refuses(folder, "missing")

    log = Segment().entry("OPAQUE", b"a").entry("OPAQUE", b"b").entry("OPAQUE", b"c")
    log.bytes[log.bytes.rindex(b"b", 0, log.bytes.rindex(b"WAL1"))] ^= 1
    log.save(case())
    yield "without a witness it is a torn tail", lsns(read(folder)[0]) == [1]
    log.mark(reader.DURABLE, 3).save(folder)
    yield "a mark behind is a witness", refuses(folder, "damaged")

    log = Segment().entry("TXN_BEGIN", txn=1).entry("OPAQUE", b"x").entry("TXN_COMMIT", txn=1).entry("OPAQUE", b"y")
    log.entry("OPAQUE", b"z", batch=True).entry("OPAQUE", b"z")
    log.save(case())
    for mark, kept in ((2, [1, 2, 3, 4, 5, 6]), (3, [1, 3, 4, 5, 6]), (4, [4, 5, 6]), (6, [5, 6])):
        log.mark(reader.LOW_WATER, 0, struct.pack("<QB", mark, 1)).save(folder)
        yield f"low-water mark {mark}", (lsns(read(folder)[0]), read(folder)[1]["low_water"]) == (kept, mark)

    log = Segment().entry("OPAQUE", b"x").entry("OPAQUE", b"y").save(case())
    path = folder / "checkpoint_0000000000000007.ckpt"
    path.write_bytes(make_checkpoint(7, 2) + b"behind the end")
    got = read(folder)[1]["checkpoints"]
    yield "checkpoint", got == [{
        "id": 7, "valid": True, "epoch": 1, "lsn": 2, "floor": 3, "created": 9, "documents": [str(DOC)],
        "chunks": [str(DOC)] * 2, "metadata": {"k": "vv"}, "snapshot_len": 5,
        "snapshot_sha256": "36bbe50ed96841d10443bcb670d6554f0a34b761be67ec9c4a8ad2c0c44ca42c"}]
    path.write_bytes(make_checkpoint(7, 3))
    yield "a checkpoint is a witness", refuses(folder, "checkpoint 7 proves")
    raw = make_checkpoint(7, 2)
    for cut in range(len(raw)):
        path.write_bytes(raw[:cut])
        yield f"checkpoint of {cut} bytes", not read(folder)[1]["checkpoints"][0]["valid"]
    raw = raw[:-12] + struct.pack("<Q", len(raw) - 1)
    path.write_bytes(raw + struct.pack("<I", crc32c(raw)))
    yield "checkpoint of another length than it says", not read(folder)[1]["checkpoints"][0]["valid"]
    path.unlink()

    path = folder / "wal.meta"
    path.write_bytes(make_meta(2))
    yield "metadata", read(folder)[1]["meta"] == {
        "clean": True, "uuid": str(LOG), "epoch": 1, "durable_lsn": 2, "newest_segment": 1, "nonce": 78, "low_water": 1, "low_water_covered": False,
        "position": 300, "last_before": 0}
    path.write_bytes(make_meta(3))
    yield "metadata is a witness", refuses(folder, "wal.meta proves")
    path.write_bytes(make_meta(3, epoch=0))
    yield "of the newest epoch only", read(folder)[1]["meta"]["epoch"] == 0
    path.write_bytes(make_meta(2, epoch=2, newest=2))
    yield "metadata of a later epoch prove a missing segment", refuses(folder, "segment 2 is missing")
    path.write_bytes(make_meta(2, newest=2))
    yield "and so do those of the same epoch", refuses(folder, "segment 2 is missing")
    path.write_bytes(make_meta(2, epoch=0, newest=2))
    yield "those of an earlier one do not", lsns(read(folder)[0]) == [1, 2]
    path.write_bytes(make_meta(2, epoch=2))
    yield "unless they name the newest: then an epoch mark was lost", read(folder)[1]["epoch"] == 2
    path.write_bytes(make_meta(2, low_water=2))
    yield "the higher low-water mark counts", lsns(read(folder)[0]) == [2]
    path.write_bytes(bytes(72))
    yield "lost metadata loses nothing", read(folder)[1]["meta"] is None

    Segment().mark(reader.SEAL | IN_TXN, 0).save(case())
    yield "bits 6 and 7 of a mark are not looked at", read(folder)[1]["sealed"]
    for kind in (37, 47):
        Segment().mark(kind, 0).save(case())
        yield f"mark {kind} is refused", refuses(folder, "unsupported")
    for op in (11, 31):
        Segment().entry(op).save(case())
        yield f"entry {op} is refused", refuses(folder, "unsupported")
    Segment().entry("DELETE", DOC.bytes + b"!").save(case())
    yield "nothing may follow a payload", refuses(folder, "too many")
    Segment(flags=0x80).save(case())
    yield "unknown flags are refused", refuses(folder, "flags")


def gone_checks(folder):
    """Segments that are gone, with their loss accepted: what is there on both sides of them is read."""

    def lay(*segments):
        for path in folder.iterdir():
            path.unlink()
        for segment in segments:
            segment.save(folder)

    def headless(segment):
        raw = bytearray(segment.bytes)
        raw[30] ^= 1
        raw[128 + 30] ^= 1
        Path(folder, f"segment_{segment.id:016x}.wal").write_bytes(raw)

    def five(flags=0, accepted=9, dead=b"a cut entry"):
        """Of two entries each; ids 3 and 5 were passed over or cut off. Behind the cuts stand entries that are dead."""
        one = Segment().entry("OPAQUE", b"1").entry("OPAQUE", b"2")
        two = Segment(id=2, first=3, before=one).entry("OPAQUE", b"3").entry("OPAQUE", b"4")
        four = Segment(id=4, first=5, before=two, epoch=2, flags=flags).entry("OPAQUE", b"5").entry("OPAQUE", b"6")
        six = Segment(id=6, first=7, before=four, epoch=3, flags=flags).entry("OPAQUE", b"7").entry("OPAQUE", b"8")
        last = Segment(id=7, first=10, before=six, epoch=4, flags=flags, accepted=accepted).entry("OPAQUE", b"10")
        if dead:
            one.entry("OPAQUE", dead)
            two.entry("OPAQUE", dead)
        return [one, two, four, six, last]

    def read_lsns():
        return lsns(read(folder)[0])

    one, two, four, six, last = five()
    lay(one, two, four, last)
    yield "a missing segment, accepted, is passed over", read_lsns() == [1, 2, 3, 4, 5, 6, 10]
    yield "and what is read is what counts", [e["opaque"] for e in read(folder)[0]] == [b.hex() for b in (
        b"1", b"2", b"3", b"4", b"5", b"6", b"10")]
    Segment(id=5, first=7, before=four, epoch=2).entry("OPAQUE", b"dead").save(folder)
    yield "what was passed over does not come back", read_lsns() == [1, 2, 3, 4, 5, 6, 10]
    lay(two, four, six, last)
    yield "the lowest one missing", read_lsns() == [3, 4, 5, 6, 7, 8, 10]
    one, two, four, six, last = five(dead=None)
    lay(one, two, last)
    yield "two missing in a row", read_lsns() == [1, 2, 3, 4, 10]
    one, two, four, six, last = five(flags=reader.LEFTOVERS, dead=None)
    lay(one, two, last)
    yield "two missing in a row, in a log that was cut: nothing tells what is live", read_lsns() == [10]
    one, two, four, six, last = five(accepted=0)
    lay(one, two, four, last)
    yield "not accepted, it is damage", refuses(folder, "missing")

    one, two, four, six, last = five()
    for lost in (one, two, four, six):
        lay(one, two, four, six, last)
        headless(lost)
        yield f"segment {lost.id} without a header is read", read_lsns() == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    four.bytes[four.bytes.index(b"WAL1") + 30] ^= 1
    lay(one, two, four, six, last)
    headless(four)
    yield "and if its first frame is bad too", read_lsns() == [1, 2, 3, 4, 6, 7, 8, 10]


def golden_checks():
    """The logs that the project's own writer wrote, and what must be read of them."""
    logs = sorted(path for path in GOLDEN.iterdir() if path.is_dir())
    yield "there are golden logs, each with what is to be read of it", logs and logs == sorted(
        path.with_suffix("") for path in GOLDEN.glob("*.jsonl"))
    for log in logs:
        out = io.StringIO()
        reader.Log(log).print(out)
        yield f"golden log {log.name}", out.getvalue() == log.with_suffix(".jsonl").read_text()
        yield from damage_checks(log)


def damage_checks(log):
    """A flipped bit in each entry that was durable, in a copy of the log."""
    whole = reader.Log(log)
    durable = max(f.durable for f in whole.frames if f.is_mark)
    for entry in whole.entries:
        if not whole.low_water <= entry.lsn <= durable:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for path in log.iterdir():
                Path(folder, path.name).write_bytes(path.read_bytes())
            damaged = Path(folder, f"segment_{entry.segment.id:016x}.wal")
            raw = bytearray(damaged.read_bytes())
            raw[entry.end - 5] ^= 1
            damaged.write_bytes(raw)
            yield f"golden log {log.name}: damage at LSN {entry.lsn} is found", refuses(folder, "damaged at LSN")


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        count = 0
        for what, holds in itertools.chain(checks(Path(folder)), gone_checks(Path(folder)), golden_checks()):
            if not holds:
                raise SystemExit(f"reader self-test: failed: {what}")
            count += 1
    print(f"reader self-test: ok ({count} checks)")
