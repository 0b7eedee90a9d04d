//! `duralog-bindgen MODULE FOLDER`: makes the JavaScript that goes with a WebAssembly module.

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(module), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: duralog-bindgen MODULE FOLDER");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module);
    let made = bindgen.web(true).and_then(|bindgen| bindgen.typescript(false).omit_default_module_path(true).generate(folder));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duralog-bindgen: {error:?}");
            ExitCode::FAILURE
        }
    }
}
