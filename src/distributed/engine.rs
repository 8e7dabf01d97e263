//! The thread that exchanges messages with the other ranks, while the program computes.

mod watch;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::sum::Sum;
use super::transport::{Kind, Payload, Tag, Transport};
use crate::error::Result;

/// Sums that are under way at a time: one travels while another is added. More would only keep a gather
/// waiting behind them on the wire.
const WINDOW: usize = 4;
/// While a gather is under way the program waits for it: the thread looks for it all the time this long.
const SPIN_TIME: Duration = Duration::from_millis(2);
/// Between two looks otherwise. (What the program asks for wakes the thread.)
const BUSY_SLEEP: Duration = Duration::from_micros(100);
/// Between two looks when there is nothing to wait for.
const IDLE_SLEEP: Duration = Duration::from_millis(2);
/// A rank that has ended may have messages on the way.
const LATE: Duration = Duration::from_secs(2);
/// What the program asks of the thread.
pub(super) enum Command {
    /// To tell all ranks these bytes, and return theirs.
    Gather(Vec<u8>, Sender<Outcome<Vec<Vec<u8>>>>),
    /// To add these values over all ranks; the number comes back with them.
    Sum(usize, Vec<f32>, Sender<Outcome<(usize, Vec<f32>)>>),
    /// To give up after this time without an answer.
    Timeout(Duration),
    /// To tell the others that this rank ends, and why.
    End(String),
}

/// What comes back; an error is the text of why.
pub(super) type Outcome<T> = std::result::Result<T, String>;

/// What has been sent, and how it went.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Whether nothing is exchanged any more.
    pub(super) has_failed: AtomicBool,
}

struct Gather {
    number: u32,
    begun: Instant,
    found: Vec<Option<Vec<u8>>>,
    reply: Sender<Outcome<Vec<Vec<u8>>>>,
}

struct Running {
    sum: Sum,
    begun: Instant,
    index: usize,
    reply: Sender<Outcome<(usize, Vec<f32>)>>,
}

pub(super) struct Engine {
    transport: Box<dyn Transport>,
    commands: Receiver<Command>,
    counters: Arc<Counters>,
    /// Where each rank runs, once it is known.
    places: Arc<OnceLock<Vec<String>>>,
    timeout: Duration,
    gathers: Vec<Gather>,
    next_gather: u32,
    queue: VecDeque<(usize, Vec<f32>, Sender<Outcome<(usize, Vec<f32>)>>)>,
    sums: Vec<Running>,
    next_sum: u32,
    /// Messages of operations that have not begun here.
    early: HashMap<(usize, Tag), Payload>,
    /// When the program last asked for something.
    last_command: Instant,
    /// When a message last came.
    last_message: Instant,
    inquiry: Option<watch::Inquiry>,
    /// The ranks that have ended, since when and why.
    ended: Vec<Option<(Instant, String)>>,
    failure: Option<String>,
}

impl Engine {
    pub(super) fn new(
        transport: Box<dyn Transport>,
        commands: Receiver<Command>,
        counters: Arc<Counters>,
        places: Arc<OnceLock<Vec<String>>>,
        timeout: Duration,
    ) -> Self {
        let size = transport.size();
        let now = Instant::now();
        Self {
            transport,
            commands,
            counters,
            places,
            timeout,
            gathers: Vec::new(),
            next_gather: 0,
            queue: VecDeque::new(),
            sums: Vec::new(),
            next_sum: 0,
            early: HashMap::new(),
            last_command: now,
            last_message: now,
            inquiry: None,
            ended: (0..size).map(|_| None).collect(),
            failure: None,
        }
    }

    /// Works until the program ends.
    pub(super) fn run(mut self) {
        loop {
            match self.commands.recv_timeout(self.pause()) {
                Ok(Command::End(why)) => return self.end(why),
                Ok(command) => {
                    self.last_command = Instant::now();
                    let done = self.obey(command);
                    self.fail_on(done);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.end(String::new()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let progress = self.progress();
            self.fail_on(progress);
            self.watch();
        }
    }

    /// How long to wait for the program before the next look at the messages.
    fn pause(&self) -> Duration {
        if let Some(gather) = self.gathers.first() {
            if gather.begun.elapsed() < SPIN_TIME {
                std::thread::yield_now();
                return Duration::ZERO;
            }
        }
        let is_busy = !self.gathers.is_empty() || !self.sums.is_empty();
        match is_busy || !self.transport.is_sent() {
            true => BUSY_SLEEP,
            false => IDLE_SLEEP,
        }
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        if let Some(failure) = self.failure.clone() {
            match command {
                Command::Gather(_, reply) => drop(reply.send(Err(failure))),
                Command::Sum(_, _, reply) => drop(reply.send(Err(failure))),
                Command::Timeout(_) | Command::End(_) => {}
            }
            return Ok(());
        }
        match command {
            Command::Gather(bytes, reply) => self.begin_gather(bytes, reply),
            Command::Sum(index, values, reply) => {
                self.queue.push_back((index, values, reply));
                self.begin_sums()
            }
            Command::Timeout(timeout) => {
                self.timeout = timeout;
                Ok(())
            }
            Command::End(_) => Ok(()),
        }
    }

    fn send(&mut self, to: usize, tag: Tag, payload: Payload) -> Result<()> {
        Counted(&mut *self.transport, &self.counters).send(to, tag, payload)
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        let rank = self.transport.rank();
        (0..self.transport.size()).filter(move |&other| other != rank)
    }

    fn begin_gather(&mut self, bytes: Vec<u8>, reply: Sender<Outcome<Vec<Vec<u8>>>>) -> Result<()> {
        let number = next(&mut self.next_gather);
        let kind = Kind::Gather;
        for to in self.others() {
            let sent = self.send(to, Tag { kind, number }, Payload::Bytes(bytes.clone()));
            if let Err(err) = sent {
                let _ = reply.send(Err(err.to_string()));
                return Err(err);
            }
        }
        let mut found: Vec<_> = self.ended.iter().map(|_| None).collect();
        found[self.transport.rank()] = Some(bytes);
        for from in self.others() {
            if let Some(Payload::Bytes(bytes)) = self.early.remove(&(from, Tag { kind, number })) {
                found[from] = Some(bytes);
            }
        }
        self.gathers.push(Gather {
            number,
            begun: Instant::now(),
            found,
            reply,
        });
        self.finish_gathers();
        Ok(())
    }

    fn finish_gathers(&mut self) {
        self.gathers.retain_mut(|gather| {
            if gather.found.iter().any(Option::is_none) {
                return true;
            }
            let found = gather.found.drain(..).flatten().collect();
            // A program that no longer waits has no use for it.
            let _ = gather.reply.send(Ok(found));
            false
        });
    }

    /// Begins sums as long as few enough are under way.
    fn begin_sums(&mut self) -> Result<()> {
        while self.sums.len() < WINDOW {
            let Some((index, values, reply)) = self.queue.pop_front() else {
                return Ok(());
            };
            let number = next(&mut self.next_sum);
            let mut counted = Counted(&mut *self.transport, &self.counters);
            let sum = match Sum::begin(number, values, &mut counted) {
                Ok(sum) => sum,
                Err(err) => {
                    let _ = reply.send(Err(err.to_string()));
                    return Err(err);
                }
            };
            self.sums.push(Running {
                sum,
                begun: Instant::now(),
                index,
                reply,
            });
            for from in self.others() {
                for kind in [Kind::Part, Kind::Total] {
                    if let Some(payload) = self.early.remove(&(from, Tag { kind, number })) {
                        self.take(from, Tag { kind, number }, payload)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes all messages that have come, and goes on with what they are for.
    fn progress(&mut self) -> Result<()> {
        while let Some((from, tag, payload)) = self.transport.receive()? {
            self.last_message = Instant::now();
            self.take(from, tag, payload)?;
            self.finish_gathers();
            self.finish_sums();
            self.begin_sums()?;
        }
        Ok(())
    }

    fn take(&mut self, from: usize, tag: Tag, payload: Payload) -> Result<()> {
        let kind = tag.kind;
        match (kind, payload) {
            (Kind::Gather, Payload::Bytes(bytes)) => {
                match self.gathers.iter_mut().find(|g| g.number == tag.number) {
                    Some(gather) => gather.found[from] = Some(bytes),
                    None => drop(self.early.insert((from, tag), Payload::Bytes(bytes))),
                }
            }
            (Kind::Part | Kind::Total, Payload::Floats(values)) => {
                let sum = self.sums.iter_mut().find(|s| s.sum.number == tag.number);
                match sum {
                    Some(Running { sum, .. }) => {
                        let mut counted = Counted(&mut *self.transport, &self.counters);
                        if let Some(fault) = sum.take(from, kind, values, &mut counted)? {
                            self.fail(fault);
                        }
                    }
                    None => drop(self.early.insert((from, tag), Payload::Floats(values))),
                }
            }
            (Kind::Question, _) => {
                let busy = self.last_command.elapsed().as_millis() as u64;
                let tag = Tag {
                    kind: Kind::Answer,
                    ..tag
                };
                self.send(from, tag, Payload::Bytes(busy.to_le_bytes().to_vec()))?;
            }
            (Kind::Answer, Payload::Bytes(bytes)) => {
                let busy = bytes.try_into().map_or(0, u64::from_le_bytes);
                if let Some(inquiry) = &mut self.inquiry {
                    inquiry.answers[from] = Some(Duration::from_millis(busy));
                }
            }
            (Kind::Failure, Payload::Bytes(why)) => {
                let why = String::from_utf8_lossy(&why).into_owned();
                self.ended[from] = Some((Instant::now(), why));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish_sums(&mut self) {
        let (done, running) = self.sums.drain(..).partition(|s| s.sum.is_done());
        self.sums = running;
        for Running {
            sum, index, reply, ..
        } in done
        {
            let _ = reply.send(Ok((index, sum.values)));
        }
    }

    fn fail_on(&mut self, done: Result<()>) {
        if let Err(err) = done {
            self.fail(err.to_string());
        }
    }

    /// Nothing is exchanged from here on.
    fn fail(&mut self, why: String) {
        self.counters.has_failed.store(true, Ordering::Relaxed);
        let why = self.failure.get_or_insert(why).clone();
        for gather in self.gathers.drain(..) {
            let _ = gather.reply.send(Err(why.clone()));
        }
        for Running { reply, .. } in self.sums.drain(..) {
            let _ = reply.send(Err(why.clone()));
        }
        for (_, _, reply) in self.queue.drain(..) {
            let _ = reply.send(Err(why.clone()));
        }
    }

    /// Whether a rank that ends has something on its way, or others to wait for: the first may have work left,
    /// and a launcher ends all if one goes without the others.
    fn has_to_stay(&self, begun: Instant) -> bool {
        let has_failed = self.counters.has_failed.load(Ordering::Relaxed);
        let is_last = self.others().all(|rank| self.ended[rank].is_some());
        (!self.transport.is_sent() && begun.elapsed() < LATE)
            || (self.transport.ends_together() && !has_failed && !is_last)
    }

    /// Tells the others, sees off what is on its way, and ends.
    fn end(mut self, why: String) {
        if !why.is_empty() {
            self.counters.has_failed.store(true, Ordering::Relaxed);
        }
        let kind = Kind::Failure;
        for to in self.others() {
            let payload = Payload::Bytes(why.clone().into_bytes());
            let _ = self.send(to, Tag { kind, number: 0 }, payload);
        }
        let begun = Instant::now();
        while self.has_to_stay(begun) {
            match self.transport.receive() {
                // Only that they end is of interest, and whether this one is there.
                Ok(Some((from, tag, payload))) => {
                    self.last_message = Instant::now();
                    let taken = self.take(from, tag, payload);
                    self.fail_on(taken);
                }
                Ok(None) => std::thread::sleep(BUSY_SLEEP),
                Err(_) => break,
            }
            self.inquire(begun, Duration::MAX);
        }
        self.transport.close();
    }
}

/// The number of the next operation.
fn next(number: &mut u32) -> u32 {
    let this = *number;
    *number = (this + 1) % Tag::NUMBERS;
    this
}

/// A transport that counts what is sent.
struct Counted<'a>(&'a mut dyn Transport, &'a Counters);

impl Transport for Counted<'_> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn send(&mut self, to: usize, tag: Tag, payload: Payload) -> Result<()> {
        let bytes = match &payload {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Floats(floats) => size_of_val(floats.as_slice()),
        };
        self.1.messages.fetch_add(1, Ordering::Relaxed);
        self.1.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.send(to, tag, payload)
    }

    fn receive(&mut self) -> Result<Option<(usize, Tag, Payload)>> {
        self.0.receive()
    }

    fn is_sent(&self) -> bool {
        self.0.is_sent()
    }

    fn ends_together(&self) -> bool {
        self.0.ends_together()
    }

    fn close(self: Box<Self>) {}
}
