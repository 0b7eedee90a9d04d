//! A blocking device in the shape of an awaited one.

use core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use duralog::{
    Object,
    slots::{AsyncMedium, Info, Medium},
};
use duralog_core::{AsyncDevice, Device, Durability, Geometry, OldWriter, Room};

/// A device whose every call is pending once before it is done.
#[derive(Debug)]
pub struct Awaited<D>(pub D);

/// Pending the first time it is polled.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if core::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<D: Device> AsyncDevice for Awaited<D> {
    type Error = D::Error;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn old_writer(&self) -> OldWriter {
        self.0.old_writer()
    }

    fn reaches(&self, asked: Durability) -> Durability {
        self.0.reaches(asked)
    }

    fn free(&self) -> Option<u32> {
        self.0.free()
    }

    async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, D::Error> {
        Once(false).await;
        self.0.next(after)
    }

    async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, D::Error> {
        Once(false).await;
        self.0.prev(before)
    }

    async fn create(&mut self, object: Object, size: u64) -> Result<Room, D::Error> {
        Once(false).await;
        self.0.create(object, size)
    }

    async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, D::Error> {
        Once(false).await;
        self.0.read(object, at, buf)
    }

    async fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), D::Error> {
        Once(false).await;
        self.0.write(object, at, bytes)
    }

    async fn trim(&mut self, object: Object, at: u64) -> Result<(), D::Error> {
        Once(false).await;
        self.0.trim(object, at)
    }

    async fn remove(&mut self, object: Object) -> Result<(), D::Error> {
        Once(false).await;
        self.0.remove(object)
    }

    async fn sync(&mut self) -> Result<(), D::Error> {
        Once(false).await;
        self.0.sync()
    }
}

/// A medium of slots whose every call is pending once before it is done.
#[derive(Debug)]
pub struct Lazy<M>(pub M);

impl<M: Medium> AsyncMedium for Lazy<M> {
    type Error = M::Error;

    fn info(&self) -> Info {
        self.0.info()
    }

    async fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), M::Error> {
        Once(false).await;
        self.0.read(at, buf)
    }

    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), M::Error> {
        Once(false).await;
        self.0.write(at, bytes)
    }

    async fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), M::Error> {
        Once(false).await;
        self.0.erase(from, to, blank)
    }

    async fn flush(&mut self) -> Result<(), M::Error> {
        Once(false).await;
        self.0.flush()
    }
}

/// Polls a future at most `polls` times; `None` if it is still pending then, and it is dropped.
pub fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

/// Awaits what is not pending for ever.
///
/// # Panics
/// If it is.
pub fn now<F: Future>(future: F) -> F::Output {
    poll_times(future, 1_000_000).expect("it is not pending for ever")
}
