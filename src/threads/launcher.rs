//! What MPI's launchers (`mpirun`, `mpiexec`, `srun`) tell the processes that they start, in the
//! environment: a program started as `mpirun -n 2 cargo run` inherits it from cargo.

/// How this process was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Launched {
    /// This process's rank, below `size`.
    pub(crate) rank: usize,
    /// The number of ranks.
    pub(crate) size: usize,
    /// How many of them are on this host, if the launcher says so (`srun` does not).
    pub(crate) on_this_host: Option<usize>,
}

/// The variables of a rank, of the number of ranks, and of that on this host.
const VARIABLES: [[&str; 3]; 3] = [
    // Open MPI
    [
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ],
    // MPICH and its kin; Slurm with PMI 1 and 2, without the last.
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"],
    // Slurm with PMIx, which says all but the number of ranks.
    ["PMIX_RANK", "SLURM_STEP_NUM_TASKS", "MPI_LOCALNRANKS"],
];

/// How this process was launched, if it was by a launcher of MPI's.
pub(crate) fn launched() -> Option<Launched> {
    read(|name| std::env::var(name).ok())
}

fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.parse().ok();
    VARIABLES.iter().find_map(|[rank, size, on_this_host]| {
        let (rank, size) = (number(rank)?, number(size)?);
        let on_this_host = number(on_this_host);
        (rank < size).then_some(Launched {
            rank,
            size,
            on_this_host,
        })
    })
}

/// How many threads this process should have beside its neighbours: its share of the host's cores. `None` if
/// it has no neighbours, or the launcher has bound it to cores of its own.
pub(super) fn share_of_cores() -> Option<usize> {
    let neighbours = launched()?.on_this_host.filter(|&ranks| ranks > 1)?;
    let read = |file| std::fs::read_to_string(file).ok();
    let online = count(&read("/sys/devices/system/cpu/online")?)?;
    let status = read("/proc/self/status")?;
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    (count(allowed)? >= online).then(|| (online / neighbours).max(1))
}

/// The numbers in a list like `0-3,8,10-11`.
fn count(list: &str) -> Option<usize> {
    let range = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    list.trim().split(',').map(range).sum()
}

#[cfg(test)]
mod tests {
    use super::{count, read, Launched};

    fn of(variables: &[(&str, &str)]) -> Option<Launched> {
        read(|name| {
            let (_, value) = variables.iter().find(|(other, _)| *other == name)?;
            Some((*value).to_owned())
        })
    }

    #[test]
    fn launchers_are_told_apart_by_their_variables() {
        let open_mpi = of(&[
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("PMIX_RANK", "3"),
        ]);
        let expected = |rank, size, on_this_host| {
            Some(Launched {
                rank,
                size,
                on_this_host,
            })
        };
        assert_eq!(open_mpi, expected(3, 4, Some(2)));
        let mpich = [
            ("PMI_RANK", "0"),
            ("PMI_SIZE", "2"),
            ("MPI_LOCALNRANKS", "2"),
        ];
        assert_eq!(of(&mpich), expected(0, 2, Some(2)));
        let slurm = [("PMIX_RANK", "1"), ("SLURM_STEP_NUM_TASKS", "8")];
        assert_eq!(of(&slurm), expected(1, 8, None));
    }

    #[test]
    fn a_process_of_its_own_is_not_launched() {
        // A shell in an allocation of Slurm's is no step.
        assert_eq!(of(&[("SLURM_NTASKS", "8")]), None);
        assert_eq!(of(&[("PMI_RANK", "2"), ("PMI_SIZE", "2")]), None);
        assert_eq!(of(&[("PMI_RANK", "x"), ("PMI_SIZE", "2")]), None);
    }

    #[test]
    fn cores_are_counted() {
        assert_eq!(count("0-3,8,10-11\n"), Some(7));
        assert_eq!(count("0"), Some(1));
        assert_eq!([count(""), count("3-1"), count("a")], [None; 3]);
    }
}
