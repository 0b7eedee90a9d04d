//! Reports and figures as objects of JavaScript.

use duralog::{Finding, Lsn, Object, Policy, Rebuilt, RecoveryReport, Snapshot, Stats};

use crate::{error::place, host::Host};

/// Builds the report of a recovery.
pub(crate) fn report(host: &Host, report: &RecoveryReport) {
    host.id(report.log_id.as_bytes());
    host.lsn("epoch", report.epoch);
    let policy = POLICIES.iter().position(|policy| *policy == report.policy).unwrap_or_default();
    host.lsn("policy", policy as u64);
    host.flag("created", report.created);
    host.lsn("entriesRecovered", report.entries_recovered);
    host.lsn("entriesSkipped", report.entries_skipped);
    host.lsn("entriesReplayed", report.entries_replayed);
    host.lsn("lastValidLsn", report.last_valid_lsn.value());
    host.lsn("lowWaterMark", report.low_water.value());
    host.lsn("durableLsn", report.durable_lsn.value());
    if let Some((first, last)) = report.verified {
        range(host, "verified", first, last);
    }
    if let Some((id, lsn)) = report.checkpoint_used {
        host.part("checkpointUsed");
        host.lsn("id", id.value());
        host.lsn("lsn", lsn.value());
        host.end();
    }
    if let Some(torn) = report.torn_tail {
        host.part("tornTail");
        host.text("verdict", torn.verdict.name());
        host.text("segment", &torn.segment.to_string());
        host.count("offset", torn.offset.into());
        host.count("bytes", torn.len.into());
        host.count("frames", torn.frames.into());
        host.end();
    }
    for found in &report.findings {
        finding(host, found);
    }
    host.lsn("acceptedLoss", report.accepted_loss.value());
    host.lsn("repersisted", report.repersisted);
    host.flag("closed", report.closed);
    host.flag("clean", report.clean);
    host.flag("writable", report.writable);
    host.flag("success", report.success);
    host.lsn("durationUs", report.duration_us);
}

/// Builds what was found at a place.
pub(crate) fn finding(host: &Host, finding: &Finding) {
    host.part("findings");
    host.text("verdict", finding.verdict.name());
    host.text("message", &finding.to_string());
    host.text("place", &place(finding.object, finding.offset));
    if let Some((first, last)) = finding.lsns {
        range(host, "lsns", first, last);
    }
    host.flag("harmless", finding.harmless);
    host.end();
}

fn range(host: &Host, field: &str, first: Lsn, last: Lsn) {
    host.part(field);
    host.lsn("first", first.value());
    host.lsn("last", last.value());
    host.end();
}

/// Builds the figures of a log.
pub(crate) fn stats(host: &Host, stats: &Stats) {
    host.lsn("currentLsn", stats.current_lsn.value());
    host.lsn("syncedLsn", stats.synced_lsn.value());
    host.lsn("lastCheckpointLsn", stats.last_checkpoint_lsn.map_or(0, Lsn::value));
    for (field, value) in [
        ("totalSegments", stats.total_segments),
        ("totalSizeBytes", stats.total_size_bytes),
        ("appends", stats.appends),
        ("groups", stats.groups),
        ("syncs", stats.syncs),
        ("bytesWritten", stats.bytes_written),
    ] {
        // Counts of one session and bytes of one browser stay far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        host.count(field, value as f64);
    }
}

/// The policies, in the order of their words in `engine.js`.
pub(crate) const POLICIES: [Policy; 5] =
    [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect];

/// Builds how a state was built up.
pub(crate) fn rebuilt(host: &Host, rebuilt: &Rebuilt) {
    host.lsn("entriesReplayed", rebuilt.entries_replayed);
    if let Some((id, lsn)) = rebuilt.checkpoint_used {
        host.part("checkpointUsed");
        host.lsn("id", id.value());
        host.lsn("lsn", lsn.value());
        host.end();
    }
    for (id, why) in &rebuilt.checkpoints_rejected {
        host.part("checkpointsRejected");
        host.lsn("id", id.value());
        host.text("message", why);
        host.end();
    }
    for lsn in &rebuilt.undecodable {
        host.part("undecodableEntries");
        host.lsn("lsn", lsn.value());
        host.end();
    }
    for found in &rebuilt.findings {
        finding(host, found);
    }
}

/// Builds what a checkpoint holds.
pub(crate) fn snapshot(host: &Host, snapshot: &Snapshot) {
    for (list, ids) in [("documentIds", &snapshot.document_ids), ("chunkIds", &snapshot.chunk_ids)] {
        for id in ids {
            host.part(list);
            host.id(id.as_bytes());
            host.end();
        }
    }
    host.part("metadata");
    for (key, value) in &snapshot.metadata {
        host.text(key, value);
    }
    host.end();
    host.bytes(&snapshot.bytes);
}

/// Builds the list of a log's objects.
pub(crate) fn objects(host: &Host, objects: &[(Object, u64)]) {
    for (object, len) in objects {
        host.part("objects");
        host.text("name", &object.to_string());
        // Objects are far smaller than 2^53 bytes.
        #[allow(clippy::cast_precision_loss)]
        host.count("length", *len as f64);
        host.end();
    }
}
