//! Everything that does not fit is refused by name.

use limbeck_config::{Divergence, Precision};

use super::*;

/// Makes a header another one.
type Change = fn(&mut CacheHeader);

fn message<T>(outcome: Result<T, LogitsError>) -> String {
    match outcome {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn one_flipped_bit_anywhere_in_a_part_is_refused_with_its_name() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), TOP_K)?;
    let path = parts(directory.path())?.remove(6);
    let whole = fs::read(&path)?;
    for place in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(&path, bytes)?;
        let message = message(open(directory.path()));
        assert!(message.starts_with(&format!("`{}` is damaged: ", path.display())), "{message}");
    }
    fs::write(&path, whole)?;
    open(directory.path())?;
    Ok(())
}

#[test]
fn one_flipped_bit_anywhere_in_the_header_is_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), TOP_K)?;
    let path = directory.path().join("cache.json");
    let whole = fs::read(&path)?;
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(&path, bytes)?;
        assert!(open(directory.path()).is_err(), "byte {place}");
    }
    Ok(())
}

#[test]
fn other_rows_tokenizers_data_and_teachers_are_refused_by_name() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), RANDOM_SAMPLING)?;
    let other = "e".repeat(64);
    let cases: [(&str, &str, Expected); 4] = [
        ("identity.sequence_length", "rows of another length", Expected { sequence_length: 13, ..expected() }),
        ("identity.tokenizer", "another tokenizer", Expected { tokenizer: other.clone(), ..expected() }),
        ("identity.data", "other data, or data in another order", Expected { data: other.clone(), ..expected() }),
        ("identity.teacher", "another teacher", Expected { teacher: Some(other.clone()), ..expected() }),
    ];
    for (what, of, expected) in cases {
        let message = message(Cache::open(directory.path(), &expected));
        assert!(message.contains(&format!(" has {what} `")), "{message}");
        assert!(message.contains(&format!(": it is of {of}; hint: ")), "{message}");
    }
    // A teacher that is not at hand cannot be another one.
    Cache::open(directory.path(), &Expected { teacher: None, ..expected() })?;
    Ok(())
}

#[test]
fn a_capture_goes_on_only_as_it_was_begun() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), RANDOM_SAMPLING)?;
    let before = files(directory.path())?;
    let refused = |change: Change| -> Result<String, LogitsError> {
        let mut header = header(RANDOM_SAMPLING)?;
        change(&mut header);
        Ok(message(Capture::open(directory.path(), header, Shard::default())))
    };
    let cases: [(&str, Change); 8] = [
        ("identity.teacher", |header| header.identity.teacher = "e".repeat(64)),
        ("identity.data", |header| header.identity.data = "e".repeat(64)),
        ("identity.vocab_size", |header| header.identity.vocab_size += 1),
        ("codec", |header| header.codec = LogitsCodec::RandomSampling { draws: 49, sets: 3 }),
        ("temperature", |header| header.temperature = 1.5),
        ("seed", |header| header.seed += 1),
        ("precision", |header| header.precision = Precision::Bf16),
        ("extent", |header| header.extent.rows_per_batch = 2),
    ];
    for (what, change) in cases {
        let message = refused(change)?;
        assert!(message.contains(&format!(" has {what} `")), "{message}");
    }
    assert_eq!(files(directory.path())?, before);
    Ok(())
}

#[test]
fn parts_of_another_cache_are_refused_though_they_are_whole() -> Outcome {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    capture(one.path(), TOP_K)?;
    capture_with(other.path(), CacheHeader { temperature: 2.0, ..header(TOP_K)? }, Shard::default())?;
    let (mine, foreign) = (parts(one.path())?.remove(2), parts(other.path())?.remove(2));
    let name = foreign.file_name().ok_or("no name")?;
    fs::copy(&foreign, one.path().join("parts").join(name))?;
    assert!(message(open(one.path())).contains("holds part `2` twice; hint: "));
    fs::remove_file(mine)?;
    let message = message(open(one.path()));
    assert!(message.contains("belongs to another cache than the cache.json above it"), "{message}");
    Ok(())
}

#[test]
fn losses_that_a_codec_cannot_give_are_refused_with_the_reason() -> Outcome {
    let directory = tempfile::tempdir()?;
    for codec in [RANDOM_SAMPLING, TOP_K] {
        let place = directory.path().join(if codec == TOP_K { "top" } else { "sampled" });
        capture(&place, codec)?;
        let cache = open(&place)?;
        cache.check_pairing(Divergence::ForwardKl {}, 1.0)?;
        let message = message(cache.check_pairing(Divergence::ForwardKl {}, 2.0));
        assert!(message.contains("at temperature `1`, and has nothing about temperature `2`; hint: set "), "{message}");
    }
    let sampled = open(&directory.path().join("sampled"))?;
    for divergence in [
        Divergence::ReverseKl {},
        Divergence::SkewedForwardKl { alpha: 0.0 },
        Divergence::JensenShannon { beta: 0.5, normalised: true },
        Divergence::TotalVariation {},
    ] {
        let message = message(sampled.check_pairing(divergence, 1.0));
        assert!(message.contains("whose draws are unbiased for forward KL alone: "), "{message}");
        open(&directory.path().join("top"))?.check_pairing(divergence, 1.0)?;
    }
    let place = directory.path().join("full");
    capture(&place, FULL)?;
    open(&place)?.check_pairing(Divergence::ForwardKl {}, 2.0)?;
    Ok(())
}

#[test]
fn segments_and_targets_that_are_not_there_are_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    capture(directory.path(), FULL)?;
    let cache = open(directory.path())?;
    let segment = segments().swap_remove(20);
    let absent = SegmentKey { segment: 7, ..segment.key };
    let request = SegmentRequest { key: absent, epoch: 0, targets: &segment.targets };
    let message_of = |request| message(cache.read(&[request]));
    let text = message_of(request);
    assert!(text.starts_with(&format!("the logits cache has no {absent}; hint: ")), "{text}");
    // Longer, shorter, one target more, one fewer, and another one.
    let mut others = vec![segment.targets.clone(); 4];
    others[0].push(false);
    others[1].pop();
    let masked = segments().into_iter().find(|segment| segment.targets.contains(&false)).ok_or("none is masked")?;
    let place = masked.targets.iter().position(|counts| !counts).ok_or("none is masked")?;
    for (index, targets) in others.iter_mut().enumerate().skip(2) {
        *targets = masked.targets.clone();
        targets[place] = true;
        if index == 3 {
            *targets.last_mut().ok_or("empty")? = false;
        }
    }
    for (index, targets) in others.iter().enumerate() {
        let key = if index < 2 { segment.key } else { masked.key };
        let text = message_of(SegmentRequest { key, epoch: 0, targets });
        assert!(text.starts_with(&format!("the logits cache and the data have other targets in {key}; ")), "{text}");
    }
    Ok(())
}

#[test]
fn logits_that_are_not_finite_or_too_few_are_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    let capture = Capture::open(directory.path(), header(RANDOM_SAMPLING)?, Shard::default())?;
    let key = SegmentKey { entry: 0, document: 3, segment: 1 };
    let mut logits = vec![0.5; 2 * VOCAB_SIZE];
    logits[VOCAB_SIZE + 3] = f32::NAN;
    let push =
        |logits: &[f32]| message(capture.part(0).push(&SegmentLogits { key, length: 9, positions: &[2, 5], logits }));
    assert!(
        push(&logits).starts_with(&format!("the teacher's logits are not finite in {key}, at position `5`; hint: "))
    );
    assert!(push(&logits[1..]).starts_with(&format!("{key} comes with `193` logits, must be `194`")));
    Ok(())
}

#[test]
fn what_is_no_cache_is_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    assert!(message(open(directory.path())).contains("holds no cache of logits: it has no cache.json; hint: "));
    let header = directory.path().join("cache.json");
    fs::write(&header, "{}")?;
    assert!(message(open(directory.path())).contains("cache.json` is not readable: missing field `format_version`"));
    fs::write(&header, "{\"format_version\": 2, \"new\": 1}")?;
    assert!(message(open(directory.path())).contains("cache.json` has format_version `2`, must be `1`; hint: "));
    Ok(())
}
