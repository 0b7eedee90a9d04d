//! What a firmware would log can be given to `defmt`. A type that cannot fails to compile here.
#![cfg(feature = "defmt")]
#![allow(missing_docs)]

use defmt::Format;
use duralog_core::{
    Action, Appended, Cause, CheckpointId, Consent, Consequence, Durability, Entry, Error, ErrorKind, Exhausted, Fault,
    Finding, Flow, Geometry, InvalidOptions, Judged, LogError, LogStats, Lsn, Object, OldWriter, OpenError, Policy,
    Report, Retention, Room, Seen, SegmentId, StageError, TakeOverError, TornTail, TransactionEnd, Verdict, Witness,
    checkpoint::{CheckpointError, CheckpointHeader, Section},
    frame::{FrameHeader, FrameType, Mark, NotAFrame, NotAMark},
    meta::{Meta, MetaError},
    operation::{Code, DecodeError, EncodeError, Kind},
    segment::{NotAHeader, SegmentHeader},
};

fn is_logged<T: Format>() {}

#[test]
fn whatever_a_firmware_logs_has_a_format() {
    // Why something failed; of a device whose errors are numbers.
    is_logged::<(Error<u8>, LogError<u8>, OpenError<u8>, Fault, StageError, TakeOverError)>();
    is_logged::<(InvalidOptions, Exhausted, EncodeError, DecodeError, CheckpointError, MetaError)>();
    is_logged::<(NotAFrame, NotAMark, NotAHeader, ErrorKind, Action, Cause)>();
    // What recovery found.
    is_logged::<(Report, Finding, Verdict, Seen, Witness, TornTail)>();
    // What a call returns.
    is_logged::<(Appended, Durability, LogStats, Judged, Consequence)>();
    // What these are made of, and what is asked for.
    is_logged::<(Lsn, CheckpointId, SegmentId, Object, Kind, Code)>();
    is_logged::<(Entry<'_>, Flow, FrameHeader, FrameType, Mark<'_>, Section)>();
    is_logged::<(Geometry, SegmentHeader, CheckpointHeader, Meta, Room, OldWriter)>();
    is_logged::<(Policy, Retention, Consent, TransactionEnd)>();
}
