//! Questions and answers, checked against `tables.txt` and by other means than the generator's.

use std::collections::HashSet;

use super::{
    super::{Chat, Split, World},
    SEED,
};
use crate::{Message, Role};

fn chats(split: Split, count: usize) -> Vec<Chat> {
    World::new(SEED).chats(split, count).collect()
}

/// (question, answer)
fn turns(chat: &Chat) -> impl Iterator<Item = (&str, &str)> {
    let spoken: Vec<&Message> = chat.messages.iter().filter(|message| message.role != Role::System).collect();
    spoken.chunks(2).map(|turn| (turn[0].content.as_str(), turn[1].content.as_str())).collect::<Vec<_>>().into_iter()
}

fn last(chat: &Chat) -> (&str, &str) {
    turns(chat).last().unwrap_or_default()
}

fn numbers(text: &str) -> Vec<i64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Who has the thing after the gifts in the question, told from the last gift of it.
fn replay(question: &str) -> Option<String> {
    let (story, thing) = question.strip_suffix(" now?")?.split_once(" Who has the ")?;
    let last = story.split('.').rfind(|sentence| sentence.contains(&format!(" the {thing}")))?;
    let holder = last.split_once(" to ").map(|(_, to)| to).or_else(|| last.trim().split(' ').next())?;
    Some(format!("{holder} {thing}"))
}

/// (a, b) of sums and differences, however they are asked.
fn addends(question: &str, answer: &str) -> Option<(i64, i64)> {
    let (given, answered) = (numbers(question), numbers(answer));
    let result = *answered.last()?;
    let (a, b) = match given[..] {
        [a, b] if question.contains("plus") => (a, b),
        [c, b] if question.contains("minus") => (c - b, b),
        [had] if question.contains("How much does") => (had - result, result),
        _ => return None,
    };
    Some((a.min(b), a.max(b)))
}

#[test]
fn sums_differences_counts_and_holders_are_right() {
    let mut checked = [0; 4];
    for chat in chats(Split::Train, 4000).iter().chain(&chats(Split::Valid, 2000)) {
        for (question, answer) in turns(chat) {
            let (given, result) = (numbers(question), numbers(answer).last().copied());
            let (kind, right) = match given[..] {
                [a, b] if question.contains("plus") => (0, result == Some(a + b)),
                [a, b] if question.contains("minus") => (1, result == Some(a - b)),
                [a, b, c] if question.contains("How many") => (2, result == Some(a + b - c)),
                _ => match replay(question) {
                    Some(holder) => (3, holder.split(' ').next() == answer.split([' ', '.']).next()),
                    None => continue,
                },
            };
            assert!(right, "{question} {answer}");
            checked[kind] += 1;
        }
    }
    assert!(checked.iter().all(|count| *count > 300), "{checked:?}");
}

#[test]
fn facts_in_answers_stand_in_the_tables() {
    let tables = include_str!("../tables.txt");
    let row = |name: &str| tables.lines().find(|line| line.trim().split(" |").next().map(str::trim) == Some(name));
    let word = |text: &str| text.trim_end_matches(['.', ',']).to_string();
    let mut checked = 0;
    for chat in chats(Split::Train, 3000).iter().chain(&chats(Split::Valid, 1000)) {
        for (_, answer) in turns(chat) {
            let words: Vec<String> = answer.split(' ').map(word).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (name, facts) = match words[..] {
                [name, "lives", "in", home] => (name, vec![home]),
                [name, "is", "a" | "an", trade] => (name, vec![trade]),
                [name, "has", _, pet, "called", called] => (name, vec![pet, called]),
                [name, "often", "writes", "to", friend] => (name, vec![friend]),
                [name, "wants", _, thing, "because", ..] => (name, vec![thing]),
                [_, thing, "is", "made", "of", material] => (thing, vec![material]),
                _ => continue,
            };
            let row = row(name).unwrap_or_else(|| panic!("no row for {name}"));
            assert!(facts.iter().all(|fact| row.split('|').any(|cell| cell.trim() == *fact)), "{answer} but {row}");
            checked += 1;
        }
        let (_, answer) = last(chat);
        if let Some((thing, rest)) = answer.split_once(" costs ") {
            let (thing, price) = (thing.split(' ').next_back().unwrap_or_default(), numbers(rest)[0]);
            assert!(tables.contains(&format!("{thing} {price}")), "{answer}");
        }
    }
    assert!(checked > 500, "{checked}");
}

/// A system prompt after which answers are too short to say what they are about.
fn is_brief(prompt: &str) -> bool {
    prompt.contains("brief") || prompt.contains("few words")
}

#[test]
fn held_out_sums_belongings_and_facts_are_not_in_training_chats() {
    let train = chats(Split::Train, 8000);
    let all = |read: &dyn Fn(&str, &str) -> Option<String>| -> HashSet<String> {
        train.iter().flat_map(turns).filter_map(|(question, answer)| read(question, answer)).collect()
    };
    let sums: HashSet<_> = train.iter().flat_map(turns).filter_map(|(q, a)| addends(q, a)).collect();
    let held: HashSet<_> = all(&|question, _| replay(question));
    let asked: HashSet<_> = all(&|question, _| Some(question.to_string()));
    let answered: HashSet<_> = all(&|_, answer| Some(answer.to_string()));
    let mut compared = [0; 3];
    for chat in chats(Split::Valid, 2000) {
        let (question, answer) = last(&chat);
        assert!(!asked.contains(question) || question.starts_with("And "), "{question}");
        if let Some(sum) = addends(question, answer) {
            assert!(!sums.contains(&sum), "{question}");
            compared[0] += 1;
        } else if let Some(holder) = replay(question) {
            assert!(!held.contains(&holder), "{question}");
            compared[1] += 1;
        } else if numbers(question).is_empty() && chat.messages.iter().all(|message| !is_brief(&message.content)) {
            assert!(!answered.contains(answer), "{question} {answer}");
            compared[2] += 1;
        }
    }
    assert!(compared.iter().all(|count| *count > 200), "{compared:?}");
}

#[test]
fn every_kind_of_question_is_held_out_and_its_answer_is_the_last_message() {
    let kinds = [
        "plus",
        "minus",
        "How far",
        "made of",
        "cost",
        "What happens",
        "Why?",
        "Who has",
        "How many",
        "How much does",
        "Where does",
        "living",
        "want, and",
        "animal",
        "Whom does",
        "And ",
    ];
    let valid = chats(Split::Valid, 2000);
    for kind in kinds {
        assert!(valid.iter().any(|chat| last(chat).0.contains(kind)), "{kind}");
    }
    assert!(valid.iter().all(|chat| last(chat).1 == chat.answer && (1..=3).contains(&turns(chat).count())));
}

#[test]
fn answers_are_certain_except_where_the_assistant_may_choose_a_fact() {
    for chat in chats(Split::Train, 2000) {
        let free = turns(&chat).filter(|(question, _)| question.starts_with("Tell me something")).count();
        assert!(chat.nats <= 2.9 * free as f64 && chat.nats >= 0.0, "{chat:?}");
        assert!(!last(&chat).0.starts_with("Tell me something"));
    }
}
