//! The files, as another reader sees them: parquet's own rows, without Arrow and without our schema.

use std::fs::File;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use super::*;

fn rows_of(path: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    assert_eq!(reader.metadata().num_row_groups(), 1);
    Ok(reader.get_row_iter(None)?.collect::<Result<_, _>>()?)
}

fn number(row: &Row, column: &str) -> u64 {
    match row.get_column_iter().find(|(name, _)| *name == column).map(|(_, field)| field) {
        Some(Field::UInt(value)) => u64::from(*value),
        Some(Field::ULong(value)) => *value,
        other => panic!("{column}: {other:?}"),
    }
}

fn numbers(row: &Row, column: &str) -> Vec<f64> {
    let Some(Field::ListInternal(list)) =
        row.get_column_iter().find(|(name, _)| *name == column).map(|(_, field)| field)
    else {
        panic!("{column} is no list")
    };
    let value = |field: &Field| match field {
        Field::ULong(value) => *value as f64,
        Field::UShort(value) => f64::from(*value),
        Field::Float(value) => f64::from(*value),
        other => panic!("{column}: {other:?}"),
    };
    list.elements().iter().map(value).collect()
}

#[test]
fn parquets_own_reader_finds_each_set_of_each_segment() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), RANDOM_SAMPLING)?;
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    for (path, first) in parts(directory.path())?.into_iter().zip((0..ROWS).step_by(3)) {
        rows.extend(rows_of(&path)?);
        let segments: Vec<Segment> = (first..ROWS.min(first + 3)).flat_map(row).collect();
        expected.extend((0..3).flat_map(|set| segments.iter().map(move |segment| (segment.clone(), set))));
    }
    assert_eq!(rows.len(), expected.len());
    for (row, (segment, set)) in rows.iter().zip(expected) {
        let SegmentKey { entry, document, segment: index } = segment.key;
        let found = ["entry", "document", "segment", "length", "set"].map(|column| number(row, column));
        assert_eq!(found, [entry.into(), document, index.into(), segment.targets.len() as u64, set]);
        let (gaps, counts) = (numbers(row, "place_gaps"), numbers(row, "counts"));
        let mut drawn: BTreeMap<u32, f64> = BTreeMap::new();
        let mut place = 0;
        for (gap, count) in gaps.iter().zip(&counts) {
            place += *gap as u64;
            *drawn.entry((place / VOCAB_SIZE as u64) as u32).or_default() += count;
        }
        assert_eq!(drawn, segment.positions().into_iter().map(|position| (position, 50.0)).collect());
    }
    Ok(())
}

#[test]
fn parquets_own_reader_finds_the_logits() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), FULL)?;
    let path = parts(directory.path())?.remove(7);
    let expected: Vec<Segment> = (21..23).flat_map(row).collect();
    let rows = rows_of(&path)?;
    assert_eq!(rows.len(), expected.len());
    for (row, segment) in rows.iter().zip(&expected) {
        let logits: Vec<f32> = numbers(row, "logits").into_iter().map(|logit| logit as f32).collect();
        assert_eq!(logits, segment.logits());
    }
    Ok(())
}
