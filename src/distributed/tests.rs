//! Sums and gathers over ranks of this process.

use std::sync::mpsc::channel;

use super::communicator::Communicator;

fn on_ranks<T: Send>(size: usize, f: impl Fn(Communicator) -> T + Sync) -> Vec<T> {
    let ranks = Communicator::threads(size).unwrap();
    std::thread::scope(|scope| {
        let f = &f;
        let spawn = |rank| scope.spawn(move || f(rank));
        let threads: Vec<_> = ranks.into_iter().map(spawn).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// A rank's term of a sum whose bits depend on the order of its terms.
fn term(rank: usize, i: usize) -> f32 {
    ((rank * 31 + i * 7 + 3) as f32).sin() * 10f32.powi((i % 9) as i32 - 4)
}

#[test]
fn sums_are_those_of_the_ranks_order_on_all_ranks() {
    for size in [1, 2, 3, 5] {
        // More than travel at once, of lengths that the ranks do not divide, and none.
        let lens = [1usize, 0, 2, 10, 10_007, 3, 5];
        let found = on_ranks(size, |rank| {
            let (reply, done) = channel();
            for (index, len) in lens.into_iter().enumerate() {
                let own = (0..len).map(|i| term(rank.rank(), i)).collect();
                rank.begin_sum(index, own, &reply);
            }
            // Meanwhile.
            let gathered = rank.gather(vec![rank.rank() as u8; rank.rank()]).unwrap();
            let expected: Vec<_> = (0..size).map(|r| vec![r as u8; r]).collect();
            assert_eq!(gathered, expected);
            let mut sums = vec![Vec::new(); lens.len()];
            for _ in lens {
                if !rank.is_alone() {
                    let (index, values) = rank.wait(&done).unwrap();
                    sums[index] = values;
                }
            }
            sums
        });
        if size == 1 {
            continue;
        }
        for sums in found {
            for (sum, len) in sums.iter().zip(lens) {
                let expected = (0..len).map(|i| {
                    let terms = (0..size).map(|rank| term(rank, i));
                    terms.reduce(|a, b| a + b).unwrap().to_bits()
                });
                assert!(
                    sum.iter().map(|v| v.to_bits()).eq(expected),
                    "{size}, {len}"
                );
            }
        }
    }
}

#[test]
fn what_is_sent_is_counted() {
    let found = on_ranks(3, |rank| {
        rank.gather(vec![0; 10]).unwrap();
        let (reply, done) = channel();
        rank.begin_sum(0, vec![1.0; 9], &reply);
        rank.wait(&done).unwrap();
        rank.traffic()
    });
    for traffic in found {
        // Ten bytes to two ranks; a third of nine floats to each of two, and its own third's sum.
        assert_eq!((traffic.messages, traffic.bytes), (6, 20 + 2 * 12 + 2 * 12));
    }
}

#[test]
fn a_program_alone_has_nobody_to_wait_for() {
    let alone = Communicator::alone();
    assert!(alone.is_alone() && alone.is_first());
    assert_eq!(alone.gather(vec![7]).unwrap(), [[7]]);
    assert_eq!(alone.broadcast(vec![8]).unwrap(), [8]);
    assert!(alone.any(true).unwrap() && !alone.any(false).unwrap());
    let mut values = [0.5];
    alone.sum(&mut values).unwrap();
    assert_eq!(values, [0.5]);
    assert!(Communicator::threads(0).is_err());
}

#[test]
fn ranks_of_other_numbers_of_values_are_named() {
    let found = on_ranks(2, |rank| {
        let (reply, done) = channel();
        rank.begin_sum(0, vec![1.0; 4 + rank.rank()], &reply);
        rank.wait(&done).unwrap_err().to_string()
    });
    // Rank 0 adds the first two values of its four, rank 1 the last three of its five.
    let text = &found[1];
    assert!(
        text.contains("rank 0 exchanges 2 values where this one has 3"),
        "{text}"
    );
}
