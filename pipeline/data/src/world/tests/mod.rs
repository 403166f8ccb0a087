//! What the documentation of the world claims.

mod accounts;
mod answers;
mod choices;
mod files;
mod floor;

use super::{Document, Split, World};

const SEED: u64 = 3;

fn stories(split: Split, count: usize) -> Vec<Document> {
    World::new(SEED).documents(split, count).collect()
}

#[test]
fn the_same_seed_tells_the_same_and_another_seed_does_not() {
    let again: Vec<_> = World::new(SEED).documents(Split::Train, 5).collect();
    assert_eq!(stories(Split::Train, 9)[..5], again);
    assert!(World::new(SEED + 1).documents(Split::Train, 5).ne(again));
    assert!(World::new(SEED).chats(Split::Valid, 5).eq(World::new(SEED).chats(Split::Valid, 7).take(5)));
}

#[test]
fn no_held_out_document_is_in_training_whatever_the_seed() {
    let train: std::collections::HashSet<_> = (0..3)
        .flat_map(|seed| World::new(seed).documents(Split::Train, 2000).collect::<Vec<_>>())
        .map(|d| d.text)
        .collect();
    assert!(stories(Split::Valid, 300).iter().all(|held_out| !train.contains(&held_out.text)));
}

#[test]
fn stories_have_the_documented_length() {
    for story in stories(Split::Train, 2000) {
        let sentences = story.text.matches(". ").count() + 1;
        assert!((200..1000).contains(&story.text.len()) && (5..=20).contains(&sentences), "{}", story.text);
    }
}
