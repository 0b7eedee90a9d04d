//! What a tiny device may leave out of its code: parts of the core that are features, on by default.
//!
//! They never change the bytes on the medium. A build without a part refuses a log that needs it, by
//! [`Fault::LeftOut`](crate::Fault::LeftOut), and reads and writes every other log as any build does. Here alone stands which
//! of them are built: whoever asks is compiled away with the answer.

use core::fmt;

/// A part of the core that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Part {
    /// The feature `mending`: where a segment is missing or has lost its header, finding out what it was from those around
    /// it, and going on behind it. Without it such a log is refused where anything of it stands behind.
    Mending,
    /// The feature `metadata`: the metadata object, as a witness and as what a handle keeps up to date. Without it a log with
    /// one is refused, and [`LogOptions::metadata`](crate::LogOptions::metadata) with it.
    Metadata,
    /// The feature `checkpoints`: writing them, reading them, and what they witness. Without it a log that has one is
    /// refused, and entries are given up by [`Log::discard_before`](crate::Log::discard_before) alone.
    Checkpoints,
}

impl Part {
    /// Whether this build has it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Mending => cfg!(feature = "mending"),
            Self::Metadata => cfg!(feature = "metadata"),
            Self::Checkpoints => cfg!(feature = "checkpoints"),
        }
    }

    /// The name of its feature.
    #[must_use]
    pub const fn feature(self) -> &'static str {
        match self {
            Self::Mending => "mending",
            Self::Metadata => "metadata",
            Self::Checkpoints => "checkpoints",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.feature())
    }
}
