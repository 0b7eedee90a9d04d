//! The program `duralog`.
fn main() {}
