//! The native side of duralog.
