//! Gives the linker the memory of the board that the target stands for.

use std::{env, fs, path::Path};

fn main() {
    let target = env::var("TARGET").unwrap_or_default();
    let Some(name) = ["thumbv7m", "thumbv7em", "riscv32imc"].into_iter().find(|name| {
        target.strip_prefix(name).is_some_and(|rest| rest.starts_with("-unknown-none") || rest.starts_with("-none"))
    }) else {
        // The host builds the library alone.
        return;
    };
    let memory = Path::new("memory").join(name).with_extension("x");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::copy(&memory, Path::new(&out).join("memory.x")).expect("the memory layout can be copied");
    println!("cargo:rerun-if-changed={}", memory.display());
    println!("cargo:rustc-link-search={out}");
    if name.starts_with("riscv") {
        println!("cargo:rustc-link-arg-bins=-Tmemory.x");
    }
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
}
