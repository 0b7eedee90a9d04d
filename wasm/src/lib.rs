//! duralog for JavaScript: conversion between JavaScript's values and the log's.
//!
//! ```text
//! npm/engine.js ──► Engine: requests, by ticket ──► duralog::local ──► Medium ──► npm/indexeddb.js, files.js
//!               ◄── Host: outcomes, by ticket                              ◄── resume
//! ```
//!
//! No decision of the log is made here or in JavaScript. Nothing of JavaScript is held across an await: a request is
//! named by a number, its ticket, and its outcome is told to the host, which knows whose it is. One future at a time
//! waits for the medium; JavaScript calls `resume` when that has answered, which is all the executor that is needed.

mod engine;
mod error;
mod host;
mod medium;
mod report;

pub use engine::Engine;

#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();
