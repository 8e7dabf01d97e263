//! Makes `data/fashion_mnist_subset.zip`, the data set that comes with the crate, from the whole of
//! Fashion-MNIST.
//!
//!     cargo run --release --example make_bundled_data -- --from DIR
//!
//! DIR has the four files of Fashion-MNIST (`train-images-idx3-ubyte.gz`, ...). The same seed and
//! the same versions of the dependencies (`Cargo.lock`) write the same bytes.

use std::error::Error;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use clap::Parser;
use ssprop::data::{self, ImageDataset};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

#[derive(Parser)]
#[command(about = "Makes the bundled part of Fashion-MNIST")]
struct Args {
    /// Folder, zip or tar.gz with the four files of Fashion-MNIST
    #[arg(long)]
    from: PathBuf,
    /// The zip to write
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/fashion_mnist_subset.zip"))]
    to: PathBuf,
    /// Decides which images are taken
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Training images, the same number of each class
    #[arg(long, default_value_t = 6000)]
    train: usize,
    /// Test images, the same number of each class
    #[arg(long, default_value_t = 1000)]
    test: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let (train, test) = data::fashion_mnist(&args.from)?;
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data, n) in [("train", train, args.train), ("t10k", test, args.test)] {
        let part = data.shuffled(args.seed).take_balanced(n);
        add(&mut zip, name, &part)?;
        println!(
            "{name}: {} images, by class {:?}",
            part.len(),
            part.class_counts()
        );
    }
    let bytes = zip.finish()?.into_inner();
    // Written beside its place and renamed, so that a half-written file never has its name.
    let partial = args.to.with_extension("zip.partial");
    std::fs::write(&partial, &bytes)?;
    std::fs::rename(&partial, &args.to)?;
    println!("{}: {} bytes", args.to.display(), bytes.len());
    Ok(())
}

/// Adds the two IDX files of `data`, with a fixed time and fixed permissions.
fn add(
    zip: &mut ZipWriter<Cursor<Vec<u8>>>,
    name: &str,
    data: &ImageDataset,
) -> Result<(), Box<dyn Error>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let (images, labels) = data::encode_idx(data)?;
    zip.start_file(format!("{name}-images-idx3-ubyte"), options)?;
    zip.write_all(&images)?;
    zip.start_file(format!("{name}-labels-idx1-ubyte"), options)?;
    zip.write_all(&labels)?;
    Ok(())
}
