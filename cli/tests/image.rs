//! Images of a device's flash, read by the commands that read a folder.
#![allow(missing_docs)]

mod program;

use duralog::{
    core::{Log, LogOptions},
    slots::{Info, Layout, Medium, Slot, Slots},
};
use program::{code, ok, run};

/// Flash in memory.
struct Flash(Vec<u8>);

impl Medium for Flash {
    type Error = core::convert::Infallible;

    fn info(&self) -> Info {
        Info { capacity: 1 << 15, write_size: 8, erase_size: 1024, is_flash: true, is_settled: true }
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), Self::Error> {
        buf.copy_from_slice(&self.0[at as usize..][..buf.len()]);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), Self::Error> {
        self.0[from as usize..to as usize].fill(blank);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[test]
fn an_image_is_read_like_a_folder_and_imported_into_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut flash = Flash(vec![0xFF; 1 << 15]);
    let layout = Layout::new(flash.info(), 4096);
    let device = Slots::format(&mut flash, layout, [Slot::default(); 8]).unwrap();
    let mut buf = [0; 4096];
    let mut log = Log::format(device, &mut buf, LogOptions::default(), uuid::Uuid::from_u128(5), 0).unwrap();
    for n in 0..100u8 {
        log.append(0, &[n; 60][..]).unwrap();
    }
    log.close(0).unwrap();
    // What a programmer reads out begins before the log's slots.
    let image = folder.path().join("flash.bin");
    std::fs::write(&image, [vec![0x42; 2048], flash.0].concat()).unwrap();
    let image = image.to_str().unwrap();

    assert!(ok(&["verify", image]).contains("100"));
    assert!(ok(&["stat", image, "--json"]).contains("\"last_lsn\": 100") || ok(&["stat", image]).contains("100"));
    let lines = ok(&["export", image]);
    assert_eq!(lines.lines().count(), 100);
    let (file, dir) = (folder.path().join("lines"), folder.path().join("log"));
    std::fs::write(&file, &lines).unwrap();
    ok(&["import", dir.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(ok(&["export", dir.to_str().unwrap()]).lines().count(), 100);

    let other = folder.path().join("other.bin");
    std::fs::write(&other, [7; 9000]).unwrap();
    assert_ne!(code(&run(&["verify", other.to_str().unwrap()])), 0);
}
