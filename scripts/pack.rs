//! Cargo's build script: compresses the files that travel with the program (RFC 1952), which takes
//! 80 kB off it.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo tells a build script where its files go");
    for name in ["page.html", "openapi.json"] {
        let source = Path::new("src/api").join(name);
        println!("cargo::rerun-if-changed={}", source.display());
        let text =
            fs::read(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let packed = encoder.write_all(&text).and_then(|()| encoder.finish());
        let packed = packed.expect("writing to memory cannot fail");
        let target = Path::new(&out).join(format!("{name}.gz"));
        fs::write(&target, packed).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
    }
}
