//! Fuzzes the reader of model and checkpoint files: no input may panic, and what is accepted must
//! write and read back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use neuralef::persist::Archive;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(archive) = Archive::from_bytes(bytes) {
        let written = archive.to_bytes().expect("an accepted archive can be written");
        let again = Archive::from_bytes(&written).expect("a written archive can be read");
        assert!(again == archive);
    }
});
