//! A device that keeps its measurements in a log on flash. The host tells each life how long it lasts.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is firmware: `cargo xtask firmware` builds it for its boards and runs it in an emulator");
}

#[cfg(all(target_os = "none", not(feature = "count")))]
mod flash;
#[cfg(all(target_os = "none", feature = "all"))]
mod stack;

#[cfg(all(target_os = "none", feature = "all"))]
mod board;
#[cfg(all(target_os = "none", feature = "count"))]
#[path = "count.rs"]
mod board;
#[cfg(all(target_os = "none", not(any(feature = "all", feature = "count"))))]
#[path = "small.rs"]
mod board;

#[cfg(target_os = "none")]
mod start {
    use core::{cell::UnsafeCell, panic::PanicInfo};

    #[cfg(target_arch = "arm")]
    use cortex_m as _;
    use firmware::{BUFFER, FLASH};
    #[cfg(target_arch = "riscv32")]
    use riscv as _;
    use semihosting::{eprintln, process};

    /// Memory that the one task of this firmware has for ever.
    struct Memory<T>(UnsafeCell<T>);

    // SAFETY: there is one task and no interrupt that touches it.
    unsafe impl<T> Sync for Memory<T> {}

    static FLASH_COPY: Memory<[u8; FLASH]> = Memory(UnsafeCell::new([0; FLASH]));
    static WORK: Memory<[u8; BUFFER]> = Memory(UnsafeCell::new([0; BUFFER]));

    #[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
    #[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
    fn start() -> ! {
        // SAFETY: this function is entered once.
        let (flash, work) = unsafe { (&mut *FLASH_COPY.0.get(), &mut *WORK.0.get()) };
        crate::board::run(flash, work)
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        eprintln!("{info}");
        process::exit(1)
    }
}
