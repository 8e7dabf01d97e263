//! What is compared: ways to train one network, and a narrower one.

use clap::ValueEnum;
use ssprop::nn::RunSize;
use ssprop::prelude::*;
use ssprop::Error;

use crate::networks::{cost, Network};

/// Dropout of the arms that have it, the lower one of the paper's Table 6.
const DROPOUT: f64 = 0.2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Dense
    Dense,
    /// The paper's method: 80% of the channels, the least important ones, in every second epoch
    Ssprop,
    /// Dense, for as many epochs as cost ssProp's backward FLOPs
    Shorter,
    /// Dense, a network of 25/32 of the channels, which costs about ssProp's backward FLOPs
    Narrower,
    /// As ssprop, of random channels
    Random,
    /// As ssprop, the channels in turn
    Rotation,
    /// 40% of the channels, the least important ones, in every epoch
    Constant,
    /// 40% of the channels, random ones, in every epoch
    ConstantRandom,
    /// Dense, with dropout of 0.2
    Dropout,
    /// As ssprop, with dropout of 0.2
    SspropDropout,
}

impl Name {
    /// As tables have it.
    fn title(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Ssprop => "ssProp",
            Self::Shorter => "dense at ssProp's FLOPs, fewer epochs",
            Self::Narrower => "dense at ssProp's FLOPs, fewer channels",
            Self::Random => "ssProp, random channels",
            Self::Rotation => "ssProp, channels in turn",
            Self::Constant => "40% in every epoch",
            Self::ConstantRandom => "40% in every epoch, random channels",
            Self::Dropout => "dense, dropout",
            Self::SspropDropout => "ssProp, dropout",
        }
    }
}

/// Runs that differ by their seed only.
#[derive(Clone, Debug)]
pub struct Arm {
    pub title: String,
    pub network: Network,
    pub epochs: usize,
    pub schedule: Schedule,
    /// A random one gets the run's seed.
    pub selection: Selection,
    pub dropout: f64,
    /// Backward FLOPs of a run.
    pub flops: f64,
}

/// Whole dense epochs whose FLOPs come nearest to `scheduled`, at least one; `dense` are those of
/// `epochs` dense epochs.
fn same_flops_epochs(epochs: usize, scheduled: f64, dense: f64) -> usize {
    ((epochs as f64 * scheduled / dense).round() as usize).max(1)
}

impl Arm {
    /// # Errors
    /// [`Error::Parameter`] for an arm that only ResNet-18 has.
    pub fn new(name: Name, network: Network, size: RunSize) -> ssprop::Result<Self> {
        let mut arm = Self::of_schedule(Schedule::paper(), network, size)?;
        arm.title = name.title().into();
        let (seed, rescale) = (0, false);
        let constant = || DropRate::new(0.4).map(Schedule::constant);
        match name {
            Name::Ssprop => {}
            Name::Dense | Name::Narrower => arm.schedule = Schedule::DENSE,
            Name::Shorter => {
                let dense = Self::of_schedule(Schedule::DENSE, network, size)?.flops;
                arm.epochs = same_flops_epochs(arm.epochs, arm.flops, dense);
                arm.schedule = Schedule::DENSE;
            }
            Name::Random => arm.selection = Selection::Random { seed, rescale },
            Name::Rotation => arm.selection = Selection::Rotation { rescale },
            Name::Constant => arm.schedule = constant()?,
            Name::ConstantRandom => {
                arm.schedule = constant()?;
                arm.selection = Selection::Random { seed, rescale };
            }
            Name::Dropout => (arm.schedule, arm.dropout) = (Schedule::DENSE, DROPOUT),
            Name::SspropDropout => arm.dropout = DROPOUT,
        }
        if name == Name::Narrower || arm.dropout > 0.0 {
            if network != Network::HalfResNet18 {
                let range = "left out, or go with --network half-resnet18";
                return Err(Error::parameter("--arms", name.title(), range));
            }
            if name == Name::Narrower {
                arm.network = Network::Narrower;
            }
        }
        arm.counted(size)
    }

    /// The most important channels, by a schedule.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a run that is shorter than the warm-up.
    pub fn of_schedule(
        schedule: Schedule,
        network: Network,
        size: RunSize,
    ) -> ssprop::Result<Self> {
        let arm = Self {
            title: schedule.to_string(),
            network,
            epochs: size.epochs as usize,
            schedule,
            selection: Selection::TopK,
            dropout: 0.0,
            flops: 0.0,
        };
        arm.counted(size)
    }

    /// With the FLOPs of its epochs.
    fn counted(mut self, size: RunSize) -> ssprop::Result<Self> {
        let cost = cost(self.network)?.with_dropout(|_| self.dropout > 0.0);
        let epochs = self.epochs as u64;
        let run = cost.on_schedule(&self.schedule.into(), RunSize { epochs, ..size })?;
        self.flops = run.total.scheduled;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_of_the_same_flops_are_whole_and_at_least_one() {
        assert_eq!(same_flops_epochs(10, 62.0, 100.0), 6);
        assert_eq!(same_flops_epochs(10, 66.0, 100.0), 7);
        assert_eq!(same_flops_epochs(1, 0.2, 1.0), 1);
    }

    #[test]
    fn the_narrower_network_costs_what_ssprop_does() {
        let size = RunSize {
            images: 1000,
            batch: 50,
            epochs: 10,
        };
        let arm = |name| Arm::new(name, Network::HalfResNet18, size).unwrap();
        let [dense, ssprop, narrower] = [Name::Dense, Name::Ssprop, Name::Narrower].map(arm);
        assert!(
            (narrower.flops / ssprop.flops - 1.0).abs() < 0.03,
            "{narrower:?} {ssprop:?}"
        );
        assert!(ssprop.flops < 0.62 * dense.flops);
        assert!(Arm::new(Name::Narrower, Network::Small, size).is_err());
    }
}
