//! Conversations about the world.

use limbeck_random::Stream;

use super::{
    Split,
    facts::Facts,
    pen::Pen,
    questions::{Kind, Question},
    relations::Relation,
};
use crate::{Message, Role};

/// A conversation whose last answer can be checked exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    /// Perhaps a system prompt, then one to three turns of user and assistant.
    pub messages: Vec<Message>,
    /// The last message of the assistant: the only right answer.
    pub answer: String,
    /// -ln of the probability of all the assistant's messages, given the others.
    pub nats: f64,
}

impl Chat {
    /// UTF-8 bytes of what the assistant says.
    pub fn target_bytes(&self) -> usize {
        let targets = self.messages.iter().filter(|message| message.role == Role::Assistant);
        targets.map(|message| message.content.len()).sum()
    }
}

/// System prompts, and whether they ask for brief answers; the first is none.
const PROMPTS: [(u32, Option<&str>, Style); 5] = [
    (6, None, Style::Sentence),
    (2, Some("You know everybody in the valley."), Style::Sentence),
    (2, Some("Answer in a whole sentence."), Style::Sentence),
    (2, Some("Answer in as few words as you can."), Style::Brief),
    (1, Some("Be brief."), Style::Brief),
];

/// How the assistant answers.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Sentence,
    Brief,
}

/// Draws a conversation.
pub(super) fn converse(facts: &Facts, split: Split, random: &mut Stream) -> Chat {
    let mut pen = Pen::new(random);
    let prompt = pen.choose(&PROMPTS.map(|(weight, ..)| weight));
    let (_, prompt, style) = PROMPTS[prompt];
    let mut chat = Chat { messages: Vec::new(), answer: String::new(), nats: 0.0 };
    chat.messages.extend(prompt.map(|prompt| Message::new(Role::System, prompt)));

    let turns = 1 + pen.choose(&[5, 3, 2]);
    let mut subject = None;
    for turn in 1..=turns {
        let split = if turn == turns { split } else { Split::Train };
        if turn < turns && style == Style::Sentence && pen.choose(&[4, 1]) == 1 {
            subject = chat.tell_something(facts, &mut pen).or(subject);
            continue;
        }
        let followed = subject.filter(|_| pen.choose(&[1, 1]) == 0);
        let question = followed.and_then(|(person, last)| follow_up(facts, &mut pen, split, person, last));
        let question = question.unwrap_or_else(|| fresh(facts, &mut pen, split));
        subject = question.subject;
        chat.say(&question, style);
    }
    chat
}

impl Chat {
    fn say(&mut self, question: &Question, style: Style) {
        let answer = if style == Style::Brief { &question.brief } else { &question.answer };
        self.messages.push(Message::new(Role::User, question.ask.as_str()));
        self.messages.push(Message::new(Role::Assistant, answer.as_str()));
        self.answer.clone_from(answer);
    }

    /// The one turn in which the assistant is free: which fact it tells. Never the last turn, and never a held-out fact.
    fn tell_something(&mut self, facts: &Facts, pen: &mut Pen) -> Option<(usize, Relation)> {
        let person = pen.rank(facts.people.len(), 0);
        let told = Relation::ALL.map(|(weight, relation)| {
            let question = Question::of_person(facts, person, relation);
            (if question.fits(Split::Train) { weight } else { 0 }, (relation, question))
        });
        if told.iter().all(|(weight, _)| *weight == 0) {
            return None;
        }
        let ask = format!("Tell me something about {}.", facts.people[person].name);
        self.messages.push(Message::new(Role::User, ask));
        let before = pen.nats();
        let (relation, question) = pen.pick(&told);
        self.nats += pen.nats() - before;
        self.messages.push(Message::new(Role::Assistant, question.answer.as_str()));
        Some((person, *relation))
    }
}

/// A question of a kind drawn first, so that both splits ask the kinds equally often.
fn fresh(facts: &Facts, pen: &mut Pen, split: Split) -> Question {
    let kind = *pen.pick(&Kind::ALL);
    loop {
        let question = kind.draw(facts, pen);
        if question.fits(split) {
            return question;
        }
    }
}

/// Another question about the same person, who is not named again; `None` if the split has none.
fn follow_up(facts: &Facts, pen: &mut Pen, split: Split, person: usize, last: Relation) -> Option<Question> {
    let options = Relation::ALL.map(|(weight, relation)| {
        let question = Question::of_person(facts, person, relation).following(facts, person, relation);
        (if relation != last && question.fits(split) { weight } else { 0 }, question)
    });
    options.iter().any(|(weight, _)| *weight > 0).then(|| pen.pick(&options).clone())
}
