//! How much stack a call takes: the stack below the caller is painted before it, and read back afterwards.

/// Bytes below the caller that are painted: more than any call may take.
const PAINTED: usize = 24 * 1024;
const PAINT: u8 = 0xC5;
/// Bytes next to the caller that painting itself uses.
const MARGIN: usize = 256;

/// Calls `call` and returns what it gives, and the bytes of stack that it took.
#[inline(never)]
pub fn measured<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let top = address();
    paint(top);
    let result = apart(call);
    (result, depth(top))
}

/// In a frame of its own, below the place where painting begins: what is inlined into the call counts too.
#[inline(never)]
fn apart<T>(call: impl FnOnce() -> T) -> T {
    call()
}

#[inline(never)]
fn address() -> usize {
    let here = 0u8;
    core::hint::black_box(&raw const here) as usize
}

#[inline(never)]
fn paint(top: usize) {
    for at in top - PAINTED..top - MARGIN {
        // SAFETY: the stack is larger than what is painted, and nothing below this function's frame is in use.
        unsafe { core::ptr::write_volatile(at as *mut u8, PAINT) }
    }
}

#[inline(never)]
fn depth(top: usize) -> usize {
    // SAFETY: what was painted is readable.
    let first = (top - PAINTED..top).find(|at| unsafe { core::ptr::read_volatile(*at as *const u8) } != PAINT);
    top - first.unwrap_or(top)
}
