//! Several processes make one cache.

use super::*;

fn shard(text: &str) -> Result<Shard, LogitsError> {
    text.parse()
}

#[test]
fn shards_in_any_order_give_the_same_directory() -> Outcome {
    for codec in [RANDOM_SAMPLING, TOP_K, FULL] {
        let (whole, shared) = (tempfile::tempdir()?, tempfile::tempdir()?);
        capture(whole.path(), codec)?;
        for text in ["2/3", "0/3", "1/3"] {
            capture_with(shared.path(), header(codec)?, shard(text)?)?;
        }
        assert_eq!(files(whole.path())?.len(), 9, "eight parts and cache.json, no locks, nothing unfinished");
        assert_eq!(files(whole.path())?, files(shared.path())?);
        assert_eq!(open(whole.path())?.hash(), open(shared.path())?.hash());
    }
    Ok(())
}

#[test]
fn the_order_of_the_parts_does_not_matter() -> Outcome {
    let (forwards, backwards) = (tempfile::tempdir()?, tempfile::tempdir()?);
    capture(forwards.path(), RANDOM_SAMPLING)?;
    let mut capture = Capture::open(backwards.path(), header(RANDOM_SAMPLING)?, Shard::default())?;
    for part in capture.pending().into_iter().rev() {
        capture_part(&mut capture, part)?;
    }
    drop(capture);
    assert_eq!(files(forwards.path())?, files(backwards.path())?);
    Ok(())
}

#[test]
fn an_incomplete_cache_names_what_is_missing() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture_with(directory.path(), header(TOP_K)?, shard("1/3")?)?;
    let message = open(directory.path()).expect_err("refused").to_string();
    assert!(message.contains("lacks `0`, `2`, `3`, `5`, `6` of its `8` parts; hint: "), "{message}");
    capture_with(directory.path(), header(TOP_K)?, shard("0/3")?)?;
    let message = open(directory.path()).expect_err("refused").to_string();
    assert!(message.contains("lacks `2`, `5` of its `8` parts"), "{message}");
    capture_with(directory.path(), header(TOP_K)?, Shard::default())?;
    open(directory.path())?;
    Ok(())
}

#[test]
fn a_shard_is_captured_by_one_process_at_a_time() -> Outcome {
    let directory = tempfile::tempdir()?;
    let first = Capture::open(directory.path(), header(TOP_K)?, shard("1/2")?)?;
    let second = Capture::open(directory.path(), header(TOP_K)?, shard("1/2")?);
    let message = second.expect_err("refused").to_string();
    assert!(message.starts_with("shard `1/2` of `"), "{message}");
    Capture::open(directory.path(), header(TOP_K)?, shard("0/2")?)?;
    drop(first);
    Capture::open(directory.path(), header(TOP_K)?, shard("1/2")?)?;
    Ok(())
}
