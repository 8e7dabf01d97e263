//! What a pool keeps, by size and age.
//!
//! A pool counts its time in *steps*. A step ends when everything that was handed out has come back:
//! for activations that is a training step, a batch of an evaluation or a step of sampling, for
//! gradients a backward pass or a part of one. Where several networks train at once, so that something
//! is out all the time, it ends after [`TURNOVER`] times the most that was out at one time has been
//! handed out. What a step *needs* is the sum over sizes of the most buffers of that size that were
//! out at one time. A pool keeps, together with what is out, at most the largest need of the last
//! [`RECENT`] steps plus [`SLACK`]; beyond that it frees the sizes that were used longest ago.
//!
//! A step like the one before it allocates and frees nothing, nor do different ones in turn that fit
//! into the bound together.

use std::collections::{BTreeMap, VecDeque};

/// The steps whose largest need is kept.
pub(super) const RECENT: usize = 64;
/// Bytes that may be kept beyond that.
const SLACK: usize = 64 << 20;
/// If buffers stay in use all the time, a step ends after it has handed out this many times its peak usage.
const TURNOVER: usize = 16;

/// Memory of one kind, by length.
#[derive(Debug)]
pub(super) struct Pool<V> {
    classes: BTreeMap<usize, SizeClass<V>>,
    element_bytes: usize,
    /// Smaller buffers are not kept.
    smallest: usize,
    /// Bytes handed out, and bytes kept.
    live: usize,
    idle: usize,
    /// The number of the step, and what it has needed and handed out so far, in bytes.
    pub(super) step: u64,
    need: usize,
    turnover: usize,
    /// The most bytes that were handed out at one time in the step.
    peak: usize,
    /// The needs of the last steps.
    recent: VecDeque<usize>,
}

/// The buffers of one length.
#[derive(Debug)]
struct SizeClass<V> {
    idle: Vec<V>,
    live: usize,
    /// The most that were handed out at one time in step number `step`, the last in which one was.
    peak: usize,
    step: u64,
}

impl<V> Pool<V> {
    pub(super) const fn new(element_bytes: usize, smallest: usize) -> Self {
        Self {
            classes: BTreeMap::new(),
            element_bytes,
            smallest,
            live: 0,
            idle: 0,
            step: 0,
            need: 0,
            turnover: 0,
            peak: 0,
            recent: VecDeque::new(),
        }
    }

    /// A kept buffer of `len` elements, or `None` if the caller has to allocate one, and buffers to
    /// free.
    pub(super) fn take(&mut self, len: usize) -> (Option<V>, Vec<V>) {
        if len < self.smallest {
            return (None, Vec::new());
        }
        let bytes = len * self.element_bytes;
        let step = self.step;
        let class = self.classes.entry(len).or_insert_with(|| SizeClass {
            idle: Vec::new(),
            live: 0,
            peak: 0,
            step,
        });
        if class.step != step {
            (class.step, class.peak) = (step, 0);
        }
        class.live += 1;
        if class.live > class.peak {
            class.peak = class.live;
            self.need += bytes;
        }
        self.live += bytes;
        self.peak = self.peak.max(self.live);
        self.turnover += bytes;
        let buffer = class.idle.pop();
        if buffer.is_some() {
            self.idle -= bytes;
        }
        let freed = match buffer {
            Some(_) => Vec::new(),
            None => self.evict(),
        };
        (buffer, freed)
    }

    /// Undoes a [`take`](Self::take) whose buffer could not be allocated.
    pub(super) fn forget(&mut self, len: usize) {
        let bytes = len * self.element_bytes;
        let Some(class) = self.classes.get_mut(&len) else {
            return;
        };
        if class.live == class.peak {
            class.peak -= 1;
            self.need -= bytes;
        }
        class.live -= 1;
        self.live -= bytes;
        self.turnover = self.turnover.saturating_sub(bytes);
    }

    /// Takes a buffer back, and returns buffers to free.
    pub(super) fn put(&mut self, len: usize, buffer: V) -> Vec<V> {
        let bytes = len * self.element_bytes;
        match self.classes.get_mut(&len) {
            Some(class) if class.live > 0 => {
                class.live -= 1;
                class.idle.push(buffer);
            }
            // Too small to keep.
            _ => return vec![buffer],
        }
        self.live -= bytes;
        self.idle += bytes;
        if self.live == 0 || self.turnover / TURNOVER > self.peak {
            return self.end_step();
        }
        Vec::new()
    }

    fn end_step(&mut self) -> Vec<V> {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(self.need);
        self.begin_step();
        self.evict()
    }

    fn begin_step(&mut self) {
        self.step += 1;
        (self.need, self.peak, self.turnover) = (self.live, self.live, 0);
        for class in self.classes.values_mut().filter(|class| class.live > 0) {
            (class.step, class.peak) = (self.step, class.live);
        }
    }

    /// The bytes that may be handed out and kept together.
    fn limit(&self) -> usize {
        let recent = self.recent.iter().copied().max().unwrap_or(0);
        recent.max(self.need).saturating_add(SLACK)
    }

    /// Takes out what is beyond the limit: first what was used longest ago, and nothing that this
    /// step has needed.
    fn evict(&mut self) -> Vec<V> {
        let limit = self.limit();
        let mut freed = Vec::new();
        while self.live + self.idle > limit {
            let step = self.step;
            let surplus = |class: &SizeClass<V>| {
                let needed = if class.step == step {
                    class.peak
                } else {
                    class.live
                };
                class.idle.len().saturating_sub(needed - class.live)
            };
            let oldest = self
                .classes
                .iter_mut()
                .filter(|(_, class)| surplus(class) > 0)
                .min_by_key(|(_, class)| class.step);
            let Some((&len, class)) = oldest else { break };
            freed.extend(class.idle.pop());
            self.idle -= len * self.element_bytes;
            if class.idle.is_empty() && class.live == 0 {
                self.classes.remove(&len);
            }
        }
        freed
    }

    /// Takes out all that is kept, and forgets what earlier steps needed.
    pub(super) fn clear(&mut self) -> Vec<V> {
        self.recent.clear();
        self.idle = 0;
        let mut freed = Vec::new();
        self.classes.retain(|_, class| {
            freed.append(&mut class.idle);
            class.live > 0
        });
        self.begin_step();
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;
    const SMALLEST: usize = 1024;

    /// Counts what it would allocate and free, in buffers of `len` megabytes.
    struct Model {
        pool: Pool<usize>,
        allocated: usize,
        freed: usize,
    }

    impl Model {
        fn new() -> Self {
            let pool = Pool::new(1, SMALLEST);
            Self {
                pool,
                allocated: 0,
                freed: 0,
            }
        }

        /// Takes the buffers, one after the other, and gives all of them back.
        fn step(&mut self, megabytes: &[usize]) {
            for &m in megabytes {
                let (buffer, freed) = self.pool.take(m * MB);
                self.allocated += usize::from(buffer.is_none());
                self.freed += freed.len();
            }
            for &m in megabytes {
                self.freed += self.pool.put(m * MB, m).len();
            }
        }

        fn kept(&self) -> usize {
            assert_eq!(self.pool.live, 0);
            let sum = |(len, class): (&usize, &SizeClass<usize>)| len * class.idle.len();
            assert_eq!(
                self.pool.idle,
                self.pool.classes.iter().map(sum).sum::<usize>()
            );
            self.pool.idle / MB
        }
    }

    #[test]
    fn a_step_like_the_one_before_allocates_and_frees_nothing() {
        let mut model = Model::new();
        model.step(&[300, 200, 200, 100]);
        assert_eq!((model.allocated, model.kept()), (4, 800));
        for _ in 0..200 {
            model.step(&[300, 200, 200, 100]);
            model.step(&[200, 300]);
        }
        assert_eq!((model.allocated, model.freed, model.kept()), (4, 0, 800));
    }

    #[test]
    fn what_is_kept_is_bounded_by_the_largest_recent_step() {
        let mut model = Model::new();
        for round in 1..50 {
            // Other sizes each time, none larger than 900 MB in all.
            model.step(&[400 + round, 400 - round]);
            model.step(&[100 + round, 50]);
            assert!(model.kept() <= 850 + SLACK / MB, "{}", model.kept());
        }
        // After the last of the large ones, room for the small ones is all that is left.
        for _ in 0..RECENT {
            model.step(&[10, 20]);
        }
        assert!(model.kept() <= 30 + SLACK / MB, "{}", model.kept());
        // Small networks that take turns keep all they need.
        let before = model.allocated;
        model.step(&[7, 7]);
        for _ in 0..100 {
            model.step(&[10, 20]);
            model.step(&[7, 7]);
        }
        assert_eq!(model.allocated, before + 2);
    }

    #[test]
    fn steps_that_overlap_end_too() {
        let mut model = Model::new();
        // Held all the time, as another thread's step would.
        model.pool.take(500 * MB);
        for round in 0..3000 {
            // Sizes that change slowly: without an end of steps all of them would be kept.
            model.step_within(&[300 + round / 100, 200]);
            let all = (model.pool.live + model.pool.idle) / MB;
            // Two sizes in turn and the one that is held, as long as a step lasts.
            assert!(
                all <= 500 + 2 * 330 + 200 + SLACK / MB,
                "round {round}: {all}"
            );
        }
        assert_eq!(model.pool.put(500 * MB, 500).len(), 0);
        for _ in 0..RECENT {
            model.step(&[100]);
        }
        assert!(model.kept() <= 100 + SLACK / MB);
    }

    impl Model {
        fn step_within(&mut self, megabytes: &[usize]) {
            for &m in megabytes {
                self.pool.take(m * MB);
            }
            for &m in megabytes {
                self.pool.put(m * MB, m);
            }
        }
    }

    #[test]
    fn sizes_that_never_come_back_do_not_pile_up() {
        let mut model = Model::new();
        model.pool.take(500 * MB);
        for round in 0..1000 {
            model.step_within(&[300 + round, 200]);
            let all = (model.pool.live + model.pool.idle) / MB;
            let most = 500 + 300 + round + 200;
            assert!(all <= (TURNOVER + 2) * most, "round {round}: {all}");
        }
    }

    #[test]
    fn a_step_that_ends_half_way_counts_what_is_out_once() {
        let mut pool = Pool::<usize>::new(1, SMALLEST);
        for _ in 0..5 {
            pool.take(300 * MB);
        }
        pool.take(MB);
        pool.end_step();
        for _ in 0..5 {
            pool.put(300 * MB, 300);
        }
        for _ in 0..5 {
            pool.take(300 * MB);
        }
        assert_eq!(pool.need, 1501 * MB);
    }

    #[test]
    fn small_and_foreign_buffers_are_not_kept() {
        let mut pool = Pool::<usize>::new(4, SMALLEST);
        assert_eq!(pool.take(SMALLEST - 1), (None, vec![]));
        assert_eq!(pool.put(SMALLEST - 1, 1), [1]);
        assert_eq!(pool.put(SMALLEST, 2), [2]);
        assert_eq!((pool.live, pool.idle), (0, 0));
    }

    #[test]
    fn what_could_not_be_allocated_does_not_count() {
        let mut model = Model::new();
        model.pool.take(100 * MB);
        model.pool.forget(100 * MB);
        assert_eq!((model.pool.need, model.pool.turnover), (0, 0));
        model.step(&[50]);
        assert_eq!(model.kept(), 50);
    }

    #[test]
    fn clearing_leaves_what_is_handed_out_to_come_back() {
        let mut model = Model::new();
        model.step(&[100, 50]);
        model.pool.take(100 * MB);
        assert_eq!(model.pool.clear().len(), 1);
        model.pool.put(100 * MB, 100);
        assert_eq!(model.kept(), 100);
    }
}
