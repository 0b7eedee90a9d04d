//! What the handles lock, wait and run threads with: the standard library's, or under `cfg(loom)` those of the model
//! checker `loom`, which tries the orders in which threads can come. So it is these very modules that it tries.

#[cfg(loom)]
pub(crate) use loom::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard},
    thread, thread_local,
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard},
    thread, thread_local,
};
