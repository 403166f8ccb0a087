use std::cell::RefCell;
use std::fs;

use tempfile::TempDir;

use super::*;

fn tokenizer() -> Tokenizer {
    let text = "one two three, one two three! ".repeat(2);
    Tokenizer::train([Ok(text)].into_iter(), 265).expect("trained")
}

fn entry(path: &Path, kind: DataKind) -> DataEntry {
    let path = path.display().to_string();
    DataEntry { path, kind, column: None, prompt_column: None, completion_column: None, weight: 1.0 }
}

struct Place {
    directory: TempDir,
    tokenizer: Tokenizer,
}

impl Place {
    fn new() -> Place {
        Place { directory: TempDir::new().expect("directory"), tokenizer: tokenizer() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("written");
        path
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// The shard, and what was done to get it.
    fn open(&self, file: &Path, kind: DataKind) -> (Shard, ProgressState) {
        let states = RefCell::new(Vec::new());
        let progress = |progress: Progress<'_>| states.borrow_mut().push(progress.state);
        let shard = open(file, &entry(file, kind), &self.tokenizer, &self.cache(), &progress).expect("opened");
        let last = *states.borrow().last().expect("told");
        (shard, last)
    }

    fn shard_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.cache()).expect("cache").map(|file| file.expect("file").path()).collect();
        files.sort();
        files
    }
}

fn ids(shard: &Shard, document: u64) -> Vec<u32> {
    shard.range(document).map(|place| shard.token(place)).collect()
}

#[test]
fn a_document_stands_between_end_of_text_tokens() {
    let place = Place::new();
    let texts = ["one two", "größer", "three"];
    let lines: String = texts.iter().map(|text| format!("{{\"text\":\"{text}\"}}\n")).collect();
    let (shard, state) = place.open(&place.file("x.jsonl", &lines), DataKind::Documents);
    assert_eq!((state, shard.documents()), (ProgressState::Written, 3));
    for (document, text) in (0..).zip(texts) {
        let expected = [vec![0], place.tokenizer.encode(text).expect("encoded"), vec![0]].concat();
        assert_eq!(ids(&shard, document), expected);
        assert_eq!(shard.scored_bytes(document), text.len() as u64);
        assert!(shard.range(document).all(|place| shard.is_target(place)));
    }
    assert_eq!(shard.scored_bytes(1), 8);
}

#[test]
fn a_chat_is_its_rendering_and_only_the_assistant_is_scored() {
    let place = Place::new();
    let line = |content: &str| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"one?\"}},{{\"role\":\"assistant\",\"content\":\"{content}\"}}]}}\n"
        )
    };
    // Enough conversations for the bits to cross words.
    let contents: Vec<String> = (0..13).map(|count| "two é ".repeat(count + 1)).collect();
    let lines: String = contents.iter().map(|content| line(content)).collect();
    let (shard, _) = place.open(&place.file("x.jsonl", &lines), DataKind::Chats);
    for (document, content) in (0..).zip(&contents) {
        let messages = [
            crate::Message::new(crate::Role::User, "one?"),
            crate::Message::new(crate::Role::Assistant, content.as_str()),
        ];
        let (expected, targets) = place.tokenizer.encode_chat(&messages).expect("encoded");
        assert_eq!(ids(&shard, document), expected);
        assert_eq!(shard.range(document).map(|place| shard.is_target(place)).collect::<Vec<_>>(), targets);
        assert_eq!(shard.scored_bytes(document), content.len() as u64);
    }
}

#[test]
fn a_shard_is_made_once_and_reused_wherever_the_file_lies() {
    let place = Place::new();
    let (first, state) = place.open(&place.file("x.txt", "one two three"), DataKind::Documents);
    assert_eq!(state, ProgressState::Written);
    let (second, state) = place.open(&place.file("y.txt", "one two three"), DataKind::Documents);
    assert_eq!((state, first.key()), (ProgressState::Reused, second.key()));
    assert_eq!(place.shard_files().len(), 1, "no temporary file is left");
    let (_, state) = place.open(&place.file("x.txt", "one two threE"), DataKind::Documents);
    assert_eq!(state, ProgressState::Written);
}

#[test]
fn a_damaged_shard_is_made_again() {
    let place = Place::new();
    let file = place.file("x.txt", "one two three");
    let (whole, _) = place.open(&file, DataKind::Documents);
    let expected = ids(&whole, 0);
    let path = place.shard_files().remove(0);
    let bytes = fs::read(&path).expect("read");
    let mut flipped = bytes.clone();
    flipped[1] ^= 4;
    for damaged in [&bytes[..bytes.len() - 1], &bytes[..40], &[], &flipped] {
        // Replaced, not cut short under the mapping that is still open.
        fs::remove_file(&path).expect("removed");
        fs::write(&path, damaged).expect("written");
        let (shard, state) = place.open(&file, DataKind::Documents);
        assert_eq!((state, ids(&shard, 0)), (ProgressState::Written, expected.clone()));
    }
    assert_eq!(fs::read(&path).expect("read"), bytes);
    assert_eq!(place.open(&file, DataKind::Documents).1, ProgressState::Reused);
}

#[test]
fn tokens_beyond_two_bytes_are_kept() {
    let mut writer = format::ShardWriter::new(Vec::new(), format::token_width(65_537));
    let long = [65_536, 7, 3];
    writer.push(&long, &[], 5).expect("written");
    let key = blake3::hash(b"key");
    let bytes = writer.finish(key, false, Default::default()).expect("written");
    let directory = TempDir::new().expect("directory");
    let path = directory.path().join("x.tokens");
    fs::write(&path, bytes).expect("written");
    let shard = Shard::open(&path, key).expect("opened").expect("whole");
    assert_eq!(ids(&shard, 0), long);
    assert!(Shard::open(&path, blake3::hash(b"other")).expect("opened").is_none());
    assert_eq!((format::token_width(65_536), format::token_width(65_537)), (2, 4));
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let shards = [1, 3].map(|threads| {
        let place = Place::new();
        let lines: String = (0..501).map(|row| format!("{{\"text\":\"one {row} two\"}}\n")).collect();
        let file = place.file("x.jsonl", &lines);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        pool.install(|| place.open(&file, DataKind::Documents));
        fs::read(place.shard_files().remove(0)).expect("read")
    });
    assert_eq!(shards[0], shards[1]);
}

#[test]
fn a_refused_row_leaves_nothing_in_the_cache() {
    let place = Place::new();
    let file = place.file("x.jsonl", "{\"text\":\"one\"}\n{\"text\":1}\n");
    let error = open(&file, &entry(&file, DataKind::Documents), &place.tokenizer, &place.cache(), &|_| {}).err();
    assert!(error.expect("refused").to_string().contains("row `2`"));
    assert!(place.shard_files().is_empty());
}
