//! What the processor uses, where Linux shows it (powercap).

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The counters of the processor's packages, in microjoules.
#[derive(Debug)]
pub(super) struct Energy {
    counters: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    file: PathBuf,
    /// The counter begins again after this.
    range: u64,
    last: u64,
}

fn number(file: &Path) -> Option<u64> {
    read_to_string(file).ok()?.trim().parse().ok()
}

impl Energy {
    /// The counters that can be read under `/sys/class/powercap` (usually by root only).
    pub(super) fn new() -> Self {
        Self::at(Path::new("/sys/class/powercap"))
    }

    fn at(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        // intel-rapl:0 is a package, intel-rapl:0:0 a part of it.
        let packages = entries.filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("intel-rapl:") && name.matches(':').count() == 1
        });
        let counters = packages.filter_map(|entry| {
            let file = entry.path().join("energy_uj");
            Some(Counter {
                last: number(&file)?,
                range: number(&entry.path().join("max_energy_range_uj"))?,
                file,
            })
        });
        Self {
            counters: counters.collect(),
        }
    }

    /// Joules since the last call; `None` where they are not shown.
    pub(super) fn used(&mut self) -> Option<f64> {
        let mut sum = 0;
        for counter in &mut self.counters {
            let now = number(&counter.file)?;
            sum += match now.checked_sub(counter.last) {
                Some(used) => used,
                None => now.checked_add(counter.range)?.checked_sub(counter.last)?,
            };
            counter.last = now;
        }
        (!self.counters.is_empty()).then_some(sum as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_summed_and_counters_begin_again() {
        let folder = tempfile::tempdir().unwrap();
        let set = |name: &str, value: u64| {
            let package = folder.path().join(name);
            std::fs::create_dir_all(&package).unwrap();
            std::fs::write(package.join("energy_uj"), format!("{value}\n")).unwrap();
            std::fs::write(package.join("max_energy_range_uj"), "10000000\n").unwrap();
        };
        assert_eq!(Energy::at(folder.path()).used(), None);
        set("intel-rapl:0", 9_000_000);
        set("intel-rapl:0:0", 1);
        set("intel-rapl:1", 500_000);
        let mut energy = Energy::at(folder.path());
        set("intel-rapl:0", 1_000_000);
        set("intel-rapl:0:0", 777);
        set("intel-rapl:1", 1_000_000);
        assert_eq!(energy.used(), Some(2.5));
        assert_eq!(energy.used(), Some(0.0));
    }
}
