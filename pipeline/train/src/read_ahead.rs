//! Captured logits, read while the step before computes.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use limbeck_config::LogitsCodec;
use limbeck_data::{Batch, SegmentSpan};
use limbeck_logits::{Cache, CachedTargets, DenseTargets, SegmentKey, SegmentRequest};
use limbeck_loss::{SparseRows, SparseTargets};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::TrainError;

/// A cache with a thread that reads what was announced. A read is a function of the batch, so what comes of it does not
/// depend on who made it and when.
#[derive(Debug)]
pub struct ReadAhead {
    cache: Arc<Cache>,
    /// `None` until something is announced.
    reader: Mutex<Option<Reader>>,
}

/// What decides a read.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    segments: Vec<SegmentSpan>,
    loss_mask: Vec<bool>,
    sequence_length: usize,
}

/// What a cache says of a batch, checked.
pub(crate) enum HostTargets {
    /// A few ids a target.
    Sparse(SparseTargets),
    /// Every id.
    Dense(DenseTargets),
}

type Read = Result<HostTargets, TrainError>;

/// The thread, which ends with its channels.
#[derive(Debug)]
struct Reader {
    to_read: Sender<Arc<Wanted>>,
    read: Receiver<Read>,
    /// In the order in which their reads will come.
    announced: VecDeque<Arc<Wanted>>,
    /// Of one thread, for what a read does in parallel: on the pool of the training it could wait for a worker that waits for it.
    _pool: ThreadPool,
}

impl ReadAhead {
    /// A cache of which nothing is announced.
    pub fn new(cache: Cache) -> Self {
        Self { cache: Arc::new(cache), reader: Mutex::default() }
    }

    /// What is read.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Says that the targets of `batch` will be asked for. Every logit of a second batch would be too much to have in memory
    /// for the little that reading them takes: they are read when they are needed.
    pub(crate) fn announce(&self, batch: &Batch) {
        if matches!(self.cache.header().codec, LogitsCodec::Full {}) {
            return;
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() {
            *reader = Reader::start(&self.cache);
        }
        let Some(reader) = reader.as_mut() else { return };
        let wanted = Arc::new(Wanted::of(batch));
        if reader.to_read.send(Arc::clone(&wanted)).is_ok() {
            reader.announced.push_back(wanted);
        }
    }

    /// The targets of a batch: those that were read ahead, or read now where none were.
    pub(crate) fn read(&self, batch: &Batch) -> Read {
        let wanted = Wanted::of(batch);
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        match reader.as_mut().and_then(|reader| reader.take(&wanted)) {
            Some(read) => read,
            None => wanted.read(&self.cache),
        }
    }
}

impl Reader {
    /// `None` where the system grants no thread.
    fn start(cache: &Arc<Cache>) -> Option<Self> {
        let (to_read, wanted) = channel::<Arc<Wanted>>();
        // A read is handed over before the next one begins, so that one is in memory besides the one in use.
        let (done, read): (SyncSender<Read>, _) = sync_channel(0);
        let cache = Arc::clone(cache);
        let pool = ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "logits".to_owned()).build().ok()?;
        pool.spawn(move || wanted.iter().take_while(|wanted| done.send(wanted.read(&cache)).is_ok()).for_each(drop));
        Some(Self { to_read, read, announced: VecDeque::new(), _pool: pool })
    }

    /// What was read for `wanted`; what was announced before it has been passed over.
    fn take(&mut self, wanted: &Wanted) -> Option<Read> {
        let place = self.announced.iter().position(|announced| **announced == *wanted)?;
        for _ in self.announced.drain(..place) {
            drop(self.read.recv());
        }
        self.announced.pop_front();
        self.read.recv().ok()
    }
}

impl Wanted {
    fn of(batch: &Batch) -> Self {
        let Batch { segments, loss_mask, sequence_length, .. } = batch;
        Self { segments: segments.clone(), loss_mask: loss_mask.clone(), sequence_length: *sequence_length }
    }

    fn read(&self, cache: &Cache) -> Read {
        let vocab_size = cache.header().identity.vocab_size as usize;
        match cache.read(&self.requests())? {
            CachedTargets::Dense(dense) => Ok(HostTargets::Dense(dense)),
            CachedTargets::Sparse(sparse) => {
                let limbeck_logits::SparseTargets { offsets, ids, log_probabilities, ghost } = sparse;
                let rows = SparseRows { offsets, ids, log_probabilities, ghost };
                Ok(HostTargets::Sparse(SparseTargets::new(rows, vocab_size)?))
            }
        }
    }

    /// The segments in the order of the batch's target rows.
    fn requests(&self) -> Vec<SegmentRequest<'_>> {
        let request = |span: &SegmentSpan| {
            let first = span.row * self.sequence_length + span.start;
            let targets = &self.loss_mask[first..first + span.length];
            SegmentRequest { key: segment_key(span), epoch: span.epoch, targets }
        };
        self.segments.iter().map(request).collect()
    }
}

/// The name of a segment in a cache.
pub(crate) fn segment_key(span: &SegmentSpan) -> SegmentKey {
    SegmentKey { entry: span.entry as u32, document: span.document, segment: span.segment }
}
