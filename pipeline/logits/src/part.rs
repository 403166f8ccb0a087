//! One part, opened: any of its rows without the others.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use bytes::Bytes;
use limbeck_config::LogitsCodec;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use crate::error::LogitsError;
use crate::header::CacheHeader;
use crate::parts::PartFile;
use crate::segment::SegmentKey;
use crate::table::{CACHE_KEY, KEY_COLUMNS, check_schema, list_columns};

/// A part's file, mapped, with its metadata.
pub(crate) struct Part {
    file: PartFile,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
    codec: LogitsCodec,
}

impl Part {
    /// Opens a part of the cache with this header, whose `cache.json` has the hash `cache`.
    pub(crate) fn open(file: &PartFile, header: &CacheHeader, cache: blake3::Hash) -> Result<Part, LogitsError> {
        let bytes = Bytes::from_owner(file.map()?);
        let options = ArrowReaderOptions::new()
            .with_skip_arrow_metadata(true)
            .with_offset_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load(&bytes, options).map_err(LogitsError::bad_part(&file.path))?;
        let stored = metadata.metadata().file_metadata().key_value_metadata();
        let stored = stored.and_then(|pairs| pairs.iter().find(|pair| pair.key == CACHE_KEY)?.value.clone());
        if stored.as_deref() != Some(cache.to_hex().as_str()) {
            return Err(LogitsError::ForeignPart { path: file.path.clone() });
        }
        check_schema(metadata.schema(), header.codec).map_err(LogitsError::bad_part(&file.path))?;
        Ok(Part { file: file.clone(), bytes, metadata, codec: header.codec })
    }

    /// The names and lengths of its segments in the order of their rows; set `s` of segment `i` is row `s * segments + i`.
    ///
    /// # Errors
    /// Rows that are not those of every segment in each of `sets` sets.
    pub(crate) fn segments(&self, sets: u32) -> Result<Vec<(SegmentKey, u32)>, LogitsError> {
        let builder = self.builder();
        let mask = ProjectionMask::columns(builder.parquet_schema(), KEY_COLUMNS);
        let reader = builder.with_projection(mask).build().map_err(LogitsError::bad_part(&self.file.path))?;
        let mut rows: Vec<(SegmentKey, u32, u32)> = Vec::new();
        for batch in reader {
            rows.extend(self.keys(&batch.map_err(LogitsError::bad_part(&self.file.path))?)?);
        }
        let segments = rows.len() / sets as usize;
        let bad = || self.bad("its rows are not every segment in each set");
        if rows.len() != segments * sets as usize {
            return Err(bad());
        }
        let found: Vec<(SegmentKey, u32)> =
            rows.iter().take(segments).map(|(key, length, _)| (*key, *length)).collect();
        let expected = (0..sets).flat_map(|set| found.iter().map(move |(key, length)| (*key, *length, set)));
        if rows.iter().copied().eq(expected) { Ok(found) } else { Err(bad()) }
    }

    /// Number of rows, those of all sets.
    pub(crate) fn row_count(&self) -> usize {
        self.metadata.metadata().file_metadata().num_rows() as usize
    }

    /// The lists of the rows at `places` and of the other rows in their pages, which are decompressed anyway, each a batch of
    /// its own.
    ///
    /// Not their names, which are in the index: every column that is read makes a decompressor.
    pub(crate) fn pages_of(&self, places: &BTreeSet<usize>) -> Result<Vec<(usize, RecordBatch)>, LogitsError> {
        let total = self.row_count();
        let rows = self.with_their_pages(places);
        let ranges = rows.chunk_by(|row, next| row + 1 == *next).map(|run| run[0]..run[0] + run.len());
        let selection = RowSelection::from_consecutive_ranges(ranges, total);
        // A row at a time: the reader makes room bit by bit and moves what it has, which of many rows takes longer than all else.
        let builder = self.builder().with_row_selection(selection).with_batch_size(1);
        let mask = ProjectionMask::columns(builder.parquet_schema(), list_columns(self.codec).iter().copied());
        let builder = builder.with_projection(mask);
        let reader: ParquetRecordBatchReader = builder.build().map_err(LogitsError::bad_part(&self.file.path))?;
        let read = reader.collect::<Result<Vec<RecordBatch>, _>>();
        let read = read.map_err(LogitsError::bad_part(&self.file.path))?;
        if read.len() != rows.len() {
            return Err(self.bad("it has fewer rows than it says"));
        }
        Ok(rows.into_iter().zip(read).collect())
    }

    /// The rows of the pages in which those at `places` are, ascending.
    fn with_their_pages(&self, places: &BTreeSet<usize>) -> Vec<usize> {
        let (total, starts) = (self.row_count(), self.page_starts());
        if starts.is_empty() {
            return places.iter().copied().collect();
        }
        let mut rows = BTreeSet::new();
        for place in places {
            let page = starts.partition_point(|start| start <= place);
            let first = page.checked_sub(1).map_or(*place, |page| starts[page]);
            let end = starts.get(page).copied().unwrap_or(total);
            rows.extend(first..end);
        }
        rows.into_iter().collect()
    }

    /// The first row of every page of the column of places, if the part says it of its only group of rows.
    fn page_starts(&self) -> Vec<usize> {
        let metadata = self.metadata.metadata();
        if metadata.num_row_groups() != 1 {
            return Vec::new();
        }
        let index = metadata.page_index_for_row_group(0);
        let pages = index.page_locations(KEY_COLUMNS.len());
        pages.into_iter().flatten().map(|page| page.first_row_index as usize).collect()
    }

    /// A message about this part.
    pub(crate) fn bad(&self, reason: &str) -> LogitsError {
        LogitsError::bad_part(&self.file.path)(reason)
    }

    fn builder(&self) -> ParquetRecordBatchReaderBuilder<Bytes> {
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone())
    }

    /// Name, length and set of every row of a batch.
    fn keys(&self, batch: &RecordBatch) -> Result<Vec<(SegmentKey, u32, u32)>, LogitsError> {
        let bad = || ParquetError::General("its columns changed their types".to_owned());
        let narrow = |name: &str| -> Result<Vec<u32>, ParquetError> {
            let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<UInt32Type>());
            Ok(column.filter(|column| column.null_count() == 0).ok_or_else(bad)?.values().to_vec())
        };
        let read = || -> Result<Vec<(SegmentKey, u32, u32)>, ParquetError> {
            let [entry, document, segment, length, set] = KEY_COLUMNS;
            let documents = batch.column_by_name(document).and_then(|column| column.as_primitive_opt::<UInt64Type>());
            let documents = documents.ok_or_else(bad)?.values();
            let (entries, segments) = (narrow(entry)?, narrow(segment)?);
            let names = entries.iter().zip(documents).zip(&segments);
            let names = names.map(|((entry, document), segment)| SegmentKey {
                entry: *entry,
                document: *document,
                segment: *segment,
            });
            let (lengths, sets) = (narrow(length)?, narrow(set)?);
            Ok(names.zip(lengths).zip(sets).map(|((key, length), set)| (key, length, set)).collect())
        };
        read().map_err(LogitsError::bad_part(&self.file.path))
    }
}
