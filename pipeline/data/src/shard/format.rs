//! The bytes of a shard.
//!
//! ```text
//! tokens       u16 or u32 each              padded to 8 bytes
//! offsets      u64, one a document and the end: where its tokens begin
//! bytes        u64, one a document: UTF-8 bytes of the text that its targets spell
//! loss         bits in u64, one a token, lowest first: whether it is a target; conversations only
//! footer       what FOOTER lists, u64 each
//! key          32 bytes: the shard's name
//! checksum     32 bytes: BLAKE3 of all before
//! ```
//! Little-endian. What is known only at the end is at the end, so that a shard is written in one pass.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use memmap2::Mmap;

use crate::error::DataError;
use crate::source::SourceReport;

/// Another layout, or another way to make tokens, is another version: old shards are then never looked at.
pub(super) const VERSION: u64 = 1;

const MAGIC: u64 = u64::from_le_bytes(*b"LIMBECKS");

/// Words of the footer: magic, version, token width, tokens, documents, loss words, rows that were skipped (two).
const FOOTER: usize = 8;

const TAIL_BYTES: usize = FOOTER * 8 + 64;

/// Bytes of a token: 2 where the vocabulary allows it.
pub(super) fn token_width(vocab_size: usize) -> usize {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// Writes a shard in one pass.
pub(super) struct ShardWriter<W: Write> {
    out: W,
    hasher: blake3::Hasher,
    width: usize,
    tokens: u64,
    offsets: Vec<u64>,
    bytes: Vec<u64>,
    loss: Vec<u64>,
}

impl<W: Write> ShardWriter<W> {
    pub(super) fn new(out: W, width: usize) -> ShardWriter<W> {
        ShardWriter {
            out,
            hasher: blake3::Hasher::new(),
            width,
            tokens: 0,
            offsets: vec![0],
            bytes: Vec::new(),
            loss: Vec::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn put_words(&mut self, words: &[u64]) -> std::io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Adds a document; `loss` is empty where every token is a target.
    pub(super) fn push(&mut self, ids: &[u32], loss: &[bool], bytes: u64) -> std::io::Result<()> {
        let encoded: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes().into_iter().take(self.width)).collect();
        self.put(&encoded)?;
        for (place, _) in (self.tokens..).zip(loss).filter(|(_, counts)| **counts) {
            let word = (place / 64) as usize;
            self.loss.resize(self.loss.len().max(word + 1), 0);
            self.loss[word] |= 1 << (place % 64);
        }
        self.tokens += ids.len() as u64;
        self.offsets.push(self.tokens);
        self.bytes.push(bytes);
        Ok(())
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Writes what follows the tokens; `chats` says whether there are loss bits.
    pub(super) fn finish(mut self, key: blake3::Hash, chats: bool, report: SourceReport) -> std::io::Result<W> {
        let used = self.tokens as usize * self.width;
        self.put(&vec![0; used.next_multiple_of(8) - used])?;
        let (offsets, bytes) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.bytes));
        let mut loss = std::mem::take(&mut self.loss);
        loss.resize(if chats { self.tokens.div_ceil(64) as usize } else { 0 }, 0);
        for words in [&offsets, &bytes, &loss] {
            self.put_words(words)?;
        }
        self.put_words(&[
            MAGIC,
            VERSION,
            self.width as u64,
            self.tokens,
            bytes.len() as u64,
            loss.len() as u64,
            report.skipped_null,
            report.skipped_empty,
        ])?;
        self.put(key.as_bytes())?;
        let checksum = self.hasher.finalize();
        self.out.write_all(checksum.as_bytes())?;
        Ok(self.out)
    }
}

/// A shard, mapped into memory.
pub(crate) struct Shard {
    map: Mmap,
    key: blake3::Hash,
    width: usize,
    tokens: u64,
    documents: u64,
    loss_words: usize,
    report: SourceReport,
}

impl Shard {
    /// The shard at `path`, or `None` where there is none or it is not what was written.
    pub(super) fn open(path: &Path, key: blake3::Hash) -> Result<Option<Shard>, DataError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DataError::io("open", path)(error)),
        };
        if file.metadata().map_err(DataError::io("read", path))?.len() < TAIL_BYTES as u64 {
            return Ok(None);
        }
        // SAFETY: a shard has its name only once it is complete, and is never written again but replaced. Whoever cuts
        // it short from outside while we run makes reads fail with SIGBUS, as for any mapped file.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io("map", path))?;
        Ok(Shard::parse(map, key))
    }

    fn parse(map: Mmap, key: blake3::Hash) -> Option<Shard> {
        let (body, checksum) = map.split_last_chunk::<32>()?;
        if blake3::hash(body).as_bytes() != checksum || !body.ends_with(key.as_bytes()) {
            return None;
        }
        let footer_at = map.len() - TAIL_BYTES;
        let footer: [u64; FOOTER] = std::array::from_fn(|place| word(&map, footer_at + place * 8));
        let [magic, version, width, tokens, documents, loss_words, skipped_null, skipped_empty] = footer;
        let width = width as usize;
        if magic != MAGIC || version != VERSION || !matches!(width, 2 | 4) {
            return None;
        }
        let report = SourceReport { documents, skipped_null, skipped_empty };
        let shard = Shard { map, key, width, tokens, documents, loss_words: loss_words as usize, report };
        (shard.loss_at() + shard.loss_words * 8 == footer_at).then_some(shard)
    }

    fn offsets_at(&self) -> usize {
        (self.tokens as usize * self.width).next_multiple_of(8)
    }

    fn bytes_at(&self) -> usize {
        self.offsets_at() + (self.documents as usize + 1) * 8
    }

    fn loss_at(&self) -> usize {
        self.bytes_at() + self.documents as usize * 8
    }

    pub(crate) fn key(&self) -> blake3::Hash {
        self.key
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(crate) fn documents(&self) -> u64 {
        self.documents
    }

    pub(crate) fn report(&self) -> SourceReport {
        self.report
    }

    /// Where the tokens of a document begin and end.
    pub(crate) fn range(&self, document: u64) -> std::ops::Range<u64> {
        let at = self.offsets_at() + document as usize * 8;
        word(&self.map, at)..word(&self.map, at + 8)
    }

    /// UTF-8 bytes of the text that a document's targets spell.
    pub(crate) fn scored_bytes(&self, document: u64) -> u64 {
        word(&self.map, self.bytes_at() + document as usize * 8)
    }

    /// The token at a place in the shard.
    pub(crate) fn token(&self, place: u64) -> u32 {
        let at = place as usize * self.width;
        let mut bytes = [0; 4];
        bytes[..self.width].copy_from_slice(&self.map[at..at + self.width]);
        u32::from_le_bytes(bytes)
    }

    /// Whether the token at a place is a target.
    pub(crate) fn is_target(&self, place: u64) -> bool {
        self.loss_words == 0 || word(&self.map, self.loss_at() + (place / 64) as usize * 8) >> (place % 64) & 1 == 1
    }
}

fn word(map: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&map[at..at + 8]);
    u64::from_le_bytes(bytes)
}
