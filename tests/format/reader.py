#!/usr/bin/env python3
"""A second reader of duralog logs, written from core/FORMAT.md alone.

reader.py DIR          prints one JSON object per live entry, then {"end": {...}}
reader.py --self-test  writes small logs into a temporary directory and checks what is read of them; the same for the
                       logs in tests/golden, of which DIR.jsonl says what is to be read
reader.py --write DIR  writes what is read of the log in DIR to DIR.jsonl

An entry below the low-water mark is printed only if its batch or transaction ends at or above that mark. Exit status 1
and a message on stderr say that the log is damaged, or holds what version 1 does not know.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

SEGMENT = struct.Struct("<4s4B16s7Q2I3Q4I")
SEGMENT_FIELDS = ("magic version flags granule max_txns uuid id epoch nonce first created low_water accepted floor "
                  "span pred pred_nonce pred_last pred_size size limit sum").split()
FRAME = struct.Struct("<4sIIQQB")
CHECKPOINT = struct.Struct("<4sB3s16s5Q4I")
META = struct.Struct("<4sBBH16s5QIQI")
OPS = ("INSERT UPDATE DELETE BATCH_INSERT BATCH_DELETE CHECKPOINT TXN_BEGIN TXN_COMMIT TXN_ROLLBACK OPAQUE").split()
DURABLE, EPOCH, LOW_WATER, SLOT, SEAL = range(32, 37)
IN_TXN, BATCH = 0x40, 0x80
OPEN = 1 << 64
LEFTOVERS, FAR, MANY = 0x40, 0xFFFFFFFF, 15


class Unreadable(Exception):
    """The log is damaged, or holds what this version does not know."""


def crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = tuple(crc_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def salt(segment, half, offset):
    return half + struct.pack("<QQQI", segment.id, segment.epoch, segment.nonce, offset)


def header_sum(segment, offset, frame):
    return crc32c(salt(segment, segment.uuid[:8], offset) + frame[4:8] + frame[12:29])


def entry_sum(segment, offset, frame):
    return crc32c(salt(segment, segment.uuid[8:], offset) + frame)


def round_up(offset, granule):
    return -(-offset // granule) * granule


# ---- segments and frames


def read_header(data, at, name):
    """The header whose copy stands at `at`; None if there is none."""
    raw = data[at:at + 128]
    if len(raw) < 128 or raw[:4] != b"WALS" or crc32c(raw[:124]) != struct.unpack("<I", raw[124:])[0]:
        return None
    head = SimpleNamespace(**dict(zip(SEGMENT_FIELDS, SEGMENT.unpack(raw))))
    if head.version != 1:
        raise Unreadable(f"segment {name} is of version {head.version}")
    if head.flags >> 7:
        raise Unreadable(f"segment {name} has unknown flags {head.flags:#04x}")
    copy = (128, 512, 4096, None)[head.flags >> 2 & 3]
    if head.id != name or copy is None or at not in (0, copy):
        return None
    head.between, head.granule = head.granule >> 4, head.granule & 15
    if head.granule > 12 or not 1 <= head.max_txns <= 16 or copy < 1 << head.granule or head.size > 1 << 31:
        return None
    if head.id <= head.pred or not head.epoch or head.first <= head.floor or head.pred_last >= head.first:
        return None
    if head.flags & 2 and not head.nonce:
        return None
    if not head.pred and (head.between or head.span or head.pred_nonce or head.pred_last or head.pred_size):
        return None
    if MANY != head.between >= max(head.pred, 1) or FAR != head.span > head.pred_last:
        return None
    head.floor = 1 if head.floor == FAR else head.first - head.floor
    head.pred_first = None if head.span == FAR else head.pred_last + 1 - head.span
    head.granule = 1 << head.granule
    head.start = round_up(copy + 128, head.granule)
    head.blank = b"\xff" if head.flags & 1 else b"\0"
    if head.size <= head.start or not 256 <= head.limit <= head.size - head.start:
        return None
    head.data = data
    return head


def open_segment(path, name):
    data = path.read_bytes()
    copies = (read_header(data, at, name) for at in (0, 128, 512, 4096))
    return next((head for head in copies if head), None)


def frame_at(segment, at, end):
    """The frame that verifies at `at` and ends at or before `end`; None if there is none."""
    raw = segment.data[at:at + 29]
    if len(raw) < 29 or raw[:4] != b"WAL1":
        return None
    _, size, head_sum, lsn, time, kind = FRAME.unpack(raw)
    if head_sum != header_sum(segment, at, raw) or size < 33 or at + size > end:
        return None
    raw, tail = segment.data[at:at + size - 4], segment.data[at + size - 4:at + size]
    if len(tail) < 4 or entry_sum(segment, at, raw) != struct.unpack("<I", tail)[0]:
        return None
    frame = SimpleNamespace(segment=segment, at=at, end=at + size, lsn=lsn, time=time, kind=kind, payload=raw[29:])
    frame.code, frame.is_mark = kind & 0x3F, kind & 0x3F >= 32
    if frame.is_mark:
        read_mark(frame)
    return frame


def read_mark(mark):
    """Checks a mark and gives it `durable` and what else it says."""
    size, code = len(mark.payload), mark.code
    if code > SEAL and code <= 47:
        raise Unreadable(f"segment {mark.segment.id}, offset {mark.at}: unsupported mark {mark.kind}")
    mark.durable = 0
    if code >= 48:
        return
    if not {DURABLE: size == 8, EPOCH: size == 16, LOW_WATER: size == 17, SLOT: 8 <= size <= 72, SEAL: size == 8}[code]:
        raise Unreadable(f"segment {mark.segment.id}, offset {mark.at}: mark {code} with a payload of {size} bytes")
    claim, *rest = struct.unpack_from("<QQ" if code in (EPOCH, LOW_WATER) else "<Q", mark.payload)
    mark.durable = claim if claim <= mark.lsn else 0
    mark.value = rest[0] if rest else None


def follows(frame, last):
    return frame and frame.lsn == (last if frame.is_mark else last + 1)


def frames_from(segment, at, end, last):
    """The frames that stand without a gap from `at` on, where `last` is the LSN before."""
    while at < end:
        frame = frame_at(segment, at, end)
        if not follows(frame, last):
            edge = round_up(at, segment.granule)
            blank = edge - at
            if edge >= end or not blank or segment.data[at:at + 1] != segment.blank:
                return
            frame = frame_at(segment, edge, end)
            if not follows(frame, last):
                return
        yield frame
        at, last = frame.end, frame.lsn


def frame_behind(segment, at, end, last):
    """The next valid frame behind a place that fails, whatever is missing between."""
    while (at := segment.data.find(b"WAL1", at + 1)) >= 0:
        frame = frame_at(segment, at, end)
        if frame and (frame.lsn > last or frame.is_mark and frame.lsn == last):
            return frame
    return None


def frames_behind(segment, at, end, last):
    """All of them, each searched for behind the one before."""
    while frame := frame_behind(segment, at, end, last):
        yield frame
        at = frame.end - 1


# ---- what stands behind a segment that is gone


def is_named(segment, successor):
    return (segment.nonce == successor.pred_nonce and segment.uuid == successor.uuid
            and (successor.pred_first or 1) <= segment.first <= successor.pred_last + 1)


def make_out(data, successor, before):
    """The segment that lost its header and stands before `successor`; None if nothing of it verifies."""
    lowest = before.epoch if before else 1
    lost = SimpleNamespace(**vars(successor))
    lost.id, lost.nonce, lost.first = successor.pred, successor.pred_nonce, successor.pred_first
    lost.data, lost.floor, lost.pred = data, 1, before.id if before else 0
    if successor.pred_size <= lost.start or successor.pred_last < lost.first:
        return lost
    for geometry in filter(None, (successor, before)):
        lost.start, lost.granule, lost.blank = geometry.start, geometry.granule, geometry.blank
        for lost.epoch in range(successor.epoch, max(lowest, successor.epoch - 4095) - 1, -1):
            frame = frame_at(lost, lost.start, successor.pred_size)
            if frame and frame.lsn + frame.is_mark >= lost.first:
                return lost
    lost.start, lost.granule, lost.blank = successor.start, successor.granule, successor.blank
    for lost.epoch in range(successor.epoch, max(lowest, successor.epoch - 63) - 1, -1):
        if frame_behind(lost, lost.start, successor.pred_size, lost.first - 1):
            return lost
    return None


def end_behind(segment, until, certain):
    """The last LSN and the size that the successor named, which is gone: no entry behind `until` counts."""
    end = min(len(segment.data), segment.size)
    at, last, whole = segment.start, segment.first - 1, (segment.first - 1, segment.start)
    while last < until:
        for frame in frames_from(segment, at, end, last):
            at, last = frame.end, frame.lsn
            if not frame.is_mark and (not frame.kind & BATCH or last == until):
                whole = last, at
            if last == until and not frame.is_mark:
                return whole
        behind = frame_behind(segment, at - 1, end, last)
        marks = (frame for frame in frames_behind(segment, at - 1, end, last) if frame.is_mark)
        if not behind or behind.lsn > until or not any(mark.durable > last for mark in marks):
            break
        at, last = behind.at, behind.lsn - (not behind.is_mark)
    return (until, end) if certain and whole[0] < until else whole


# ---- the log


class Log:
    """A directory log: its chain, oldest segment first, and the frames that count."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.names = names = sorted((int(p.stem[8:], 16) for p in self.folder.glob("segment_" + "[0-9a-f]" * 16 + ".wal")), reverse=True)
        self.newest = next((s for s in map(self.segment, names) if s), None)
        if not self.newest:
            raise Unreadable("no segment with a valid header")
        self.read_newest()
        self.meta = self.read_meta()
        if self.meta and self.meta["epoch"] >= self.newest.epoch:
            if (self.meta["newest_segment"], self.meta["nonce"]) == (self.newest.id, self.newest.nonce):
                self.epoch = max(self.epoch, self.meta["epoch"])
            elif self.meta["epoch"] > self.newest.epoch or self.meta["newest_segment"] > self.newest.id:
                raise Unreadable(f"segment {self.meta['newest_segment']} is missing, wal.meta proves it")
        if self.meta and self.meta["epoch"] >= self.newest.epoch:
            self.low_water = max(self.low_water, min(self.meta["low_water"], self.last + 1))
        self.read_chain()
        self.checkpoints = [self.read_checkpoint(p)
                            for p in sorted(self.folder.glob("checkpoint_" + "[0-9a-f]" * 16 + ".ckpt"))]
        self.check_witnesses()
        self.set_ends()

    def segment(self, name):
        path = self.folder / f"segment_{name:016x}.wal"
        return open_segment(path, name) if path.exists() else None

    def covered(self, lsn):
        """Whether entries up to `lsn` may be missing."""
        return lsn < self.low_water or lsn <= self.newest.accepted

    def read_newest(self):
        new = self.newest
        end = min(len(new.data), new.size)
        frames, at, last = [], new.start, new.first - 1
        while True:
            for frame in frames_from(new, at, end, last):
                frames.append(frame)
                at, last = frame.end, frame.lsn
            # Where a mark is all that is lost, and another one proves that it was durable, the log goes on behind it.
            behind = frame_behind(new, at - 1, end, last)
            if not behind or behind.lsn - (not behind.is_mark) != last or frames and frames[-1].kind & BATCH:
                break
            if not any(mark.durable > last for mark in frames_behind(new, at - 1, end, last) if mark.is_mark):
                break
            at = behind.at
        self.tail = frames[-1] if frames else None
        self.sealed = bool(frames) and frames[-1].code == SEAL
        while frames and not frames[-1].is_mark and frames[-1].kind & BATCH:
            frames.pop()
        self.frames = frames
        self.last = frames[-1].lsn if frames else new.first - 1
        values = {code: [f.value for f in frames if f.code == code] for code in (EPOCH, LOW_WATER)}
        self.epoch = (values[EPOCH] or [new.epoch])[-1]
        self.low_water = (values[LOW_WATER] or [new.low_water])[-1]
        # A mark behind the place that fails is a witness too: what it claims was durable before it was framed.
        last, at = self.last, self.tail.end if self.tail else new.start
        for frame in frames_behind(new, at - 1, end, last):
            if frame.is_mark and frame.durable > last:
                raise Unreadable(f"segment {new.id}, offset {at}: damaged at LSN {last + 1}, durable up to {frame.durable}")

    def read_chain(self):
        self.chain = [self.newest]
        needed = min(self.low_water, self.newest.floor)
        while (head := self.chain[0]).pred and head.first > needed:
            if head.first != head.pred_last + 1 and not self.covered(head.first - 1):
                raise Unreadable(f"LSNs {head.pred_last + 1}..={head.first - 1} are missing before segment {head.id}")
            before = self.segment(head.pred)
            found = [(before, head.pred_last, head.pred_size)] if before and is_named(before, head) else []
            if not found and not self.covered(head.pred_last):
                raise Unreadable(f"segment {head.pred} is missing, it ended at LSN {head.pred_last}")
            for segment, *end in found or self.behind(head):
                self.frames = self.read_predecessor(segment, *end) + self.frames
                self.chain.insert(0, segment)
                needed = min(needed, segment.floor)
            if self.chain[0] is head:
                return
        if not head.pred and head.first > 1 and not self.covered(head.first - 1):
            raise Unreadable(f"LSNs 1..={head.first - 1} are missing before segment {head.id}")

    def behind(self, head):
        """What is there behind a predecessor of `head` that is gone, newest first, itself too if its header can be made
        out: each with its last LSN and its size."""
        if head.pred_first is None:
            return []
        named = head.pred - 1 - head.between if head.between != MANY else None
        behind = certain = None
        for name in (n for n in self.names if n < head.pred and (named is None or n <= named)):
            if name != named and head.flags & LEFTOVERS:
                break
            found, certain = self.segment(name), name == named
            if found and found.uuid == head.uuid and found.epoch <= head.epoch and found.first < head.pred_first + certain:
                behind = found
                break
        path = self.folder / f"segment_{head.pred:016x}.wal"
        lost = path.exists() and not open_segment(path, head.pred) and make_out(path.read_bytes(), head, behind)
        rest = [(lost, head.pred_last, head.pred_size)] if lost else []
        return rest + ([(behind, *end_behind(behind, head.pred_first - 1, certain))] if behind else [])

    def read_predecessor(self, segment, live_last, live_size):
        frames, at, last = [], segment.start, segment.first - 1
        while True:
            for frame in frames_from(segment, at, live_size, last):
                frames.append(frame)
                at, last = frame.end, frame.lsn
            if at >= live_size and last == live_last:
                break
            behind = frame_behind(segment, at - 1, live_size, last)
            lost = behind.lsn - (not behind.is_mark) if behind else live_last
            only_marks = behind and lost == last and not (frames and frames[-1].kind & BATCH)
            if not only_marks and not self.covered(lost):
                raise Unreadable(f"segment {segment.id}, offset {at}: damaged at LSN {last + 1}, live up to offset "
                                 f"{live_size} and LSN {live_last}")
            while frames and frames[-1].kind & BATCH:
                frames.pop()
            if not behind:
                return frames
            at, last = behind.at, lost
        return frames

    def check_witnesses(self):
        claims = [(c["lsn"], c["epoch"], f"checkpoint {c['id']}") for c in self.checkpoints if c["valid"]]
        if self.meta:
            claims.append((self.meta["durable_lsn"], self.meta["epoch"], "wal.meta"))
        for lsn, epoch, witness in claims:
            lsn = min([lsn] + [s.first - 1 for s in self.chain if s.epoch > epoch])
            if lsn > self.last:
                raise Unreadable(f"segment {self.newest.id}: LSNs {self.last + 1}..={lsn} are missing, {witness} proves them")

    def set_ends(self):
        """Gives each entry `ends`: the LSN at which its batch and its transaction end; `OPEN` if they did not."""
        txns, batch, epoch = {}, [], self.chain[0].epoch
        self.entries = [f for f in self.frames if not f.is_mark]
        for frame in self.frames:
            if frame.code == EPOCH:
                epoch = max(epoch, frame.value)
                close(txns, frame.lsn)
            if frame.is_mark:
                continue
            frame.fields, frame.ends = decode(frame), frame.lsn
            if batch and batch[-1].segment is not frame.segment:
                batch = []  # A cut went through it: what stands before the cut is a whole one.
            batch.append(frame)
            for member in batch:
                member.ends = frame.lsn
            if not frame.kind & BATCH:
                batch = []
            if frame.kind & IN_TXN:
                txns.setdefault(frame.fields["txn_id"], []).append(frame)
                if frame.fields["op"] in ("TXN_COMMIT", "TXN_ROLLBACK"):
                    close({0: txns.pop(frame.fields["txn_id"])}, frame.ends)
        close(txns, self.last if self.newest.epoch > epoch else OPEN)

    def read_meta(self):
        path = self.folder / "wal.meta"
        raw = path.read_bytes() if path.exists() else b""
        if len(raw) < 80 or raw[:5] != b"WALM\x01" or crc32c(raw[:76]) != struct.unpack_from("<I", raw, 76)[0]:
            return None
        _, _, flags, zero, log, epoch, durable, newest, nonce, low_water, position, before, _ = META.unpack(raw[:80])
        if flags > 3 or zero or log != self.newest.uuid:
            return None
        return {"clean": bool(flags & 1), "uuid": str(UUID(bytes=log)), "epoch": epoch, "durable_lsn": durable,
                "newest_segment": newest, "nonce": nonce, "low_water": low_water,
                "low_water_covered": bool(flags & 2), "position": position, "last_before": before}

    def read_checkpoint(self, path):
        name, raw = int(path.stem[11:], 16), path.read_bytes()
        try:
            return {"id": name, "valid": True, **checkpoint(raw, name, self.newest.uuid)}
        except (ValueError, struct.error):
            return {"id": name, "valid": False, **dict.fromkeys(
                "epoch lsn floor created documents chunks metadata snapshot_sha256 snapshot_len".split())}

    def print(self, out):
        for entry in self.entries:
            if entry.lsn >= self.low_water or entry.ends >= self.low_water:
                print(json.dumps(entry.fields), file=out)
        end = {"uuid": str(UUID(bytes=self.newest.uuid)), "epoch": self.epoch, "newest_segment": self.newest.id,
               "last_lsn": self.last, "durable_lsn": max((f.durable for f in self.frames if f.is_mark), default=0),
               "low_water": self.low_water, "sealed": self.sealed, "checkpoints": self.checkpoints, "meta": self.meta}
        print(json.dumps({"end": end}), file=out)


def close(txns, lsn):
    for members in txns.values():
        for member in members:
            member.ends = max(member.ends, lsn)
    txns.clear()


# ---- payloads


class Bytes:
    """Reads values one behind the other; a ValueError says that they do not fit."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, size):
        if size > len(self.data) - self.at:
            raise ValueError("too short")
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        if byte >= 0x80 or value >= 1 << 64:
            raise ValueError("varint too long")
        return value

    def text(self):
        return self.take(self.varint()).decode()

    def id(self):
        return str(UUID(bytes=self.take(16)))

    def item(self):
        item, kind = {"id": self.id()}, self.number(1)
        if kind > 1:
            raise ValueError(f"kind {kind}")
        item |= {"kind": ("document", "chunk")[kind], "content": self.text()}
        embedding = self.take(self.varint())
        if len(embedding) % 4:
            raise ValueError("embedding of broken length")
        return item | {"embedding": list(struct.unpack(f"<{len(embedding) // 4}I", embedding))}

    def end(self):
        if self.at != len(self.data):
            raise ValueError("bytes too many")


def decode(frame):
    """An entry as it is printed."""
    try:
        return fields_of(frame)
    except ValueError as why:
        raise Unreadable(f"segment {frame.segment.id}, offset {frame.at}, LSN {frame.lsn}: {why}") from why


def fields_of(frame):
    if not 1 <= frame.code <= len(OPS):
        raise ValueError(f"unsupported entry {frame.code}")
    op, body = OPS[frame.code - 1], Bytes(frame.payload)
    entry = {"lsn": frame.lsn, "timestamp_us": frame.time, "op": op}
    if frame.kind & BATCH:
        entry["batch"] = True
    if frame.kind & IN_TXN:
        entry["txn_id"] = body.number(8)
    elif op.startswith("TXN"):
        raise ValueError(f"{op} outside a transaction")
    if op == "TXN_BEGIN" and entry["txn_id"] != frame.lsn:
        raise ValueError("a transaction with the id of another")
    if op in ("INSERT", "UPDATE"):
        entry |= body.item()
    elif op == "DELETE":
        entry["id"] = body.id()
    elif op == "BATCH_INSERT":
        entry["items"] = [body.item() for _ in range(body.varint())]
    elif op == "BATCH_DELETE":
        entry["ids"] = [body.id() for _ in range(body.varint())]
    elif op == "CHECKPOINT":
        entry |= {"checkpoint_lsn": body.varint(), "checkpoint_id": body.varint()}
    elif op == "OPAQUE":
        entry["opaque"] = body.take(len(body.data) - body.at).hex()
    body.end()
    return entry


def checkpoint(raw, name, log):
    magic, version, zero, owner, epoch, this, lsn, floor, created, docs, chunks, size, head = CHECKPOINT.unpack(raw[:80])
    if (magic, version, zero, owner, this) != (b"CKPT", 1, bytes(3), log, name) or crc32c(raw[:76]) != head:
        raise ValueError("no header")
    body = Bytes(raw, 80)
    ids = [[body.id() for _ in range(count)] for count in (docs, chunks)]
    about = Bytes(body.take(size))
    metadata = {about.text(): about.text() for _ in range(about.varint())}
    about.end()
    snapshot = b""
    while block := body.number(4):
        snapshot += body.take(block)
    length = body.number(8)
    if length != body.at + 4 or crc32c(raw[:body.at]) != body.number(4):
        raise ValueError("does not verify")
    return {"epoch": epoch, "lsn": lsn, "floor": floor, "created": created, "documents": ids[0], "chunks": ids[1],
            "metadata": metadata, "snapshot_sha256": hashlib.sha256(snapshot).hexdigest(), "snapshot_len": len(snapshot)}


def main(arguments):
    if arguments == ["--self-test"]:
        from self_test import self_test
        return self_test()
    write = arguments[:1] == ["--write"]
    if len(arguments) != 1 + write:
        sys.exit(__doc__)
    try:
        if write:
            with open(f"{Path(arguments[1])}.jsonl", "w", newline="\n") as out:
                return Log(arguments[1]).print(out)
        Log(arguments[0]).print(sys.stdout)
    except Unreadable as why:
        sys.exit(f"reader: {why}")


if __name__ == "__main__":
    main(sys.argv[1:])
