//! Where a training step's time goes, by operator.
//!
//! Each fused operator reports the time that its caller waits for it: two readings of the clock and an addition, cheap
//! enough to be always on. An operator that calls another one counts alone, so the sum is never more than the time that
//! has passed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a step is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Matrix products of the layers.
    Linear,
    /// Rotary embedding and attention.
    Attention,
    /// Norms, those of the heads too.
    RmsNorm,
    /// The gated activation.
    SwiGlu,
    /// Output weights and loss.
    LossHead,
    /// Look-up of the tokens' rows.
    Embedding,
    /// The optimizer's update, and the gradients' norm where it is part of it.
    AdamW,
}

impl Operator {
    /// Every operator, in the order of its declaration.
    pub const ALL: [Self; 7] =
        [Self::Linear, Self::Attention, Self::RmsNorm, Self::SwiGlu, Self::LossHead, Self::Embedding, Self::AdamW];

    /// As a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Attention => "attention",
            Self::RmsNorm => "RMSNorm",
            Self::SwiGlu => "SwiGLU",
            Self::LossHead => "loss head",
            Self::Embedding => "embedding",
            Self::AdamW => "AdamW",
        }
    }
}

/// Part of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the tokens to the loss.
    Forward,
    /// From the loss to the gradients.
    Backward,
    /// From the gradients to the next weights.
    Update,
}

impl Direction {
    /// Every direction, in the order of its declaration, which is the step's.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Backward, Self::Update];

    /// As a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Update => "update",
        }
    }
}

/// Nanoseconds of each operator and direction.
type Table<T> = [[T; Direction::ALL.len()]; Operator::ALL.len()];

static NANOSECONDS: Table<AtomicU64> =
    [const { [const { AtomicU64::new(0) }; Direction::ALL.len()] }; Operator::ALL.len()];

thread_local! {
    /// Whether an operator is under way on this thread.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, and adds its time to the profile unless it is part of an operator that is being timed.
///
/// Call it where the operator begins, not inside a parallel task: times of tasks would be added up.
pub(crate) fn timed<R>(operator: Operator, direction: Direction, work: impl FnOnce() -> R) -> R {
    if BUSY.replace(true) {
        return work();
    }
    let _running = Running { operator, direction, started: Instant::now() };
    work()
}

/// An outermost operator. Ends with its scope, so that a panic does not leave the thread busy.
struct Running {
    operator: Operator,
    direction: Direction,
    started: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        let nanoseconds = self.started.elapsed().as_nanos() as u64;
        NANOSECONDS[self.operator as usize][self.direction as usize].fetch_add(nanoseconds, Ordering::Relaxed);
        BUSY.set(false);
    }
}

/// Times of the operators, over one call of [`take_profile`] and the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    nanoseconds: Table<u64>,
}

impl Profile {
    /// The time of one operator in one direction.
    pub fn time(&self, operator: Operator, direction: Direction) -> Duration {
        Duration::from_nanos(self.nanoseconds[operator as usize][direction as usize])
    }

    /// The time in all operators.
    pub fn total(&self) -> Duration {
        self.rows().map(|(_, _, time)| time).sum()
    }

    /// The operators that took time, in the order of their declaration.
    pub fn rows(&self) -> impl Iterator<Item = (Operator, Direction, Duration)> {
        let pairs =
            Operator::ALL.into_iter().flat_map(|operator| Direction::ALL.map(|direction| (operator, direction)));
        pairs
            .map(|(operator, direction)| (operator, direction, self.time(operator, direction)))
            .filter(|(_, _, time)| !time.is_zero())
    }

    /// This profile and another one.
    pub fn plus(mut self, other: &Self) -> Self {
        for (times, others) in self.nanoseconds.iter_mut().zip(&other.nanoseconds) {
            times.iter_mut().zip(others).for_each(|(time, other)| *time += other);
        }
        self
    }
}

/// The times since the last call, of the whole process; the next call begins at zero.
pub fn take_profile() -> Profile {
    Profile {
        nanoseconds: NANOSECONDS.each_ref().map(|times| times.each_ref().map(|time| time.swap(0, Ordering::Relaxed))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    const PAUSE: Duration = Duration::from_millis(5);

    /// What `work` adds to an entry. The entries that are tested belong to no operator that other tests run meanwhile.
    fn added(operator: Operator, direction: Direction, work: impl FnOnce()) -> Duration {
        let before = NANOSECONDS[operator as usize][direction as usize].load(Ordering::Relaxed);
        work();
        let after = NANOSECONDS[operator as usize][direction as usize].load(Ordering::Relaxed);
        Duration::from_nanos(after - before)
    }

    #[test]
    fn an_operator_inside_another_counts_once() {
        let started = Instant::now();
        let mut inner = Duration::MAX;
        let outer = added(Operator::Linear, Direction::Update, || {
            timed(Operator::Linear, Direction::Update, || {
                inner = added(Operator::SwiGlu, Direction::Update, || {
                    timed(Operator::SwiGlu, Direction::Update, || sleep(PAUSE));
                });
            });
        });
        assert_eq!(inner, Duration::ZERO);
        assert!(outer >= PAUSE && outer <= started.elapsed(), "{outer:?}");
    }

    #[test]
    fn a_panic_ends_its_operator() {
        let panicked =
            std::panic::catch_unwind(|| timed(Operator::Attention, Direction::Update, || panic!("on purpose")));
        assert!(panicked.is_err());
        let after = added(Operator::Attention, Direction::Update, || {
            timed(Operator::Attention, Direction::Update, || sleep(PAUSE));
        });
        assert!(after >= PAUSE, "{after:?}");
    }

    #[test]
    fn entries_stand_where_the_lists_say() {
        assert!(Operator::ALL.iter().enumerate().all(|(i, operator)| *operator as usize == i));
        assert!(Direction::ALL.iter().enumerate().all(|(i, direction)| *direction as usize == i));
    }

    #[test]
    fn a_profile_adds_up() {
        let mut profile = Profile::default();
        profile.nanoseconds[Operator::RmsNorm as usize][Direction::Backward as usize] = 3;
        profile.nanoseconds[Operator::AdamW as usize][Direction::Update as usize] = 40;
        let twice = profile.plus(&profile);
        assert_eq!(twice.total(), Duration::from_nanos(86));
        assert_eq!(twice.time(Operator::RmsNorm, Direction::Backward), Duration::from_nanos(6));
        let rows: Vec<(Operator, Direction)> = twice.rows().map(|row| (row.0, row.1)).collect();
        assert_eq!(rows, [(Operator::RmsNorm, Direction::Backward), (Operator::AdamW, Direction::Update)]);
    }
}
