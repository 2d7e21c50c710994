//! Writes the seeds of every target into `seeds/`.

use std::path::Path;
use std::{fs, io};

use fulcrum_fuzz::{TARGETS, seeds};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (target, _) in TARGETS {
        let seeds = seeds::of(target);
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("{number:04}")), seed)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}
