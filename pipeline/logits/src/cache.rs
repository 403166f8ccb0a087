//! Reading a cache: any segment, in any order, without the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use limbeck_config::Divergence;
use rayon::prelude::*;

use crate::check::{Expected, check_expected, check_pairing};
use crate::error::LogitsError;
use crate::header::CacheHeader;
use crate::kept::Kept;
use crate::part::Part;
use crate::parts::{PartFile, check_complete, list};
use crate::segment::{SegmentKey, SegmentRequest};
use crate::targets::{CachedTargets, Segment};

/// Parts that stay open at most: their files are mapped, so what counts is their metadata, about 100 bytes a row.
const OPEN_PARTS: usize = 128;

/// A complete cache whose every byte was verified.
///
/// Memory: an index of 32 bytes a segment, the metadata of at most 128 parts, and at most 256 MB of what was read before.
pub struct Cache {
    directory: PathBuf,
    header: CacheHeader,
    hash: blake3::Hash,
    files: Vec<PartFile>,
    /// Ascending.
    index: Vec<(SegmentKey, Home)>,
    open: Mutex<Vec<(u32, Arc<Part>)>>,
    kept: Mutex<Kept>,
}

/// Where a segment's set is: part and row.
pub(crate) type Place = (u32, usize);

/// Where a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Home {
    part: u32,
    /// Among the segments of the part.
    place: u32,
    /// Pairs of (input, target) in it.
    length: u32,
}

impl Cache {
    /// Opens the cache in `directory`, of what `expected` says, and verifies all of it.
    ///
    /// # Errors
    /// Names what is not as expected: the rows' length, the tokenizer, the data or their order, the teacher; parts that are
    /// missing, damaged or of another cache.
    pub fn open(directory: &Path, expected: &Expected) -> Result<Cache, LogitsError> {
        let (header, hash) = CacheHeader::read(directory)?;
        check_expected(directory, &header, expected)?;
        let files = list(directory)?;
        check_complete(directory, &files, header.parts())?;
        let index = index(&header, hash, &files)?;
        let directory = directory.to_owned();
        Ok(Cache { directory, header, hash, files, index, open: Mutex::default(), kept: Mutex::default() })
    }

    /// What the cache is of.
    pub fn header(&self) -> &CacheHeader {
        &self.header
    }

    /// Refuses a loss that the codec cannot give.
    ///
    /// # Errors
    /// Random sampling with a divergence other than forward KL; it and top-k with another temperature than the captured.
    pub fn check_pairing(&self, divergence: Divergence, temperature: f64) -> Result<(), LogitsError> {
        check_pairing(&self.directory, &self.header, divergence, temperature)
    }

    /// BLAKE3 of all that it holds: 64 hexadecimal digits.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes());
        self.files.iter().for_each(|file| _ = hasher.update(file.hash().as_bytes()));
        hasher.finalize().to_hex().to_string()
    }

    /// Size of the parts, in bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn bytes(&self) -> Result<u64, LogitsError> {
        self.files.iter().map(PartFile::bytes).sum()
    }

    /// The teacher's distributions for the targets of `requests`, one request after the other.
    ///
    /// # Errors
    /// A segment that is not there, or whose targets are others than those asked for.
    pub fn read(&self, requests: &[SegmentRequest]) -> Result<CachedTargets, LogitsError> {
        let places = requests.iter().map(|request| self.place(request)).collect::<Result<Vec<Place>, _>>()?;
        let segments = self.segments(&places)?;
        let mut targets = CachedTargets::none(&self.header);
        for (request, place) in requests.iter().zip(&places) {
            let Some(segment) = segments.get(place) else { return Err(LogitsError::NoSegment { key: request.key }) };
            if !segment.add_to(&mut targets, request.targets) {
                return Err(LogitsError::OtherTargets { key: request.key });
            }
        }
        Ok(targets)
    }

    /// The segments at `places`: those that were kept, and the others read now, with what else is in their pages.
    fn segments(&self, places: &[Place]) -> Result<BTreeMap<Place, Arc<Segment>>, LogitsError> {
        let mut found = BTreeMap::new();
        let mut missing: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for place in places {
                match kept.get(place) {
                    Some(segment) => _ = found.insert(*place, segment),
                    None => _ = missing.entry(place.0).or_default().insert(place.1),
                }
            }
        }
        let missing: Vec<(u32, BTreeSet<usize>)> = missing.into_iter().collect();
        let read = |(part, rows): &(u32, BTreeSet<usize>)| {
            let opened = self.part(*part)?;
            let read = opened.pages_of(rows)?.into_iter().map(|(row, lists)| {
                let segment = Segment::decode(&self.header, &lists);
                let segment = segment.ok_or_else(|| opened.bad("its lists are not what the codec writes"))?;
                Ok(((*part, row), Arc::new(segment)))
            });
            read.collect::<Result<Vec<_>, LogitsError>>()
        };
        let read = missing.par_iter().map(read).collect::<Result<Vec<_>, LogitsError>>()?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, segment) in read.into_iter().flatten() {
            kept.put(place, &segment);
            found.insert(place, segment);
        }
        Ok(found)
    }

    /// Part and row of a request.
    fn place(&self, request: &SegmentRequest) -> Result<Place, LogitsError> {
        let found = self.index.binary_search_by_key(&request.key, |(key, _)| *key);
        let found = found.map_err(|_| LogitsError::NoSegment { key: request.key })?;
        let (_, Home { part, place, length }) = self.index[found];
        if length as usize != request.targets.len() {
            return Err(LogitsError::OtherTargets { key: request.key });
        }
        let sets = u64::from(self.header.sets());
        let segments = self.part(part)?.row_count() / sets as usize;
        Ok((part, place as usize + segments * (request.epoch % sets) as usize))
    }

    /// A part, opened now or before; the one that was not asked for the longest goes.
    fn part(&self, part: u32) -> Result<Arc<Part>, LogitsError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = open.iter().position(|(number, _)| *number == part) {
            let found = open.remove(place);
            open.push(found.clone());
            return Ok(found.1);
        }
        // Files are all there and in the order of their numbers: `check_complete`.
        let opened = Arc::new(Part::open(&self.files[part as usize], &self.header, self.hash)?);
        if open.len() == OPEN_PARTS {
            open.remove(0);
        }
        open.push((part, Arc::clone(&opened)));
        Ok(opened)
    }
}

/// Every segment, ascending.
fn index(header: &CacheHeader, hash: blake3::Hash, files: &[PartFile]) -> Result<Vec<(SegmentKey, Home)>, LogitsError> {
    let of_part = |file: &PartFile| {
        let part = Part::open(file, header, hash)?;
        let segments = part.segments(header.sets())?.into_iter().zip(0u32..);
        let home = |((key, length), place)| (key, Home { part: file.part, place, length });
        Ok(segments.map(home).collect::<Vec<_>>())
    };
    let parts: Vec<Vec<_>> = files.par_iter().map(of_part).collect::<Result<_, LogitsError>>()?;
    let mut index: Vec<(SegmentKey, Home)> = parts.into_iter().flatten().collect();
    index.par_sort_unstable();
    let twice = index.windows(2).find(|pair| pair[0].0 == pair[1].0);
    let bad = |part: u32, reason: String| LogitsError::bad_part(&files[part as usize].path)(reason);
    if let Some([first, _]) = twice {
        return Err(bad(first.1.part, format!("{} is in the cache twice", first.0)));
    }
    if index.len() as u64 != header.extent.segments {
        let (found, expected) = (index.len(), header.extent.segments);
        return Err(bad(0, format!("the parts hold `{found}` segments, must be `{expected}` as cache.json says")));
    }
    Ok(index)
}

impl fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cache").field("directory", &self.directory).finish_non_exhaustive()
    }
}
