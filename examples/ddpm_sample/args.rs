//! The flags.

use std::path::PathBuf;

use clap::Parser;
use ssprop::Error;

use common::args;
use common::ddpm::{scale as scale_of_guidance, Guidance, SamplerKind};
use common::device::Device;

/// The network that comes with the crate.
const SHIPPED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../data/ddpm_fashion_mnist.safetensors"
);

/// Draw images with a U-Net that takes noise away step by step
#[derive(Debug, Parser)]
pub struct Args {
    /// The grid of the images; its folder is made if it is missing
    #[arg(long, default_value = "samples.png", value_name = "FILE.png", value_parser = png)]
    pub out: PathBuf,
    /// A network that ddpm_train has trained: model.safetensors, or checkpoint.safetensors, of which
    /// the moving average is taken if it has one [default: the one that comes with the crate]
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Classes to draw in turn, by number or name: bag, "t-shirt,8,ankle boot" [default: all that the network
    /// was trained with]
    #[arg(long, value_name = "CLASS,..")]
    pub class: Option<String>,
    /// How strongly images are drawn to their class: 0 not at all, 1 as the network learnt it, more for clearer
    /// and less varied ones (then at twice the time) [default: 1]
    #[arg(long, value_parser = scale_of_guidance)]
    pub guidance: Option<f64>,
    /// Images to draw [default: eight rows of the grid]
    #[arg(long, value_parser = args::count)]
    pub count: Option<usize>,
    /// Decides the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How they are drawn
    #[arg(long, value_enum, default_value = "ddpm")]
    pub sampler: SamplerKind,
    /// Timesteps visited [default: all with ddpm, 50 with ddim]
    #[arg(long, value_parser = args::count)]
    pub steps: Option<usize>,
    /// Share of the noise that ddim draws on the way, 0 to 1 [default: 0]
    #[arg(long, value_parser = share)]
    pub eta: Option<f64>,
    /// Where the network runs
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    pub threads: Option<usize>,
    /// Also write the first images on their way from noise, 10 moments of each
    #[arg(long, value_name = "FILE.png", value_parser = png)]
    pub trajectory: Option<PathBuf>,
    /// Also write what the network expects the first images to become, at 10 moments
    #[arg(long, value_name = "FILE.png", value_parser = png)]
    pub predictions: Option<PathBuf>,
    /// Also write the grid on its way from noise, as an animated PNG of at most 50 moments, which browsers show
    #[arg(long, value_name = "FILE.png", value_parser = png)]
    pub animation: Option<PathBuf>,
    /// Images in a row of the grid [default: one of each class, or 8]
    #[arg(long, value_parser = args::count)]
    pub columns: Option<usize>,
    /// Every pixel becomes a square of this size
    #[arg(long, default_value = "2", value_parser = scale)]
    pub scale: usize,
}

impl Args {
    pub fn checkpoint(&self) -> PathBuf {
        self.checkpoint.clone().unwrap_or(SHIPPED.into())
    }

    /// Images, and columns of their grid.
    pub fn grid(&self, guidance: Option<&Guidance>) -> (usize, usize) {
        let classes = guidance.map_or(1, |guidance| guidance.classes.len());
        let columns = self
            .columns
            .unwrap_or(if classes > 1 { classes } else { 8 });
        (self.count.unwrap_or(8 * columns), columns)
    }

    /// The files to write, each another.
    pub fn files(&self) -> ssprop::Result<Vec<&PathBuf>> {
        let mut files = vec![&self.out];
        for (flag, file) in [
            ("--trajectory", &self.trajectory),
            ("--predictions", &self.predictions),
            ("--animation", &self.animation),
        ] {
            let Some(file) = file else { continue };
            if files.contains(&file) {
                let range = "a file that no other flag names";
                return Err(Error::parameter(flag, file.display(), range));
            }
            files.push(file);
        }
        Ok(files)
    }
}

fn png(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("png") => Ok(path),
        _ => Err("must be a file name that ends in .png".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number in 0..=1".into()),
    }
}

fn scale(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(scale) if (1..=32).contains(&scale) => Ok(scale),
        _ => Err("must be a whole number in 1..=32".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_out_of_range_name_the_value_and_the_range() {
        for (flag, value, range) in [
            ("--out", "a.jpg", ".png"),
            ("--trajectory", "a", ".png"),
            ("--count", "0", "at least 1"),
            ("--steps", "0", "at least 1"),
            ("--columns", "0", "at least 1"),
            ("--scale", "33", "1..=32"),
            ("--eta", "1.5", "0..=1"),
            ("--eta", "nan", "0..=1"),
            ("--guidance", "-1", "at least 0"),
            ("--guidance", "inf", "finite"),
            ("--sampler", "euler", "ddpm, ddim"),
            ("--device", "tpu", "cpu, cuda"),
            ("--threads", "0", "1..=1024"),
        ] {
            let arg = format!("{flag}={value}");
            let err = Args::try_parse_from(["ddpm_sample", &arg]).unwrap_err();
            let text = err.to_string();
            assert!(text.contains(value) && text.contains(range), "{text}");
            assert!(text.contains(flag), "{text}");
        }
    }

    #[test]
    fn every_picture_has_a_file_of_its_own() {
        let parse = |flags: &[&str]| Args::parse_from(["ddpm_sample"].iter().chain(flags));
        let args = parse(&["--out=a.png", "--trajectory=b.png"]);
        assert_eq!(args.files().unwrap().len(), 2);
        let args = parse(&["--trajectory=b.png", "--predictions=b.png"]);
        let err = args.files().unwrap_err().to_string();
        assert!(err.contains("--predictions = b.png"), "{err}");
    }
}
